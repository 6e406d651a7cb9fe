"""The guard refuses every hostile form before a connection is made; nothing here opens a socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import pytest
import urllib3
from urllib3.exceptions import ConnectTimeoutError

from weft.errors import Forbidden, InvalidRequest, StagingFailed, Unavailable, WeftError
from weft.sections.transfer import FetchSettings
from weft.staging.addresses import is_public, place
from weft.staging.guard import GuardedClient

PUBLIC = "93.184.216.34"


class Recorder(GuardedClient):
    """A client whose connections all time out; remembers where they would have gone."""

    def __init__(self, settings: FetchSettings, answers: dict[str, Sequence[Sequence[str]]]) -> None:
        self.connected: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self._answers = {name: iter(turns) for name, turns in answers.items()}
        super().__init__(settings, resolver=self._look_up)

    def _look_up(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return next(self._answers[host])

    def _sent_to(self, address, method, where, headers, body):
        self.connected.append((address, where.netloc))
        raise ConnectTimeoutError(urllib3.HTTPConnectionPool(address), "")


def client(answers: dict[str, Sequence[Sequence[str]]] | None = None, **settings: object) -> Recorder:
    return Recorder(FetchSettings(**settings), answers or {})  # type: ignore[arg-type]


HOSTILE_ADDRESSES = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::127.0.0.1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::", "2002:7f00:1::1",
    "2001:0:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:5601:5601", "2001:db8::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "ff02::1", "100::1",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_ADDRESSES)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_passes(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", HOSTILE_ADDRESSES)
def test_a_name_with_one_bad_address_among_good_ones_is_never_connected(text: str) -> None:
    guard = client({"data.example": [[PUBLIC, text]]})
    with pytest.raises(Forbidden):
        guard.get_bytes("https://data.example/x", 10)
    assert guard.connected == []


HOSTILE_HOSTS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1.",
    "localhost", "localhost.", "LOCALHOST", "a.localhost", "0", "0.0.0.0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "169.254.169.254", "2852039166", "0xa9fea9fe",
    "0251.0376.0251.0376", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "192.0.0.192", "224.0.0.1",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1",
    "10.0.0.1:8443", "0300.0250.1.1",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTILE_HOSTS)
def test_a_hostile_host_is_refused_without_a_look_at_the_network(host: str) -> None:
    guard = client()
    with pytest.raises(Forbidden) as caught:
        guard.check(f"https://{host}/latest/meta-data")
    assert caught.value.remedy
    with pytest.raises(Forbidden):
        guard.get_bytes(f"https://{host}/latest/meta-data", 10)
    assert (guard.asked, guard.connected) == ([], [])


@pytest.mark.parametrize(
    "url",
    [
        "", "data.example/x", "//data.example/x", "ftp://data.example/x", "file:///etc/passwd", "gopher://data.example",
        "https://", "https:///x", "https:/x", "https://user@data.example/", "https://user:pw@data.example/",
        "https://data.example:99999/", "https://data.example:x/", "https://data.example\\@evil.example/",
        "https://a b/", "https://data.example/a b", "https://data.example/\r\nHost: x", "https://da\tta.example/",
        "https://data.example/\0", "https://256.1.1.1/", "https://1.2.3.4.5/", "https://[::1/", "https://[x]/",
        "https://a..b/", "https://-/%", "https://a_b%00c/", "https://data.example%2f@x/", "https://exa$mple/",
        "https://.data.example/", "https://data.example:-1/", f"https://{'a' * 64}.example/", "https://\ud800.example/",
    ],
)  # fmt: skip
def test_a_malformed_url_is_the_callers_mistake(url: str) -> None:
    with pytest.raises(InvalidRequest):
        client().check(url)


def test_a_fragment_cannot_move_the_host() -> None:
    assert place("https://data.example#@127.0.0.1/../").host == "data.example"
    assert place("https://data.example?@127.0.0.1/../").host == "data.example"


def test_a_url_is_never_shown_with_its_password_or_query() -> None:
    with pytest.raises(InvalidRequest) as caught:
        client().check("https://user:hunter2@data.example/x?token=hunter3")
    assert "hunter" not in str(caught.value)


def test_plain_http_is_for_listed_hosts_only() -> None:
    with pytest.raises(Forbidden, match="plain http"):
        client().check("http://data.example/")
    client(allow_hosts=("data.example",)).check("http://data.example:8080/")
    client(allow_hosts=("data.example:8080",)).check("http://DATA.example.:8080/")
    with pytest.raises(Forbidden):
        client(allow_hosts=("data.example:8080",)).check("http://data.example/")


def test_the_strict_profile_knows_listed_hosts_only() -> None:
    guard = client(allow_hosts=("data.example",), only_listed=True)
    guard.check("https://data.example/")
    with pytest.raises(Forbidden, match="not listed"):
        guard.check("https://other.example/")


def test_a_listed_address_matches_in_whatever_form_it_is_written() -> None:
    guard = client(allow_hosts=("127.0.0.1", "[::1]:8080"))
    guard.check("http://2130706433/")
    guard.check("http://[0::1]:8080/")
    with pytest.raises(Forbidden):
        guard.check("http://[::1]/")


def test_a_listed_name_may_be_private_but_never_a_metadata_service() -> None:
    guard = client({"data.lan": [["10.1.2.3"], ["169.254.169.254"]]}, allow_hosts=("data.lan",))
    with pytest.raises(Unavailable):
        guard.get_bytes("http://data.lan/", 10)
    with pytest.raises(Forbidden):
        guard.get_bytes("http://data.lan/", 10)
    assert guard.connected == [("10.1.2.3", "data.lan")]


def test_a_name_is_resolved_once_and_connected_where_it_was_checked() -> None:
    guard = client({"data.example": [[PUBLIC], ["127.0.0.1"]]})
    with pytest.raises(Unavailable):
        guard.get_bytes("https://data.example/x", 10)
    assert guard.asked == ["data.example"]
    assert guard.connected == [(PUBLIC, "data.example")]


def test_a_name_that_resolves_differently_the_second_time_is_refused_then() -> None:
    guard = client({"data.example": [[PUBLIC], ["127.0.0.1"]]})
    with pytest.raises(Unavailable):
        guard.get_bytes("https://data.example/x", 10)
    with pytest.raises(Forbidden):
        guard.get_bytes("https://data.example/x", 10)


def test_every_address_is_tried_in_turn() -> None:
    guard = client({"data.example": [[PUBLIC, "8.8.8.8"]]})
    with pytest.raises(Unavailable):
        guard.get_bytes("https://data.example:8443/x", 10)
    assert guard.connected == [(PUBLIC, "data.example:8443"), ("8.8.8.8", "data.example:8443")]


def test_a_name_that_does_not_exist_is_said(tmp_path: Path) -> None:
    def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(StagingFailed, match=r"nobody\.example cannot be resolved"):
        GuardedClient(FetchSettings(), resolver=nobody).download("https://nobody.example/x", tmp_path / "x")
    assert [*tmp_path.iterdir()] == []


def test_every_refusal_is_one_of_wefts_own_errors() -> None:
    for host in HOSTILE_HOSTS:
        with pytest.raises(WeftError):
            client().check(f"http://{host}")
