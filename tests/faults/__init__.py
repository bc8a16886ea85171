"""Runs that are killed, starved, cut off and lied to: six jobs, each through every trial."""
