"""Which hosts and addresses may be fetched from on a stranger's word. Pure: no name is resolved here.

An address that carries an IPv4 address inside (mapped, compatible, 6to4, Teredo, NAT64) is judged by that one; what is
left must be global, and some ranges are refused outright because cloud hosts answer there with credentials.
``tests/unit/test_guard.py`` holds the table of hostile forms.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from weft.errors import Forbidden, InvalidRequest
from weft.staging.urls import scheme_of, shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443, "ftp": 21}
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.ASCII)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_REMEDY = "use a public https URL, or ask the site to list the host in fetch.allow_hosts"

#: Where cloud hosts answer with credentials: refused even for a listed name, if not listed as an address.
_METADATA = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "168.63.129.16/32")))
_REFUSED = (
    *_METADATA,
    *map(ipaddress.ip_network, ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10")),
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a URL leads: ``host`` in lower case, without a trailing dot, an address in canonical form."""

    scheme: str
    host: str
    port: int
    #: The path with its query, as it is sent.
    request: str
    address: Address | None = None

    @property
    def default_port(self) -> bool:
        """Whether the port need not be named."""
        return self.port == _PORTS[self.scheme]

    @property
    def netloc(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if isinstance(self.address, ipaddress.IPv6Address) else self.host
        return host if self.default_port else f"{host}:{self.port}"

    def listed(self, hosts: Collection[str]) -> bool:
        """Tell whether ``host`` or ``host:port`` is among ``hosts``."""
        names = {name.lower().rstrip(".") for name in hosts}
        bracketed = f"[{self.host}]" if isinstance(self.address, ipaddress.IPv6Address) else self.host
        return not names.isdisjoint({self.host, bracketed, f"{bracketed}:{self.port}"})


def place(url: str, schemes: Collection[str] = ("http", "https")) -> Place:
    """Read a URL of one of these schemes.

    :raises InvalidRequest: another scheme, malformed, white space or control characters, or credentials in it.
    """
    scheme = scheme_of(url)
    if scheme not in schemes:
        raise InvalidRequest(f"{shown(url)!r} is not an {' or '.join(schemes)} URL", field="url")
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in url):
        raise InvalidRequest(f"{shown(url)!r} holds white space or a backslash", field="url", remedy="escape it with %")
    try:
        parts = urlsplit(url)
        port = parts.port if parts.port is not None else _PORTS[scheme]
        host = _host(parts.hostname or "")
        address = _literal(host)
    except ValueError as error:
        raise InvalidRequest(f"{shown(url)!r} is malformed: {error}", field="url") from error
    path = parts.path or "/"
    return Place(
        scheme=scheme,
        host=host if address is None else str(address),
        port=port,
        request=f"{path}?{parts.query}" if parts.query else path,
        address=address,
    )


def check_place(where: Place, allow_hosts: Collection[str], *, only_listed: bool) -> None:
    """Refuse what can be refused without resolving the name.

    :raises Forbidden: not listed, plain http, or an address that is not public.
    """
    if where.listed(allow_hosts):
        return
    if only_listed:
        raise Forbidden(f"host {where.host} is not listed here", field="url", remedy=_REMEDY)
    if where.host == "localhost" or where.host.endswith(".localhost"):
        raise Forbidden(f"host {where.host} is this machine itself", field="url", remedy=_REMEDY)
    if where.address is not None:
        check_address(where, where.address, allow_hosts)
    if where.scheme != "https":
        raise Forbidden(f"plain {where.scheme} to {where.host} is not allowed here", field="url", remedy=_REMEDY)


def check_address(where: Place, address: Address, allow_hosts: Collection[str]) -> None:
    """Refuse an address that ``where.host`` resolved to.

    :raises Forbidden: it is not public and the host is not listed; or it is a metadata service's.
    """
    if where.listed(allow_hosts):
        refused = where.address is None and any(inner in net for inner in unwrapped(address) for net in _METADATA)
    else:
        refused = not is_public(address)
    if refused:
        raise Forbidden(f"host {where.host} has the address {address}, not a public one", field="url", remedy=_REMEDY)


def is_public(address: Address) -> bool:
    """Tell whether an address, and each one that it carries inside, is a public unicast address."""
    return all(_is_public(inner) for inner in unwrapped(address))


def unwrapped(address: Address) -> tuple[Address, ...]:
    """Return the IPv4 addresses that an IPv6 address carries, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return (ipaddress.IPv6Address(int(address)),)  # without a scope id


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not any(address in network for network in _REFUSED)
    )


def _host(text: str) -> str:
    """Normalise a host name: IDNA with its compatibility mapping, lower case, no trailing dot."""
    if ":" in text:
        return text
    host = text.encode("idna").decode("ascii") if not text.isascii() else text
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError("not a host name")
    return host


def _literal(host: str) -> Address | None:
    """Read an address in any form that ``inet_aton(3)`` reads: dotted, decimal, octal, hexadecimal, short."""
    if ":" in host:
        return ipaddress.IPv6Address(host)
    if not _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        raise ValueError("not an IPv4 address") from None
