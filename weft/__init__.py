"""weft: a GA4GH WES and TES execution backend."""

from importlib.metadata import version

__version__ = version("weft")
