"""Workflows of a tool registry, on a small server of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.staging.conftest import Web, a_fetch
from tests.staging.trs_server import API, TrsSite, wrapped
from weft.errors import Forbidden, InvalidRequest, StagingFailed
from weft.sections.transfer import TrsSettings
from weft.staging.guard import GuardedClient
from weft.staging.trs import Registries

NAME = "#workflow/host/group/repository"


@pytest.fixture
def site(web: Web) -> TrsSite:
    return TrsSite(web)


def registries(site: TrsSite, **settings: Any) -> Registries:
    return Registries(TrsSettings(http_hosts=(site.host,), **settings), GuardedClient(a_fetch()))


def fetched(site: TrsSite, url: str, folder: Path, language: str = "CWL", **settings: Any) -> str:
    known = registries(site, **settings)
    tool = known.named(url)
    assert tool is not None
    known.check(tool, language)
    return known.fetch(tool, language, folder)


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_fetched_with_all_its_descriptors(site: TrsSite, tmp_path: Path) -> None:
    site.add(NAME, {"1.0": {"main.cwl": "main", "tools/a b.cwl": "tool"}, "2.0": {"main.cwl": "other"}})
    assert fetched(site, f"{site.url(NAME, '1.0')}#step", tmp_path) == "main.cwl#step"
    assert tree(tmp_path) == {"main.cwl": "main", "tools/a b.cwl": "tool"}


def test_the_only_version_need_not_be_named_and_of_several_none_is_guessed(site: TrsSite, tmp_path: Path) -> None:
    site.add("one", {"1.0": {"main.cwl": "main"}})
    assert fetched(site, site.url("one"), tmp_path) == "main.cwl"
    site.add("two", {"1.0": {"main.cwl": "main"}, "1.1": {"main.cwl": "main"}})
    with pytest.raises(StagingFailed, match=r"1\.0, 1\.1"):
        fetched(site, site.url("two"), tmp_path)


@pytest.mark.parametrize("language", ["CWL", "PLAIN-CWL", "PLAIN_CWL"])
def test_the_url_of_a_descriptor_brings_its_whole_version(site: TrsSite, language: str, tmp_path: Path) -> None:
    site.add(NAME, {"1.0": {"main.cwl": "main", "tools/tool.cwl": "tool"}})
    assert fetched(site, site.descriptor(NAME, "1.0", language), tmp_path) == "main.cwl"
    assert tree(tmp_path) == {"main.cwl": "main", "tools/tool.cwl": "tool"}
    assert fetched(site, site.descriptor(NAME, "1.0", language, "tools/tool.cwl"), tmp_path) == "tools/tool.cwl"


def test_files_above_the_primary_descriptor_keep_their_places(site: TrsSite, tmp_path: Path) -> None:
    site.add("wdl", {"1": {"main.wdl": "main", "../../tasks/t.wdl": "t", "../x.wdl": "x", "/y.wdl": "y"}}, "WDL")
    name = fetched(site, site.url("wdl", "1"), tmp_path, "WDL")
    primary = (tmp_path / name).parent
    assert (primary / "../../tasks/t.wdl").resolve().read_text() == "t"
    assert (primary / "../x.wdl").resolve().read_text() == "x"
    assert (primary / "y.wdl").read_text() == "y"
    assert all(path.resolve().is_relative_to(tmp_path) for path in tmp_path.rglob("*"))


def test_a_file_that_is_there_is_kept_and_no_link_leads_out(site: TrsSite, tmp_path: Path) -> None:
    site.add("tool", {"1": {"main.cwl": "main", "tools/tool.cwl": "tool"}})
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    (work / "main.cwl").write_text("attached")
    assert fetched(site, site.url("tool", "1"), work) == "main.cwl"
    assert tree(work) == {"main.cwl": "attached", "tools/tool.cwl": "tool"}
    (work / "tools/tool.cwl").unlink()
    (work / "tools").rmdir()
    (work / "tools").symlink_to(outside)
    with pytest.raises((StagingFailed, OSError)):
        fetched(site, site.url("tool", "1"), work)
    assert list(outside.iterdir()) == []


def test_content_may_lie_elsewhere_and_is_held_against_its_checksum(site: TrsSite, tmp_path: Path) -> None:
    site.add("tool", {"1": {"main.cwl": "main"}})
    site.web.answers["/raw"] = lambda handler: handler.say(200, b"main")
    where = f"{API}/tools/tool/versions/1/CWL/descriptor"
    given = wrapped("main")["checksum"]
    site.answer(where, {"url": site.web.url("/raw"), "checksum": given})
    (tmp_path / "a").mkdir()
    assert fetched(site, site.url("tool", "1"), tmp_path / "a") == "main.cwl"
    assert tree(tmp_path / "a") == {"main.cwl": "main"}
    site.answer(where, {"content": "another", "checksum": given})
    with pytest.raises(StagingFailed, match="sha-256"):
        fetched(site, site.url("tool", "1"), tmp_path)
    site.answer(where, {"url": "http://169.254.169.254/latest"})
    with pytest.raises(Forbidden):
        fetched(site, site.url("tool", "1"), tmp_path)
    assert tree(tmp_path) == {"a/main.cwl": "main"}


def test_a_registry_that_wants_a_token_gets_the_sites(site: TrsSite, tmp_path: Path) -> None:
    site.add("tool", {"1": {"main.cwl": "main"}})
    site.token = "secret"
    with pytest.raises(StagingFailed, match="401"):
        fetched(site, site.url("tool", "1"), tmp_path)
    assert fetched(site, site.url("tool", "1"), tmp_path, tokens={site.host: SecretStr("secret")}) == "main.cwl"


@pytest.mark.parametrize("answer", [{}, [7], [{"path": "x\0y", "file_type": "PRIMARY_DESCRIPTOR"}], []])
def test_what_is_no_list_of_files_is_refused_in_words(site: TrsSite, answer: Any, tmp_path: Path) -> None:
    site.answer(f"{API}/tools/tool/versions/1/CWL/files", answer)
    with pytest.raises(StagingFailed, match=r"files|descriptor|file"):
        fetched(site, site.url("tool", "1"), tmp_path)


def test_what_can_never_work_is_refused_before_anything_is_fetched(site: TrsSite) -> None:
    known = registries(site)
    for url in ("trs://", "trs://host", "trs://host/", "trs://host/a/b/c", "trs://host/a?x=1", "trs://host/#a/b"):
        with pytest.raises(InvalidRequest) as refused:
            known.named(url)
        assert "%2F" in str(refused.value.remedy)
    private = known.named("trs://169.254.169.254/tool/1")
    assert private is not None
    with pytest.raises(Forbidden):
        known.check(private, "CWL")
    tool = known.named(site.descriptor("tool", "1", "WDL"))
    assert tool is not None
    with pytest.raises(InvalidRequest, match="WDL"):
        known.check(tool, "CWL")
    assert known.named("https://host/main.cwl") is None
    assert site.web.seen == []
