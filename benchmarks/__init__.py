"""Speed and memory of stepout beside its peers, in the same run: ``python -m benchmarks``."""
