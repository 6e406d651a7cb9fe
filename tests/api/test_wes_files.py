"""The logs and the output files of runs, as weft serves them beside WES."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.api.wes_site import Site, running_site
from weft.model import Tail
from wes_service import checksums
from wes_service.workfolder import WorkFolder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("wes")) as site:
        yield site


@pytest.fixture
def run_id(site: Site) -> str:
    run_id = site.submit()
    site.claim(run_id)
    return run_id


def _log(site: Site, job_id: str, name: str, content: bytes) -> Path:
    logs = site.folders.attempt(job_id, 1).logs
    logs.mkdir(parents=True, exist_ok=True)
    (logs / name).write_bytes(content)
    return logs / name


def test_a_log_is_empty_before_the_engine_has_started(site: Site) -> None:
    run_id = site.submit()
    answer = site.get(f"/runs/{run_id}/stderr")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_log_grows_while_the_engine_runs(site: Site, run_id: str) -> None:
    path = _log(site, run_id, "0.stdout", b"one\n")
    assert site.get(f"/runs/{run_id}/stdout").content == b"one\n"
    with path.open("ab") as log:
        log.write(b"two\n")
    assert site.get(f"/runs/{run_id}/stdout").content == b"one\ntwo\n"
    assert site.get(f"/runs/{run_id}/stderr").content == b""


def test_a_log_is_served_by_ranges(site: Site, run_id: str) -> None:
    _log(site, run_id, "0.stdout", b"0123456789")
    answer = site.get(f"/runs/{run_id}/stdout", headers={"Range": "bytes=4-"})
    assert (answer.status_code, answer.content) == (206, b"456789")
    assert answer.headers["Content-Range"] == "bytes 4-9/10"
    assert site.get(f"/runs/{run_id}/stdout", headers={"Range": "bytes=10-"}).status_code == 416


def test_the_log_of_a_task_is_that_of_its_last_step(site: Site, run_id: str) -> None:
    task_id = site.add_task(run_id)
    site.claim(task_id)
    _log(site, task_id, "0.stderr", b"oh\n")
    assert site.get(f"/runs/{run_id}/tasks/{task_id}/stderr").content == b"oh\n"


def test_the_tail_is_served_where_no_log_file_is_left(site: Site, run_id: str) -> None:
    task_id = site.add_task(run_id)
    site.claim(task_id)
    site.end(task_id, tails=[Tail(attempt=1, step=0, stdout="last words\n", stderr="")])
    assert site.get(f"/runs/{run_id}/tasks/{task_id}/stdout").content == b"last words\n"


def test_a_log_that_is_a_link_out_is_not_served(site: Site, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    logs = site.folders.attempt(run_id, 1).logs
    logs.mkdir(parents=True)
    (logs / "0.stdout").symlink_to(tmp_path / "secret")
    assert site.get(f"/runs/{run_id}/stdout").content == b""


def test_all_visible_files_are_outputs_while_the_run_goes_on(site: Site, run_id: str) -> None:
    site.write(run_id, "results/x.txt", b"12")
    site.write(run_id, ".snakemake/log", b"hidden")
    outputs = site.json(f"/runs/{run_id}/outputs")
    assert outputs == {
        "outputs": [
            {"path": "Snakefile", "size": 10, "url": f"{site.wes}/runs/{run_id}/outputs/Snakefile", "checksums": []},
            {
                "path": "results/x.txt",
                "size": 2,
                "url": f"{site.wes}/runs/{run_id}/outputs/results/x.txt",
                "checksums": [],
            },
        ],
        "truncated": False,
    }


def test_the_outputs_of_an_ended_run_are_those_that_it_names(site: Site, run_id: str) -> None:
    site.write(run_id, "results/x.txt", b"12")
    site.write(run_id, "folder/y.txt", b"1")
    site.write(run_id, "intermediate.txt", b"1")
    site.end(run_id, outputs={"all": ["results/x.txt"], "folder": {"class": "Directory", "path": "folder"}})
    outputs = site.json(f"/runs/{run_id}/outputs")["outputs"]
    assert [item["path"] for item in outputs] == ["folder/y.txt", "results/x.txt"]
    for item in outputs:
        expected = hashlib.sha256(requests.get(item["url"], timeout=30).content).hexdigest()
        assert item["checksums"] == [{"type": "sha-256", "checksum": expected}]
    (site.folders.work(run_id) / "results/x.txt").write_bytes(b"changed")
    changed = site.json(f"/runs/{run_id}/outputs")["outputs"][1]
    assert changed["checksums"][0]["checksum"] == hashlib.sha256(b"changed").hexdigest()


def test_every_listed_output_can_be_fetched(site: Site, run_id: str) -> None:
    for name in ("a b", "ü", "x#y?z", "100%", "p;q", "~t", "c:d"):
        site.write(run_id, f"out/{name}", name.encode())
    listed = site.json(f"/runs/{run_id}/outputs")["outputs"]
    assert len(listed) == 8
    for item in listed:
        answer = site.get(item["url"].removeprefix(site.wes))
        assert answer.status_code == 200, item
        assert len(answer.content) == item["size"]


def test_an_output_is_served_by_ranges_and_to_head(site: Site, run_id: str) -> None:
    site.write(run_id, "x.bin", b"0123456789")
    answer = site.get(f"/runs/{run_id}/outputs/x.bin", headers={"Range": "bytes=-3"})
    assert (answer.status_code, answer.content) == (206, b"789")
    head = requests.head(f"{site.wes}/runs/{run_id}/outputs/x.bin", timeout=30)
    assert (head.status_code, head.headers.get("Content-Length"), head.content) == (200, "10", b"")


def test_a_page_that_a_run_made_is_not_shown_as_one(site: Site, run_id: str) -> None:
    site.write(run_id, "report.html", b"<script>alert(1)</script>")
    answer = site.get(f"/runs/{run_id}/outputs/report.html")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_link_inside_the_work_folder_is_followed(site: Site, run_id: str) -> None:
    site.write(run_id, "real.txt", b"1").with_name("link.txt").symlink_to("real.txt")
    assert site.get(f"/runs/{run_id}/outputs/link.txt").content == b"1"


def test_nothing_outside_the_work_folder_is_served_or_listed(site: Site, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    work = site.folders.work(run_id)
    (work / "file").symlink_to(tmp_path / "secret")
    (work / "folder").symlink_to(tmp_path)
    (work / "up").symlink_to("..")
    (work / "circle").symlink_to(".")
    os.mkfifo(work / "pipe")
    for path in ("file", "folder/secret", "up/1", "pipe", "folder", "../1", "%2e%2e/1", "etc/passwd"):
        assert site.get(f"/runs/{run_id}/outputs/{path}").status_code == 404, path
    assert "secret" not in site.get(f"/runs/{run_id}/outputs").text


@pytest.mark.parametrize("path", ["..%2f..%2fweft.db", "%00", "a%00b", "x" * 5000, "Snakefile/", "./x", "%ff"])
def test_a_strange_path_is_not_found(site: Site, run_id: str, path: str) -> None:
    answer = site.get(f"/runs/{run_id}/outputs/{path}")
    assert answer.status_code in (400, 404), answer.text


def test_much_is_not_read_for_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BYTES_AT_ONCE", 3)
    monkeypatch.setattr(checksums, "LARGEST", 5)
    names = ["a", "b", "c", "huge"]
    work = tmp_path / "work"
    work.mkdir()
    for name, body in zip(names, (b"aaaa", b"bb", b"cc", b"too large"), strict=True):
        (work / name).write_bytes(body)
    sums = checksums.Checksums(WorkFolder(work), tmp_path / "kept.json")
    seen = [sorted(sums.of(names)) for _ in range(4)]
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "work"]
