"""Named credentials: which URL they are for, which project may use them, and that they go nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from tests.staging.conftest import Web, a_fetch
from weft.config import Settings
from weft.errors import StagingFailed
from weft.sections.transfer import S3Settings, StorageProfile
from weft.staging.profiles import covers
from weft.staging.stagers import installed


@pytest.mark.parametrize(
    ("prefix", "url", "covered"),
    [
        ("s3://data", "s3://data/a/b", True),
        ("s3://data/a", "s3://data/a", True),
        ("s3://data/a/", "s3://data/a/b", True),
        ("s3://data/a", "s3://data/ab", False),
        ("s3://data/a", "s3://data/A", False),
        ("s3://data", "s3://data2/a", False),
        ("s3://data/a", "s3://data/a/../b", False),
        ("https://h.example/a", "HTTPS://H.example/a/b?x=1#y", True),
        ("https://h.example/a", "https://h.example/b?/a/", False),
        ("https://h.example/a", "https://h.example/a/..%2fb", False),
        ("https://h.example/a", "https://h.example/a/%2e%2e/b", False),
        ("https://h.example/a", "https://h.example/a\\..\\b", False),
        ("https://h.example", "https://h.example.evil.example/", False),
        ("https://h.example", "https://h.example:8443/", False),
        ("https://h.example", "http://h.example/", False),
        ("https://h.example", "s3://h.example/", False),
        ("https://h.example", "https://[h.example/", False),
    ],
)
def test_a_prefix_covers_what_lies_below_it_part_by_part(prefix: str, url: str, covered: bool) -> None:
    assert covers(prefix, url) is covered


def test_keys_go_with_addresses_and_projects(rclone: tuple[S3Settings, Path], tmp_path: Path) -> None:
    server, folder = rclone
    for bucket in ("lab-data", "open-data"):
        (folder / bucket).mkdir()
        (folder / bucket / "x").write_text(bucket)
    keyless = S3Settings(endpoint_url=server.endpoint_url, access_key_id="nobody", secret_access_key=SecretStr("no"))
    stagers = installed(
        Settings(
            data=tmp_path,
            s3=keyless,
            storage={
                "lab": StorageProfile(prefixes=("s3://lab-data",), projects=("lab",), s3=server),
                "open": StorageProfile(prefixes=("s3://open-data",), s3=server),
            },
        )
    )
    lab = stagers.for_project("lab")
    for some, url in ((lab, "s3://lab-data/x"), (lab, "s3://open-data/x"), (stagers, "s3://open-data/x")):
        some.for_url(url).download(url, tmp_path / "got")
        assert (tmp_path / "got").read_text() == url.split("/")[2]
    for some in (stagers, stagers.for_project("other"), stagers.for_project(None)):
        with pytest.raises(StagingFailed, match="access denied"):
            some.for_url("s3://lab-data/x").download("s3://lab-data/x", tmp_path / "denied")
    (tmp_path / "out").write_text("made")
    lab.for_url("s3://lab-data/out").upload(tmp_path / "out", "s3://lab-data/out")
    assert (folder / "lab-data" / "out").read_text() == "made"


def test_a_bearer_token_is_shown_below_its_prefix_alone_and_not_after_a_redirect_elsewhere(
    web: Web, tmp_path: Path
) -> None:
    profile = StorageProfile(prefixes=(web.url("/reads"),), projects=("lab",), bearer=SecretStr("a-token"))
    settings = Settings(data=tmp_path, fetch=a_fetch(), storage={"reads": profile})
    web.answers = {
        "/reads/a": lambda handler: handler.say(200, b"a"),
        "/other": lambda handler: handler.say(200, b"b"),
        "/reads/away": lambda handler: handler.say(302, b"", Location=web.url("/other", host="localhost")),
    }
    lab = installed(settings).for_project("lab")
    for path in ("/reads/a", "/other"):
        lab.for_url(web.url(path)).download(web.url(path), tmp_path / "got")
    installed(settings).for_url(web.url("/reads/a")).download(web.url("/reads/a"), tmp_path / "got")
    shown = [headers.get("authorization") for _, _, headers in web.seen]
    assert shown == ["Bearer a-token", None, None]
    web.seen.clear()
    allowed = settings.model_copy(
        update={"fetch": a_fetch().model_copy(update={"allow_hosts": ("127.0.0.1", "localhost")})}
    )
    there = installed(allowed).for_project("lab").for_url(web.url("/reads/away"))
    there.download(web.url("/reads/away"), tmp_path / "got")
    assert [(path, headers.get("authorization")) for _, path, headers in web.seen] == [
        ("/reads/away", "Bearer a-token"),
        ("/other", None),
    ]


@pytest.mark.parametrize("prefixes", [(), ("https://h.example",), ("s3://a", "https://h.example"), ("ftp://x",)])
def test_a_profile_that_is_not_whole_is_refused(prefixes: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        StorageProfile(prefixes=prefixes)
