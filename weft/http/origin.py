"""Keep other web sites from using a visitor's browser to reach a weft that listens on that visitor's machine.

A page may send forms to ``http://127.0.0.1:8080`` without being allowed to read the answer (cross-site request
forgery), or give its own name the address 127.0.0.1 and then read it too (DNS rebinding). While no login stands in
the way, both are stopped by the ``Origin`` and ``Host`` headers, which a page cannot choose.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from weft.config import Settings
from weft.errors import Forbidden, InvalidRequest

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]*\])(:[0-9]{0,5})?")


def check_origin(method: str, headers: Mapping[str, str], settings: Settings) -> None:
    """Refuse what a browser sends on behalf of another site.

    :raises InvalidRequest: the ``Host`` header is not one.
    :raises Forbidden: says which header and what to set.
    """
    host = headers.get("host", "")
    _check_host(host, settings.host, settings.base_url)
    origin = None if method in _READING else headers.get("origin")
    if origin is None or origin in settings.cors_origins:
        return
    if origin.partition("://")[2] not in {host, *_netlocs(settings.base_url)}:
        raise Forbidden(
            "a page of another site may not send requests here",
            remedy="set base_url to the site's URL, or list the page's origin in cors_origins",
        )


@lru_cache(maxsize=256)
def _check_host(host: str, ours: str, base_url: str | None) -> None:
    match = _HOST.fullmatch(host)
    if match is None:
        raise InvalidRequest("the Host header is not the name of a host", field="Host")
    if _is_loopback(ours) and host not in _netlocs(base_url) and not _cannot_be_rebound(match[1]):
        raise Forbidden(f"the Host header names {host[:100]!r}, which is not this server", remedy="set base_url to it")


def _netlocs(base_url: str | None) -> tuple[str, ...]:
    return (urlsplit(base_url).netloc,) if base_url else ()


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _cannot_be_rebound(name: str) -> bool:
    """Tell whether no stranger can point this name at an address: an address, or a name without a domain."""
    return _is_address(name.strip("[]")) or "." not in name.rstrip(".") or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
