"""Every real request of ``shared/examples/tes`` is accepted, or refused for its right reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import Site, assert_error, open_site
from tests.unit.spec_compare import SHARED
from weft.config import Settings
from weft.sections.transfer import FetchSettings

TASKS = "/v1/tasks"
EXAMPLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (SHARED / "examples/tes").glob("*.json")
}
NO_GS = "scheme 'gs' is not supported here"
#: Why an example is refused by a site that has opened every folder: the member, and the words.
REFUSED = {
    "funnel-google-storage": ("inputs[0].url", NO_GS),
    "funnel-multiple-executors": ("inputs[0].url", NO_GS),
}
#: The member with an ftp:// URL, which a site that lists no FTP host refuses: FTP is plain text.
NEEDS_AN_FTP_HOST = {
    "tesk-output_tree": "outputs[0].url",
    "tesk-output_volume": "outputs[0].url",
    "tesk-taskWithIO": "inputs[0].url",
}
#: The member that names a file which a site that has opened no folder refuses.
NEEDS_A_FOLDER = {
    "captured-cwl-tes": "inputs[0].url",
    "captured-cwl-tes-docker-workdir": "inputs[0].url",
    "captured-toil-batch-system-tes": "inputs[0].url",
    "funnel-full-hello": "outputs[0].url",
    "funnel-input-content": "outputs[0].url",
    "funnel-md5sum": "inputs[0].url",
    "funnel-nextflow": "outputs[0].url",
    "ms-cromwell-testask1": "inputs[0].url",
    "replayed-nf-ga4gh-1.4.2": "inputs[0].url",
}
#: Members that the server fills in or leaves out; everything else comes back as it was sent.
ADDED = {"logs", "creation_time", "id", "state"}


@pytest.fixture(scope="module")
def open_everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        data=tmp_path_factory.mktemp("open") / "data",
        file_roots=(Path("/"),),
        fetch=FetchSettings(allow_hosts=("ftp", "ftp-private.ebi.ac.uk")),
    )
    with open_site(settings) as site, TestClient(site.app([site.tes()])) as client:
        yield client


@pytest.fixture(scope="module")
def open_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Site]]:
    settings = Settings(data=tmp_path_factory.mktemp("closed") / "data")
    with open_site(settings) as site, TestClient(site.app([site.tes()])) as client:
        yield client, site


def test_there_are_31_examples() -> None:
    assert len(EXAMPLES) == 31


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(REFUSED)))
def test_an_example_is_accepted_and_comes_back_as_it_was_sent(open_everything: TestClient, name: str) -> None:
    response = open_everything.post(TASKS, json=EXAMPLES[name])
    assert response.status_code == 200, response.text
    shown = open_everything.get(f"{TASKS}/{response.json()['id']}?view=FULL").json()
    sent = canonical(EXAMPLES[name])
    assert {key: value for key, value in shown.items() if key not in ADDED} == sent


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_example_with_foreign_storage_is_refused(open_everything: TestClient, name: str) -> None:
    field, words = REFUSED[name]
    document = assert_error(open_everything.post(TASKS, json=EXAMPLES[name]), 400, words)
    assert document["field"] == field
    assert document["remedy"] == "one of: drs, file, ftp, http, https, s3"


@pytest.mark.parametrize("name", sorted(NEEDS_A_FOLDER))
def test_an_example_with_files_is_refused_where_no_folder_is_open(
    open_nothing: tuple[TestClient, Site], name: str
) -> None:
    client, site = open_nothing
    document = assert_error(client.post(TASKS, json=EXAMPLES[name]), 403, "is not under a folder")
    assert document["field"] == NEEDS_A_FOLDER[name]
    assert site.stored() == 0


@pytest.mark.parametrize("name", sorted(NEEDS_AN_FTP_HOST))
def test_an_example_with_ftp_is_refused_where_no_host_is_listed(
    open_nothing: tuple[TestClient, Site], name: str
) -> None:
    client, site = open_nothing
    document = assert_error(client.post(TASKS, json=EXAMPLES[name]), 403, "plain ftp")
    assert document["field"] == NEEDS_AN_FTP_HOST[name]
    assert site.stored() == 0


def canonical(document: Any) -> dict[str, Any]:
    """Give the form in which weft shows a task: no nulls, nothing empty, types filled in, paths normalised."""
    task = _lean(document)
    for item in (*task.get("inputs", ()), *task.get("outputs", ())):
        item.setdefault("type", "FILE")
        item["path"] = item["path"].rstrip("/")
    task.get("resources", {}).pop("ramGb", None)
    task.get("resources", {}).pop("diskGb", None)
    for name in ADDED:
        task.pop(name, None)
    return task


def _lean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lean(item) for key, item in value.items() if item is not None and item != []}
    return [_lean(item) for item in value] if isinstance(value, list) else value
