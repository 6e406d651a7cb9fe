"""Workflow engines, one module each, behind `weft.ports.Engine`."""
