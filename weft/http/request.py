"""What a handler is told about a request besides its parameters and its body. Knows no web framework.

A handler that declares a parameter named ``request`` receives one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.model import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks, and how they reached us."""

    principal: Principal
    #: Scheme and host for absolute links, without a slash at its end: ``https://weft.example.org``.
    base_url: str = ""
    #: Header names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: ``X-Request-Id``; stands in the log lines of this request.
    id: str = ""
