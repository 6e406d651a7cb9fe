"""The tables of ``weft.toml``, one module for each of its themes. ``weft.config.Settings`` holds them all."""
