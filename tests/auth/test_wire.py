"""What stands between the port and the API: TLS, slow clients, other sites' pages, and which paths are open."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.api.conftest import assert_error
from tests.auth.conftest import LoginSite, OpenSite, basic, bearer
from tests.auth.provider import AUDIENCE, Provider
from tests.live import LiveWeft
from weft.checkup import login_lines
from weft.config import Settings
from weft.wiring import refuse_open_door

START = Callable[..., LiveWeft]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[START]:
    """Start real servers; all are stopped at the end."""
    started: list[LiveWeft] = []

    def start(*flags: str, **env: str) -> LiveWeft:
        settings = {f"WEFT_{name}": value for name, value in env.items()}
        server = LiveWeft(tmp_path / "data", flags=flags, command="api", env=settings).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.end()


# -- TLS --------------------------------------------------------------------------------------------------------------


class Authority:
    """Signs certificates for a test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = self._sign(self.name, self.key.public_key(), authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[str, str]:
        """Return the files of a new certificate for loopback and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), authority=False)
        files = (self.folder / f"{name}.crt", self.folder / f"{name}.key")
        files[0].write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
        return str(files[0]), str(files[1])

    def _sign(self, subject: x509.Name, key: Any, *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self.key, hashes.SHA256())


def test_a_port_with_a_certificate_speaks_tls_and_nothing_else(start: START, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "site")
    cert, key = authority.issue("server")
    server = start("--tls-cert", cert, "--tls-key", key)
    assert server.url.startswith("https://127.0.0.1:")
    answer = requests.get(f"{server.tes}/service-info", verify=str(authority.file), timeout=10)
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"{server.tes}/service-info".replace("https", "http"), timeout=10)
    with socket.socket(socket.AF_UNIX) as engines:  # their socket speaks plainly: it is no network
        engines.connect(str(server.data / "engine" / "tes.sock"))
        engines.sendall(b"GET /ga4gh/tes/v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert engines.recv(100).startswith(b"HTTP/1.1 401 ")


def test_mutual_tls_hears_only_clients_with_a_certificate_of_the_authority(start: START, tmp_path: Path) -> None:
    site, people, strangers = (Authority(tmp_path, name) for name in ("site", "people", "strangers"))
    cert, key = site.issue("server")
    server = start("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", str(people.file))

    def ask(client: tuple[str, str] | None) -> int:
        return requests.get(f"{server.tes}/tasks", verify=str(site.file), cert=client, timeout=10).status_code

    assert ask(people.issue("ada")) == 200
    for nobody in (None, strangers.issue("eve")):
        with pytest.raises(requests.exceptions.ConnectionError):
            ask(nobody)


# -- slow clients -----------------------------------------------------------------------------------------------------


def _closed(client: socket.socket) -> bytes:
    """Return what the server says until it hangs up."""
    client.settimeout(10)
    said = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            said += piece
    client.close()
    return said


def test_who_does_not_come_to_the_point_is_hung_up_on(start: START) -> None:
    server = start(HEADER_SECONDS="0.4", BODY_SECONDS="0.4")
    host, port = server.url.removeprefix("http://").split(":")

    def connect(first: bytes) -> socket.socket:
        client = socket.create_connection((host, int(port)))
        client.sendall(first)
        return client

    head = b"POST /ga4gh/tes/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    silent, half, again = connect(b""), connect(head), connect(whole)
    endless, body = connect(b"GET / HTTP/1.1\r\n"), connect(head + b"Content-Length: 100\r\n\r\n{")
    with suppress(OSError):
        for _ in range(40):
            endless.sendall(b"X-A: " + b"a" * 8000 + b"\r\n")
    assert _closed(silent) == b""
    assert _closed(half) == b""
    assert _closed(endless) == b""
    assert again.recv(65536).startswith(b"HTTP/1.1 200 ")
    again.sendall(b"GET /heal")
    assert _closed(again) == b""
    said = _closed(body)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"did not come in time" in said
    assert requests.get(f"{server.url}/healthz", timeout=10).status_code == 200
    assert "Traceback" not in server.log()


# -- other sites' pages -----------------------------------------------------------------------------------------------

PORTAL = "https://portal.example.org"


@pytest.fixture
def site(open_site: OpenSite) -> LoginSite:
    return open_site(settings={"cors_origins": (PORTAL,)}, full=True)


def test_every_page_may_read_service_info_and_nothing_else(site: LoginSite) -> None:
    for api in ("tes", "wes"):
        answer = site.client.get(f"/ga4gh/{api}/v1/service-info", headers={"Origin": "https://anybody.example"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    for path in ("/ga4gh/tes/v1/tasks", "/ga4gh/wes/v1/runs", "/healthz"):
        answer = site.client.get(path, headers={"Origin": "https://anybody.example"})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_page_of_a_listed_origin_may_use_the_api_with_a_token_of_its_own(site: LoginSite) -> None:
    asked = {
        "Origin": PORTAL,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = site.client.options("/ga4gh/tes/v1/tasks", headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PORTAL
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers
    token = site.local_token("ada")
    answer = site.client.post("/ga4gh/tes/v1/tasks", headers={"Origin": PORTAL, **bearer(token)}, json={})
    assert answer.status_code == 400
    assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (PORTAL, "origin")
    assert_error(site.client.post("/ga4gh/tes/v1/tasks", headers={"Origin": PORTAL}, json={}), 401)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{PORTAL}.evil.example", "http://portal.example.org"]
)
def test_no_other_page_is_let_in(site: LoginSite, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = site.client.options("/ga4gh/tes/v1/tasks", headers=headers)
    assert answer.status_code in (401, 405)
    assert "access-control-allow-origin" not in answer.headers
    posted = site.client.post(
        "/ga4gh/tes/v1/tasks", headers={"Origin": origin, **bearer(site.local_token("ada"))}, json={}
    )
    assert_error(posted, 403, "another site")


# -- what is open -----------------------------------------------------------------------------------------------------


def test_only_what_tells_nothing_of_anybody_is_open(site: LoginSite) -> None:
    for path in ("/", "/healthz", "/readyz", "/ga4gh/tes/v1/service-info", "/ga4gh/wes/v1/service-info",
                 "/ga4gh/tes/v1/openapi.json", "/ga4gh/tes/v1/ui/"):  # fmt: skip
        for headers in ({}, bearer("nonsense"), basic("ada", "nonsense")):
            assert site.client.get(path, headers=headers).status_code == 200, path
    for path in ("/ga4gh/tes/v1/tasks", "/ga4gh/tes/v1/tasks/service-info", "/ga4gh/wes/v1/runs", "/v1/tasks", "/nope",
                 "/ga4gh/wes/v1/runs/x/stdout", "/ga4gh/wes/v1/runs/x/outputs/a/service-info",
                 "/ga4gh/tes/v1/ui/../tasks"):  # fmt: skip
        assert_error(site.client.get(path), 401)
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        assert site.client.request(method, "/ga4gh/tes/v1/service-info").status_code in (401, 405)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "let anybody run programs"),
        ({"tls_key": "/k"}, "need tls_cert"),
        ({"auth": {"login": "oidc"}}, "needs [[auth.issuers]]"),
        ({"auth": {"login": "off", "issuers": [{"issuer": "https://i", "audience": ["a"]}]}}, "contradicts"),
        ({"auth": {"issuers": [{"issuer": "https://i"}]}}, "name the audience"),
        ({"auth": {"issuers": [{"issuer": "https://i", "audience": ["a"]}] * 2}}, "same name"),
        ({"auth": {"issuers": [{"issuer": "https://i|x", "audience": ["a"]}]}}, "pattern"),
        ({"auth": {"issuers": [{"issuer": "https://i", "audience": ["a"], "algorithms": ["HS256"]}]}}, "RS256"),
        ({"auth": {"issuers": [{"issuer": "https://i", "audience": ["a"], "opaque": "introspection"}]}}, "client_id"),
        ({"auth": {"visa_issuers": [{"issuer": "i", "jku": "https://i/jwks", "sources": []}]}}, "sources"),
    ],
    ids=str,
)
def test_a_login_that_is_not_whole_does_not_start(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        refuse_open_door(Settings(**settings))
    assert words in str(raised.value)


def test_a_login_opens_other_addresses_than_loopback() -> None:
    refuse_open_door(Settings(host="0.0.0.0", auth={"login": "tokens"}))


def test_check_says_who_must_log_in_and_whether_the_issuers_are_there(provider: Provider) -> None:
    def lines(**changes: Any) -> list[str]:
        return list(login_lines(Settings.model_validate(changes)))

    (off,) = lines()
    assert off.startswith("[note] login: off")
    issuer = {"issuers": [{"issuer": provider.issuer, "audience": [AUDIENCE]}]}
    hosts = {"allow_hosts": [provider.host]}
    assert lines(auth=issuer, fetch=hosts) == [
        "[ok]   login: oidc",
        f"[ok]   issuer {provider.issuer}: its keys are there",
    ]
    assert "not a public one" in lines(auth=issuer)[1]
    provider.down = True
    assert lines(auth=issuer, fetch=hosts)[1].startswith(f"[no]   issuer {provider.issuer}: ")
    assert "unencrypted" in lines(auth={"login": "tokens"}, host="0.0.0.0")[-1]
    assert "unencrypted" not in lines(auth={"login": "tokens"}, host="0.0.0.0", base_url="https://weft.example.org")[-1]
