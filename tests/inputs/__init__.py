"""Bad input: fuzzed and hostile files, configurations and words, and data with everything wrong in it."""
