"""What a handler is told about a request besides its parameters and its body. Knows no web framework.

A handler that declares a parameter named ``request`` receives one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from weft.model import Principal


class Headers(Mapping[str, str]):
    """The headers of a request by their names in lower case, the last one of each; read when somebody asks for them."""

    __slots__ = ("_raw",)

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep them as ASGI gives them."""
        self._raw = dict(pairs)

    def __getitem__(self, name: str) -> str:
        return self._raw[name.encode("latin-1")].decode("latin-1")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header, or ``default`` where there is none."""
        value = self._raw.get(name.encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)


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
