"""Move bytes between URLs and paths: a pure plan, then its transfers; one module a scheme."""
