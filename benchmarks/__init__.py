"""Benchmarks: what scanfold costs, beside the peers that do the same work.

``python -m benchmarks`` runs every case and writes its tables into README.md.
"""
