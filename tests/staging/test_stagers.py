"""The registry: the right stager for a URL, loaded late, and clear words where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from weft.config import Settings
from weft.errors import Forbidden, InvalidRequest
from weft.plugins import PluginBroken
from weft.ports import Root
from weft.staging.stagers import Stagers, installed
from weft.staging.urls import shown


def test_every_scheme_finds_its_stager(settings: Settings, data: Path) -> None:
    stagers = installed(settings)
    for url in (f"{data}/x", f"file://{data}/x", f"FILE://{data}/x"):
        assert "file" in stagers.for_url(url).schemes
    for url in ("http://h/x", "https://h/x", "HTTPS://h/x"):
        assert "https" in stagers.for_url(url).schemes
    assert "s3" in stagers.for_url("s3://bucket/x").schemes
    assert stagers.schemes == ("drs", "file", "ftp", "http", "https", "s3")


@pytest.mark.parametrize("url", ["gs://bucket/x", "sftp://host/x", "javascript:alert(1)", "data:,x", "htttps://h/x"])
def test_an_unknown_scheme_lists_the_known(settings: Settings, url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        installed(settings).check_url(url, writing=False)
    assert caught.value.remedy == "one of: drs, file, ftp, http, https, s3"


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/x", "https://u:p@h/x", "ftp://u@h/x", "file://u@/x"])
def test_credentials_in_a_url_are_refused_and_not_repeated(settings: Settings, url: str) -> None:
    with pytest.raises(InvalidRequest, match="password") as caught:
        installed(settings).check_url(url, writing=True)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("url", ["", "x", "x/y", "../x", "C:x", "://h", "/a\0b"])
def test_what_is_no_url_is_refused(settings: Settings, url: str) -> None:
    with pytest.raises(InvalidRequest):
        installed(settings).check_url(url, writing=False)


def test_more_folders_may_be_named_for_one_call(settings: Settings, tmp_path: Path) -> None:
    stagers = installed(settings)
    work = tmp_path / "data/jobs/r/work"
    with pytest.raises(Forbidden):
        stagers.check_url(f"{work}/x", writing=True)
    stagers.check_url(f"{work}/x", writing=True, roots=(Root(work, writable=True),))
    rooted = stagers.with_roots((Root(work, writable=True),))
    rooted.check_url(f"{work}/x", writing=True)
    assert rooted.for_url("s3://bucket/x") is stagers.for_url("s3://bucket/x")
    with pytest.raises(Forbidden):
        stagers.check_url(f"{work}/x", writing=True)


def test_a_broken_plugin_is_reported_on_use_only(stagers: Stagers, data: Path) -> None:
    def broken():
        raise PluginBroken("plug-in 's3' of weft.stagers cannot be imported: ModuleNotFoundError: boto3")

    mixed = Stagers({"s3": broken, "file": lambda: stagers.for_url(str(data))})
    mixed.check_url(f"{data}/x", writing=False)
    with pytest.raises(InvalidRequest, match="boto3"):
        mixed.check_url("s3://bucket/x", writing=False)
    assert mixed.schemes == ("file",)


def test_boto3_is_not_imported_for_files_and_http(tmp_path: Path) -> None:
    program = (
        "import sys; from weft.config import Settings; from weft.staging.stagers import installed\n"
        f"stagers = installed(Settings(data='{tmp_path}', file_roots=('{tmp_path}',)))\n"
        f"stagers.for_url('{tmp_path}/x'); stagers.for_url('https://h/x')\n"
        "assert 'boto3' not in sys.modules; stagers.for_url('s3://bucket/x'); assert 'boto3' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_urls_are_shown_without_secrets() -> None:
    assert shown("https://u:p@h/x?sig=1#f") == "https://h/x"
    assert shown("/a?b#c") == "/a?b#c"
    assert shown("file:///a?b") == "file:///a?b"
    assert shown("s3://bucket/k") == "s3://bucket/k"
