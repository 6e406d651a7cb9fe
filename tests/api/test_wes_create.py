"""POST /runs: every form in which real clients send a run, and what bad input gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.api.wes_site import Site, multipart, running_site
from tests.unit.spec_compare import SHARED

EXAMPLES = json.loads((SHARED / "examples" / "wes" / "wes_run_requests.json").read_text())
SNAKEFILE = {"Snakefile": b"rule all:\n"}
GOOD = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}

#: Name -> the field that is refused, on a server that has Snakemake and cwltool; None: accepted.
EXPECTED: dict[str, str | None] = {
    "wes-client-cwl-md5sum": None,
    "wes-client-wdl-md5sum": "workflow_type",
    "wes-client-remote-url-urlencoded": None,
    "cloud-interop-all-parts-have-filenames": None,
    "cwl-wes-integration-curl": None,
    "toil-docs-curl-subdir-attachments": None,
    "toil-engine-params": None,
    "sapporo-cwl-hello": None,
    "sapporo-snakemake-hello": None,
    "sapporo-nextflow-hello": "workflow_type",
    "sapporo-wdl-hello": "workflow_type",
    "sapporo-cwl-url-not-attached": None,
    "toil-relative-url-no-attachment": "workflow_url",
    "weskit-snakemake-urlencoded": "workflow_type_version",
    "sapporo-v1-snakemake-tutorial": None,
    "starterkit-nextflow-md5": "workflow_type",
    "starterkit-nextflow-drs": "workflow_type",
    "ilifu-nextflow-json": "workflow_engine_parameters.max_cpus",
    "dnastack-client": None,
    "galaxy-base64-url": "workflow_type",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("wes"), max_attachment_bytes=200_000, max_body_bytes=50_000) as site:
        yield site


def test_every_example_has_an_expectation() -> None:
    assert {example["name"] for example in EXAMPLES} == set(EXPECTED)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["name"]))
def test_a_real_request_gets_the_right_answer(site: Site, example: dict[str, Any]) -> None:
    answer = _send(site, example)
    refused = EXPECTED[example["name"]]
    if refused is not None:
        _assert_refused(answer, 400, refused)
        return
    assert answer.status_code == 200, answer.text
    job = site.job(answer.json()["run_id"])
    assert job.run.workflow_url == example["form"]["workflow_url"]
    assert job.run.workflow_params == example["form"]["workflow_params"]
    work = site.folders.work(job.id)
    names = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    assert names == sorted(item["filename"] for item in example["attachments"])
    for item in example["attachments"]:
        assert (work / item["filename"]).read_bytes() == _content(item["filename"])


def _content(name: str) -> bytes:
    return f"stand-in for {name}\r\n--\xff\x00".encode("latin-1")


def _send(site: Site, example: dict[str, Any]) -> requests.Response:
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in example["form"].items()}
    attachments = {item["filename"]: _content(item["filename"]) for item in example["attachments"]}
    match example["encoding"]:
        case "json":
            return site.post("/runs", json=example["form"])
        case "urlencoded":
            return site.post("/runs", data=form)
        case "multipart-all-filename":
            parts = [(name, (name, value)) for name, value in form.items()]
            return site.post("/runs", files=[*parts, *multipart({}, attachments)])
        case _ if example["name"] == "dnastack-client":
            parts = [
                (name, (None, value, "application/json")) for name, value in form.items() if name != "workflow_url"
            ]
            return site.post("/runs", files=[*parts, *multipart({"workflow_url": form["workflow_url"]}, attachments)])
        case _:
            return site.post("/runs", files=multipart(form, attachments))


def _assert_refused(answer: requests.Response, status: int, field: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    assert document["status_code"] == status
    assert document["msg"]
    if field is not None:
        assert document["field"] == field, document
    return document


def test_the_stored_run_has_the_canonical_words(site: Site) -> None:
    run_id = site.submit(workflow_type="snakemake", workflow_type_version="v9.27.0", workflow_params='{"a": [1, null]}')
    run = site.job(run_id).run
    assert (run.workflow_type, run.workflow_type_version) == ("SMK", "9.27.0")
    assert (run.workflow_engine, run.workflow_engine_version) == ("snakemake", "9.27.0")
    assert run.workflow_params == {"a": [1, None]}


def test_params_may_be_left_out(site: Site) -> None:
    assert site.job(site.submit()).run.workflow_params == {}


def test_tags_are_stored_with_the_job(site: Site) -> None:
    assert dict(site.job(site.submit(tags='{"project": "x, y"}')).tags) == {"project": "x, y"}


def test_a_null_engine_parameter_is_a_flag(site: Site) -> None:
    run = site.job(site.submit(workflow_engine_parameters='{"--quiet": null}')).run
    assert run.workflow_engine_parameters == {"--quiet": ""}


def test_an_unknown_field_is_ignored_and_said_in_the_log(site: Site) -> None:
    run_id = site.submit(workflow_engine_name="snakemake")
    assert any("workflow_engine_name" in (event.message or "") for event in site.store.events(run_id))


def test_a_file_name_keeps_every_character(site: Site) -> None:
    names = ["Snakefile", "a b/ü 'x';$(y)&|.smk", "-rf", ".hidden/x", "envs/%20.yaml"]
    work = site.folders.work(site.submit({name: name.encode() for name in names}))
    found = {str(path.relative_to(work)): path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert found == {name: name.encode() for name in names}


def test_an_empty_attachment_is_an_empty_file(site: Site) -> None:
    work = site.folders.work(site.submit({"Snakefile": b""}))
    assert (work / "Snakefile").read_bytes() == b""


def test_a_chunked_form_is_read(site: Site) -> None:
    prepared = requests.Request("POST", f"{site.wes}/runs", files=multipart(GOOD, SNAKEFILE)).prepare()
    body = prepared.body
    assert isinstance(body, bytes)
    pieces = (body[start : start + 50] for start in range(0, len(body), 50))
    headers = {"Content-Type": prepared.headers["Content-Type"]}
    assert site.post("/runs", data=pieces, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"workflow_type": ""}, "workflow_type"),
        ({"workflow_type": "WDL"}, "workflow_type"),
        ({"workflow_type_version": "0.1"}, "workflow_type_version"),
        ({"workflow_params": "[]"}, "workflow_params"),
        ({"workflow_params": "nonsense"}, "workflow_params"),
        ({"workflow_params": ""}, "workflow_params"),
        ({"workflow_params": "null"}, "workflow_params"),
        ({"workflow_params": '{"a": NaN}'}, "workflow_params"),
        ({"workflow_params": '{"a": 123456789012345678901234567890}'}, "workflow_params"),
        ({"workflow_params": '{"a": 1e999}'}, "workflow_params"),
        ({"workflow_params": '{"a": "\\u0000"}'}, "workflow_params"),
        ({"workflow_params": '{"a": "\\ud800"}'}, "workflow_params"),
        ({"workflow_params": '{"a": ' * 200 + "1" + "}" * 200}, "workflow_params"),
        ({"workflow_params": "[" * 20_000}, "workflow_params"),
        ({"tags": "[]"}, "tags"),
        ({"tags": '{"a": 1}'}, "tags.a"),
        ({"tags": '{"a": null}'}, "tags.a"),
        ({"workflow_engine_parameters": '{"cores": 2}'}, "workflow_engine_parameters.cores"),
        ({"workflow_engine_parameters": '{"dry": true}'}, "workflow_engine_parameters.dry"),
        ({"workflow_engine_parameters": '{"forbidden": "x"}'}, "workflow_engine_parameters"),
        ({"workflow_engine": "nextflow"}, "workflow_engine"),
        ({"workflow_engine": "cwltool"}, "workflow_engine"),
        ({"workflow_engine_version": "9.27.0"}, "workflow_engine"),
        ({"workflow_engine": "snakemake", "workflow_engine_version": "8"}, "workflow_engine_version"),
        ({"workflow_url": ""}, "workflow_url"),
        ({"workflow_url": "/etc/passwd"}, "workflow_url"),
        ({"workflow_url": "../Snakefile"}, "workflow_url"),
        ({"workflow_url": "a\\Snakefile"}, "workflow_url"),
        ({"workflow_url": "#main"}, "workflow_url"),
        ({"workflow_url": "file:///etc/passwd"}, "workflow_url"),
        ({"workflow_url": "trs://example.org/"}, "workflow_url"),
        ({"workflow_url": "trs://example.org/#workflow/x/1"}, "workflow_url"),
        ({"workflow_url": "trs://example.org/workflows/x/1"}, "workflow_url"),
        ({"workflow_url": "https://example.org/ga4gh/trs/v2/tools/x/versions/1/WDL/descriptor"}, "workflow_url"),
        ({"workflow_url": "https://user@example.org/x"}, "url"),
        ({"workflow_url": "x" * 20_000}, "workflow_url"),
    ],
)
def test_a_bad_field_is_refused_by_name(site: Site, changes: dict[str, str], field: str) -> None:
    before = site.kept()
    _assert_refused(site.post("/runs", files=multipart({**GOOD, **changes}, SNAKEFILE)), 400, field)
    assert site.kept() == before


def test_a_refusal_lists_what_is_supported(site: Site) -> None:
    answer = site.post("/runs", files=multipart({**GOOD, "workflow_type": "WDL"}, SNAKEFILE))
    message = _assert_refused(answer, 400)["msg"]
    assert "SMK" in message
    assert "CWL" in message


def test_a_refused_value_comes_with_the_remedy(site: Site) -> None:
    form = {**GOOD, "workflow_engine_parameters": '{"cores": 2}'}
    assert '{"cores": "2"}' in _assert_refused(site.post("/runs", files=multipart(form, SNAKEFILE)), 400)["remedy"]


def test_a_url_that_may_not_be_fetched_is_forbidden(site: Site) -> None:
    form = {**GOOD, "workflow_url": "http://169.254.169.254/latest"}
    _assert_refused(site.post("/runs", data=form), 403)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_field_is_named(site: Site, missing: str) -> None:
    form = {name: value for name, value in GOOD.items() if name != missing}
    _assert_refused(site.post("/runs", files=multipart(form, SNAKEFILE)), 400, missing)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"headers": {"Content-Type": "multipart/form-data"}},
        {"headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"headers": {"Content-Type": "multipart/form-data; boundary=x"}, "data": b"nonsense"},
        {"headers": {"Content-Type": "multipart/form-data; boundary=x"}, "data": b"--x\r\nno headers"},
        {"headers": {"Content-Type": "multipart/form-data; boundary=x"}, "data": b"--x\r\n\r\n\r\n--x--"},
        {"headers": {"Content-Type": "multipart/form-data; boundary=x"}, "data": b"--x\r\n" + b"a" * 190_000},
        {"headers": {"Content-Type": "multipart/form-data; boundary=x"}, "data": b"--x--\r\n"},
        {"headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"headers": {"Content-Type": "application/x-www-form-urlencoded"}, "data": b"workflow_type=%ff"},
        {"headers": {"Content-Type": "application/x-www-form-urlencoded"}, "data": b"a=1&" * 500},
        {"headers": {"Content-Type": "application/json"}},
        {"headers": {"Content-Type": "application/json"}, "data": b"{"},
        {"json": []},
        {"json": {**GOOD, "workflow_url": 3}},
        {"json": {**GOOD, "workflow_url": None}},
        {"json": {**GOOD, "workflow_attachment": ["x"]}},
        {"data": {**GOOD, "workflow_attachment": "x"}},
        {"files": [*multipart(GOOD, SNAKEFILE), ("workflow_type", (None, "SMK"))]},
        {"files": [*multipart(GOOD, {}), ("workflow_attachment", (None, "text"))]},
        {"files": [*multipart(GOOD, SNAKEFILE), ("workflow_file", ("x", b"x"))]},
        {"files": [*multipart(GOOD, SNAKEFILE), ("tags", ("tags", b"\xff"))]},
        {
            "data": "workflow_type=SMK&workflow_type=SMK",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
    ],
)
def test_a_body_that_cannot_be_read_is_400_and_leaves_nothing(site: Site, options: dict[str, Any]) -> None:
    before = site.kept()
    _assert_refused(site.post("/runs", **options), 400)
    assert site.kept() == before


def test_another_content_type_is_415(site: Site) -> None:
    _assert_refused(site.post("/runs", data=b"x", headers={"Content-Type": "text/plain"}), 415)


def test_a_body_that_ends_early_is_refused(site: Site) -> None:
    before = site.kept()
    prepared = requests.Request("POST", f"{site.wes}/runs", files=multipart(GOOD, SNAKEFILE)).prepare()
    assert isinstance(prepared.body, bytes)
    headers = {"Content-Type": str(prepared.headers["Content-Type"])}
    _assert_refused(site.post("/runs", data=prepared.body[:-20], headers=headers), 400)
    assert site.kept() == before


def test_attachments_beyond_the_limit_are_413(site: Site) -> None:
    before = site.kept()
    _assert_refused(site.post("/runs", files=multipart(GOOD, {"a": b"x" * 150_000, "b": b"x" * 60_000})), 413)
    assert site.kept() == before


def test_text_fields_beyond_the_limit_are_413(site: Site) -> None:
    form = {**GOOD, "workflow_params": json.dumps({"a": "x" * 60_000})}
    _assert_refused(site.post("/runs", files=multipart(form, SNAKEFILE)), 413)
    _assert_refused(site.post("/runs", data=form), 413)


HOSTILE = [
    "",
    "/etc/passwd",
    "../evil",
    "a/../../evil",
    "..",
    ".",
    "a/./b",
    "./a",
    "a//b",
    "a/",
    "C:\\evil",
    "a\\..\\b",
    "a\tb",
    "a\x7fb",
    "a\x01",
    "x" * 256,
    "x/" * 600 + "x",
    ".weft/outcome.json",
    ".WEFT",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_name_is_refused_and_nothing_is_written(site: Site, name: str) -> None:
    before = site.kept()
    boundary = b"boundary"
    disposition = f'form-data; name="workflow_attachment"; filename="{name}"'.encode()
    part = b"--" + boundary + b"\r\nContent-Disposition: " + disposition + b"\r\n\r\nevil\r\n"
    fields = b"".join(
        b"--" + boundary + f'\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in GOOD.items()
    )
    headers = {"Content-Type": "multipart/form-data; boundary=boundary"}
    answer = site.post("/runs", data=fields + part + b"--" + boundary + b"--\r\n", headers=headers)
    _assert_refused(answer, 400, "workflow_attachment")
    assert site.kept() == before


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("x/ü", "x/Ü"), ("é", "e\u0301"), ("a", "a/b"), ("a/b", "a"), ("a/b", "A")]
)
def test_file_names_that_collide_are_refused(site: Site, names: tuple[str, str]) -> None:
    before = site.kept()
    files = [("workflow_attachment", (name, b"x")) for name in names]
    _assert_refused(site.post("/runs", files=[*multipart(GOOD, {}), *files]), 400, "workflow_attachment")
    assert site.kept() == before


def test_the_same_idempotency_key_gives_the_same_run(site: Site) -> None:
    headers = {"Idempotency-Key": "k1"}
    runs, folders = site.kept()
    answers = [site.post("/runs", files=multipart(GOOD, SNAKEFILE), headers=headers).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert (site.kept()[0], len(site.kept()[1])) == (runs + 1, len(folders) + 1)
    assert (site.folders.work(answers[0]["run_id"]) / "Snakefile").read_bytes() == SNAKEFILE["Snakefile"]


def test_the_same_idempotency_key_with_another_request_is_409(site: Site) -> None:
    headers = {"Idempotency-Key": "k2"}
    assert site.post("/runs", files=multipart(GOOD, SNAKEFILE), headers=headers).status_code == 200
    before = site.kept()
    other = {**GOOD, "workflow_params": '{"other": 1}'}
    _assert_refused(site.post("/runs", files=multipart(other, SNAKEFILE), headers=headers), 409)
    assert site.kept() == before


def test_an_idempotency_key_without_end_is_refused(site: Site) -> None:
    headers = {"Idempotency-Key": "k" * 300}
    _assert_refused(site.post("/runs", files=multipart(GOOD, SNAKEFILE), headers=headers), 400, "Idempotency-Key")


def test_attachments_are_removed_when_the_store_cannot_take_the_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.kept()

    def full(new: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(site.store, "create", full)
    _assert_refused(site.post("/runs", files=multipart(GOOD, SNAKEFILE)), 500)
    assert site.kept() == before


def test_only_an_ended_run_of_ones_own_and_of_the_same_engine_is_resumed(site: Site) -> None:
    ended = site.submit()
    site.claim(ended)
    task = site.add_task(ended)
    site.end(ended)
    running = site.submit()
    cwl = {"workflow_type": "CWL", "workflow_type_version": "v1.2"}
    before = site.kept()
    for earlier, form, words in (
        (running, GOOD, "is QUEUED"),
        ("none", GOOD, "there is no run none of yours"),
        (site.add_foreign_run(), GOOD, "there is no run"),
        (task, GOOD, "there is no run"),
        (ended, GOOD | cwl, "was one of snakemake"),
    ):
        parameters = json.dumps({"resume_from": earlier})
        answer = site.post(
            "/runs", files=multipart({**form, "workflow_engine_parameters": parameters}, {"Snakefile": b""})
        )
        assert answer.status_code == 400, answer.text
        assert answer.json()["field"] == "workflow_engine_parameters.resume_from"
        assert words in answer.json()["msg"]
    resumed = site.submit(workflow_engine_parameters=json.dumps({"resume_from": ended}))
    assert site.job(resumed).run.workflow_engine_parameters == {"resume_from": ended}
    assert resumed not in before[1]
