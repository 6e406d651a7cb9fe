"""Commands of the ``weft`` program that speak to a server: ``weft task`` and ``weft run``."""
