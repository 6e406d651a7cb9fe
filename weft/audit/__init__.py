"""The append-only record of who did what: chained by hashes, sealed by signatures, checked by ``weft audit verify``."""
