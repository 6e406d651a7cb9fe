"""drs:// on a small server of the test's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator
from pydantic import SecretStr

from tests.builders import a_step, a_task
from tests.staging.conftest import Web, a_fetch
from tests.staging.drs_server import BASE, DrsSite
from tests.staging.test_s3 import bucket  # noqa: F401  # a fixture
from tests.unit.spec_compare import SHARED
from weft.errors import Forbidden, InvalidRequest, StagingFailed, Unavailable
from weft.folders import AttemptFolder
from weft.model import FileType, Input
from weft.sections.transfer import DrsSettings, S3Settings
from weft.staging.drs import DrsStager
from weft.staging.guard import GuardedClient
from weft.staging.s3 import S3Stager
from weft.staging.stagers import Stagers
from weft.staging.transfer import prepare


@pytest.fixture
def site(web: Web) -> DrsSite:
    return DrsSite(web)


@pytest.fixture
def stager(site: DrsSite) -> DrsStager:
    return a_stager(site)


def a_stager(site: DrsSite, others: Stagers | None = None, **settings: Any) -> DrsStager:
    client = GuardedClient(a_fetch())
    return DrsStager(DrsSettings(http_hosts=(site.host,), **settings), client, lambda: others or Stagers({}))


def test_the_server_speaks_drs(site: DrsSite) -> None:
    spec = yaml.safe_load((SHARED / "specs/drs-1.5.0.yaml").read_text(encoding="utf-8"))
    site.add("file", b"x")
    site.bundle("bundle", {"a": "file"})
    for name in ("file", "bundle"):
        schema = {"$ref": "#/components/schemas/DrsObject", "components": spec["components"]}
        assert list(Draft4Validator(schema).iter_errors(site.objects[name])) == []


def test_an_object_is_fetched_whole(site: DrsSite, stager: DrsStager, tmp_path: Path) -> None:
    stager.download(site.add("x", b"body"), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"body"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_access_id_is_exchanged_for_a_url_with_its_headers(site: DrsSite, stager: DrsStager, tmp_path: Path) -> None:
    url = site.add("x", b"body", methods=[{"type": "https", "access_id": "a1"}])
    headers = ["X-Signature: s", "Host: evil.example"]
    site.access("x", "a1", {"url": site.web.url("/bytes/x"), "headers": headers})
    stager.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"body"
    _, _, sent = next(item for item in site.web.seen if item[1] == "/bytes/x")
    assert (sent["x-signature"], sent["host"]) == ("s", site.host)


def test_https_is_preferred_and_s3_is_next(
    site: DrsSite,
    moto: S3Settings,
    bucket: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    others = Stagers({"s3": lambda: S3Stager(moto)})
    source = tmp_path / "source"
    source.write_bytes(b"body")
    others.for_url("s3://b/k").upload(source, f"s3://{bucket}/k")
    there = {"type": "s3", "access_url": {"url": f"s3://{bucket}/k"}}
    here = {"type": "https", "access_url": {"url": site.web.url("/bytes/x")}}
    stager = a_stager(site, others)
    stager.download(site.add("x", b"body", methods=[there, here]), tmp_path / "x")
    assert site.web.count("/bytes/x") == 1
    site.web.answers["/bytes/x"] = lambda handler: handler.say(403, b"")
    stager.download(site.url("x"), tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"body"


def test_files_of_this_host_are_never_taken_on_a_servers_word(
    site: DrsSite, tmp_path: Path, stagers: Stagers, data: Path
) -> None:
    (data / "secret").write_bytes(b"x")
    path = (data / "secret").as_uri()
    methods = [{"type": "file", "access_url": {"url": path}}, {"type": "https", "access_url": {"url": path}}]
    with pytest.raises(StagingFailed, match="scheme 'file'"):
        a_stager(site, stagers).download(site.add("x", b"x", methods=methods), tmp_path / "x")
    with pytest.raises(StagingFailed, match="offers no way that works here: file"):
        a_stager(site, stagers).download(site.add("x", b"x", methods=methods[:1]), tmp_path / "x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 5}, "4 bytes instead of 5"),
        ({"checksums": [{"type": "sha-256", "checksum": "0" * 64}]}, "the sha-256 of what was fetched"),
        ({"checksums": [{"type": "md5", "checksum": "0" * 32}]}, "the md5 of what was fetched"),
    ],
)
def test_what_does_not_fit_its_description_is_not_kept(
    site: DrsSite, stager: DrsStager, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(StagingFailed, match=words):
        stager.download(site.add("x", b"body", **changes), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_strongest_checksum_counts_and_unknown_ones_do_not(
    site: DrsSite, stager: DrsStager, tmp_path: Path
) -> None:
    good = {"type": "SHA-256", "checksum": hashlib.sha256(b"body").hexdigest().upper()}
    others = [{"type": "md5", "checksum": "0"}, {"type": "crc32c", "checksum": "0"}]
    stager.download(site.add("x", b"body", checksums=[*others, good]), tmp_path / "x")


def test_a_bundle_is_a_folder_of_verified_files(site: DrsSite, attempt: AttemptFolder) -> None:
    site.add("1", b"one")
    site.add("2", b"two")
    site.bundle("inner", {"deep ä": "2"})
    url = site.bundle("outer", {"first": "1", "sub": "inner"})
    task = a_task(steps=(a_step(),), inputs=(Input(path="/in", url=url),))
    drs = a_stager(site)
    prepared = prepare(task, attempt, Stagers({"drs": lambda: drs}), pause=lambda seconds: None)
    assert prepared.types == {"/in": FileType.DIRECTORY}
    top = attempt.mounts / "in"
    found = {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    assert found == {"first": b"one", "sub/deep ä": b"two"}
    assert site.web.count(f"{BASE}/outer") <= 3


def test_one_file_of_a_bundle_can_be_named(site: DrsSite, stager: DrsStager, tmp_path: Path) -> None:
    site.add("1", b"one")
    url = site.bundle("b", {"a b": "1"})
    stager.download(f"{url}#a%20b", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"one"
    with pytest.raises(StagingFailed, match="has no file 'c'"):
        stager.download(f"{url}#c", tmp_path / "x")


def test_a_bundle_that_holds_itself_ends(site: DrsSite, stager: DrsStager) -> None:
    url = site.bundle("b", {"again": "b"})
    with pytest.raises(StagingFailed, match="nested deeper"):
        stager.list(url)


def test_the_token_of_a_host_goes_to_its_api(site: DrsSite, tmp_path: Path) -> None:
    url = site.add("x", b"body")
    site.token = "t0ken"
    with pytest.raises(StagingFailed, match="401"):
        a_stager(site).download(url, tmp_path / "x")
    a_stager(site, tokens={"127.0.0.1": SecretStr("t0ken")}).download(url, tmp_path / "x")
    _, _, sent = next(item for item in site.web.seen if item[1] == "/bytes/x")
    assert "authorization" not in sent


def test_an_id_is_sent_escaped(site: DrsSite, stager: DrsStager, tmp_path: Path) -> None:
    site.add("a%2Fb", b"body")
    stager.download(site.url("a%2Fb"), tmp_path / "x")
    stager.download(site.url("a/b"), tmp_path / "x")
    assert site.web.count(f"{BASE}/a%2Fb") == 2


@pytest.mark.parametrize(
    ("path", "words"), [("/none", "404"), ("/text", "is not JSON"), ("/list", "is no object"), ("/busy", "503")]
)
def test_an_api_that_fails_is_said(site: DrsSite, stager: DrsStager, tmp_path: Path, path: str, words: str) -> None:
    site.web.answers[f"{BASE}/text"] = lambda handler: handler.say(200, b"hello")
    site.web.answers[f"{BASE}/list"] = lambda handler: handler.say(200, b"[]")
    site.web.answers[f"{BASE}/busy"] = lambda handler: handler.say(503, b"")
    with pytest.raises((StagingFailed, Unavailable), match=words):
        stager.download(f"drs://{site.host}{path}", tmp_path / "x")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("drs://example.org/", InvalidRequest),
        ("drs://example.org/x?y=1", InvalidRequest),
        ("drs://dg.4503:abc/x", InvalidRequest),
        ("drs://dg.4503:abc", InvalidRequest),
        ("drs://me:secret@example.org/x", InvalidRequest),
        ("drs://169.254.169.254/x", Forbidden),
        ("drs://localhost/x", Forbidden),
        ("drs://[::1]/x", Forbidden),
    ],
)
def test_a_url_that_can_never_work_is_refused(stager: DrsStager, url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Stagers({"drs": lambda: stager}).check_url(url, writing=False)


def test_an_object_cannot_be_written(stager: DrsStager) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        stager.check("drs://example.org/x", writing=True)
