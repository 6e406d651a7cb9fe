"""Benchmarks: each figure as a ratio to a peer or to a physical limit, both taken in the same run."""
