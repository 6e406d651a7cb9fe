"""ftp:// on a real server."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.builders import a_step, a_task
from tests.staging.conftest import a_fetch
from tests.staging.ftp_server import FtpSite
from tests.testbeds.certificates import certificate
from weft.errors import Forbidden, InvalidRequest, StagingFailed, TooLarge, Unavailable
from weft.folders import AttemptFolder
from weft.model import FileType, Input, Output
from weft.sections.transfer import FetchSettings, FtpLogin, FtpSettings
from weft.staging.collect import collect
from weft.staging.ftp import FtpStager
from weft.staging.stagers import Stagers
from weft.staging.transfer import prepare


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FtpSite]:
    folder = tmp_path / "ftp"
    folder.mkdir()
    server = FtpSite(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stager() -> FtpStager:
    """Anonymous."""
    return FtpStager(FtpSettings(), a_fetch())


@pytest.fixture
def writer() -> FtpStager:
    """With a login."""
    return FtpStager(FtpSettings(hosts={"127.0.0.1": FtpLogin(user="me", password=SecretStr("secret"))}), a_fetch())


@pytest.mark.parametrize("name", ["plain", "with space", "ä ö", "per%cent", "qu?ry#x", "'quoted\""])
def test_odd_names_go_in_and_out_exactly(site: FtpSite, writer: FtpStager, tmp_path: Path, name: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"a\r\n\0\xff")
    url = writer.join(site.url("/deep/er"), name)
    writer.upload(source, url)
    assert (site.folder / "deep" / "er" / name).read_bytes() == source.read_bytes()
    assert [path.name for path in (site.folder / "deep" / "er").iterdir()] == [name]
    writer.download(url, target)
    assert target.read_bytes() == source.read_bytes()


def test_an_upload_replaces(site: FtpSite, writer: FtpStager, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for text in ("first", "second"):
        source.write_text(text)
        writer.upload(source, site.url("/f"))
        assert (site.folder / "f").read_text() == text


def test_an_interrupted_file_is_resumed_where_it_broke(site: FtpSite, stager: FtpStager, tmp_path: Path) -> None:
    body = os.urandom(1 << 20)
    (site.folder / "big").write_bytes(body)
    site.breaks_after = [300_000, 300_000]
    stager.download(site.url("/big"), tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == body
    assert len([line for line in site.commands if line.startswith("REST")]) == 2


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: FtpSite, tmp_path: Path) -> None:
    old, new = os.urandom(1 << 19), os.urandom(1 << 18)
    (site.folder / "big").write_bytes(old)
    site.breaks_after = [200_000]

    class Changing(FtpStager):
        def _receive(self, *args: object) -> None:
            try:
                super()._receive(*args)  # type: ignore[arg-type]
            except BaseException:
                (site.folder / "big").write_bytes(new)
                raise

    Changing(FtpSettings(), a_fetch()).download(site.url("/big"), tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == new


def test_a_server_that_always_breaks_off_ends_and_leaves_nothing(
    site: FtpSite, stager: FtpStager, tmp_path: Path
) -> None:
    (site.folder / "big").write_bytes(bytes(1 << 20))
    site.breaks_after = [0] * 20
    with pytest.raises(Unavailable, match="connection broke"):
        stager.download(site.url("/big"), tmp_path / "big")
    assert not list(tmp_path.glob("big*"))


def test_a_listing_gives_all_below(site: FtpSite, stager: FtpStager) -> None:
    (site.folder / "a" / "b" / "empty").mkdir(parents=True)
    (site.folder / "a" / "1").write_text("1")
    (site.folder / "a" / "b" / "22 ä").write_text("22")
    found = sorted((entry.path, entry.size_bytes) for entry in stager.list(site.url("/a")))
    assert found == [("1", 1), ("b/22 ä", 2)]


def test_the_kind_is_looked_up(site: FtpSite, stager: FtpStager) -> None:
    (site.folder / "d").mkdir()
    (site.folder / "f").touch()
    kinds = [stager.kind(site.url(path)) for path in ("/d", "/f", "/none")]
    assert kinds == [FileType.DIRECTORY, FileType.FILE, None]


def test_what_is_missing_or_not_allowed_is_said(site: FtpSite, stager: FtpStager, tmp_path: Path) -> None:
    with pytest.raises(StagingFailed, match=r"no such file, or no permission \(550\) at ftp://127.0.0.1:\d+/none"):
        stager.download(site.url("/none"), tmp_path / "x")
    with pytest.raises(StagingFailed, match="550"):
        stager.upload(__file__ and Path(__file__), site.url("/x"))
    assert list(site.folder.iterdir()) == []


def test_a_wrong_password_is_said_and_not_shown(site: FtpSite, tmp_path: Path) -> None:
    login = FtpLogin(user="me", password=SecretStr("hunter2"))
    stager = FtpStager(FtpSettings(hosts={"127.0.0.1": login}), a_fetch())
    with pytest.raises(StagingFailed, match="530") as caught:
        stager.download(site.url("/x"), tmp_path / "x")
    assert "hunter2" not in str(caught.value)


def test_a_file_beyond_the_limit_is_not_kept(site: FtpSite, tmp_path: Path) -> None:
    (site.folder / "big").write_bytes(bytes(1001))
    with pytest.raises(TooLarge):
        FtpStager(FtpSettings(), a_fetch(max_bytes=1000)).download(site.url("/big"), tmp_path / "big")
    assert not list(tmp_path.glob("big*"))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ftp://ftp.example.org/x", Forbidden),  # not listed: FTP is plain text
        ("ftp://10.0.0.1/x", Forbidden),
        ("ftp://localhost/x", Forbidden),
        ("ftp://[::ffff:169.254.169.254]/x", Forbidden),
        ("ftp://me:secret@127.0.0.1/x", InvalidRequest),
        ("ftp://127.0.0.1/a%0d%0aDELE%20x", InvalidRequest),
        ("ftp://127.0.0.1/a/../b", InvalidRequest),
        ("ftp://127.0.0.1/%ff", InvalidRequest),
        ("ftp:///x", InvalidRequest),
    ],
)
def test_a_url_that_can_never_work_is_refused_without_a_connection(
    stager: FtpStager, url: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Stagers({"ftp": lambda: stager}).check_url(url, writing=False)


def test_a_name_that_leads_to_a_metadata_service_is_never_connected(tmp_path: Path) -> None:
    fetch = FetchSettings(allow_hosts=("inside.example",))
    stager = FtpStager(FtpSettings(), fetch, resolver=lambda host, port: ["169.254.169.254"])
    with pytest.raises(Forbidden, match=r"169\.254"):
        stager.download("ftp://inside.example/x", tmp_path / "x")


def test_nobody_listening_can_be_tried_again(stager: FtpStager, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="no connection"):
            stager.download(f"ftp://127.0.0.1:{unused.getsockname()[1]}/x", tmp_path / "x")


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trust(tmp_path: Path) -> ssl.SSLContext:
    """Trust in the certificate of the secure site, which stands for the name ftp.example."""
    (tmp_path / "tls").mkdir()
    cert, key = certificate(tmp_path / "tls", "ftp.example")
    (tmp_path / "tls" / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    return ssl.create_default_context(cafile=str(cert))


@pytest.fixture
def secure_site(tmp_path: Path, trust: ssl.SSLContext) -> Iterator[FtpSite]:
    folder = tmp_path / "ftps"
    folder.mkdir()
    server = FtpSite(folder, tmp_path / "tls" / "both.pem")
    server.start()
    yield server
    server.stop()


def a_secure_stager(tls: ssl.SSLContext | None, host: str = "ftp.example") -> FtpStager:
    login = FtpLogin(user="me", password=SecretStr("secret"))
    settings = FtpSettings(hosts={host: login}, tls_hosts=(host,))
    return FtpStager(settings, FetchSettings(read_seconds=5), resolver=lambda *_: ["127.0.0.1"], tls=tls)


def test_a_host_of_tls_is_never_told_a_word_without_it(
    secure_site: FtpSite, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    stager, body = a_secure_stager(trust), os.urandom(1 << 20)
    (tmp_path / "source").write_bytes(body)
    url = f"ftp://ftp.example:{secure_site.port}/deep/file"
    stager.upload(tmp_path / "source", url)
    assert (secure_site.folder / "deep" / "file").read_bytes() == body
    stager.download(url, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == body
    assert [entry.path for entry in stager.list(url.removesuffix("/file"))] == ["file"]
    before_login = secure_site.commands[: secure_site.commands.index("USER me")]
    assert before_login == ["AUTH TLS", "PBSZ 0", "PROT P"]


def test_a_certificate_that_is_not_trusted_or_of_another_host_ends_it(
    secure_site: FtpSite, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    for stager, host in ((a_secure_stager(None), "ftp.example"), (a_secure_stager(trust, "b.example"), "b.example")):
        with pytest.raises(StagingFailed, match="no trusted TLS connection"):
            stager.download(f"ftp://{host}:{secure_site.port}/x", tmp_path / "x")
    assert "PASS" not in secure_site.commands


def test_a_server_without_tls_gets_no_password(site: FtpSite, trust: ssl.SSLContext, tmp_path: Path) -> None:
    with pytest.raises(StagingFailed, match=r"50\d"):
        a_secure_stager(trust).download(f"ftp://ftp.example:{site.port}/x", tmp_path / "x")
    assert site.commands == ["AUTH TLS"]


def test_a_whole_task_goes_through(site: FtpSite, writer: FtpStager, attempt: AttemptFolder) -> None:
    (site.folder / "in").mkdir()
    for number in range(30):
        (site.folder / "in" / str(number)).write_text(str(number))
    task = a_task(
        steps=(a_step(),),
        inputs=(Input(path="/in", url=site.url("/in")), Input(path="/one", url=site.url("/in/1"))),
        outputs=(Output(path="/in", url=site.url("/out"), type=FileType.DIRECTORY),),
    )
    stagers = Stagers({"ftp": lambda: writer})
    prepared = prepare(task, attempt, stagers, pause=lambda seconds: None)
    assert prepared.types["/in"] is FileType.DIRECTORY
    collect(task, prepared.mounts, stagers)
    assert sorted(path.read_text() for path in (site.folder / "out").iterdir()) == sorted(map(str, range(30)))
