"""Callbacks: weft tells a URL that a job moved, signed and at least once. See ``docs/callbacks.md``."""
