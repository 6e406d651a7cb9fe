"""Executors: backends that run jobs, each behind `weft.ports.Executor`."""
