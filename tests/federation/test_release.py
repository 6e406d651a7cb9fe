"""What leaves a site: only what its policy or a person lets out, byte for byte, and the rest is said to be there."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.builders import NOW, a_job, a_run
from weft.cli import main
from weft.errors import Conflict, Forbidden, InvalidRequest, TooLarge, Unavailable
from weft.federation import inbox
from weft.federation.ledger import Ledgers
from weft.federation.outbox import Outbox
from weft.federation.release import Decision, judge
from weft.folders import Folders
from weft.model import Job, JsonObject, Kind
from weft.sections.service import ReleaseSettings
from weft.states import State

REPORT: JsonObject = {"stage": "ended", "phase": "ENDED", "messages": ["done"]}
KEY = "hubjob-1"


@dataclass
class Site:
    """A site's outbox, and a hub that takes in what it sends."""

    folder: Path
    policy: str
    hub_folders: Folders = field(init=False)
    faults: list[Exception] = field(default_factory=list)
    parts: int = 0

    def __post_init__(self) -> None:
        self.hub_folders = Folders(self.folder / "hub")

    @property
    def outbox(self) -> Outbox:
        """Return one that remembers nothing, as after a death."""
        settings = ReleaseSettings(policy=self.policy, count_columns=("n",))  # type: ignore[arg-type]
        ledgers = Ledgers(self.folder / "data" / "node")
        return Outbox(settings=settings, ledgers=ledgers, folders=Folders(self.folder / "data"), clock=lambda: NOW)

    def job(self, outputs: Any = None, **files: str) -> Job:
        job = a_job(run=a_run(), state=State.COMPLETE, owner="https://hub|me|alice")
        work = Folders(self.folder / "data").work(job.id)
        work.mkdir(parents=True)
        for name, text in files.items():
            (work / f"{name}.tsv").write_text(text)
        (work / "leak").symlink_to("/etc/hostname")
        given = {"files": [f"{name}.tsv" for name in files], "more": "leak"} if outputs is None else outputs
        return Job(**{**{name: getattr(job, name) for name in Job.__dataclass_fields__}, "outputs": given})

    def settle(self, job: Job) -> JsonObject:
        return self.outbox.settle(KEY, job, {**REPORT, "run_outputs": job.outputs}, self.ask)

    def ask(self, action: str, body: JsonObject) -> JsonObject:
        assert action == "release"
        self.parts += 1
        if self.faults:
            raise self.faults.pop(0)
        return {"whole": inbox.receive(self.hub_folders, "hubjob", body, most=1000)}

    def arrived(self) -> dict[str, str]:
        work = self.hub_folders.work("hubjob")
        return {path.name: path.read_text() for path in sorted(work.rglob("*")) if path.is_file()}


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    return Site(tmp_path, request.param)


@pytest.mark.parametrize("site", ["stay"], indirect=True)
def test_by_default_nothing_leaves_and_the_hub_hears_why(site: Site) -> None:
    said = site.settle(site.job(a="n\n100\n"))
    assert site.arrived() == {}
    assert said["run_outputs"] == {"files": [], "more": "leak", "withheld": {"a.tsv": "outputs stay at this site"}}
    assert "a.tsv was withheld: outputs stay at this site" in said["messages"]
    assert (said["stage"], said["metadata"]) == ("ended", {"released": "0", "withheld": "1"})
    assert ReleaseSettings().policy == "stay"


@pytest.mark.parametrize("site", ["auto"], indirect=True)
def test_auto_sends_what_the_outputs_name_and_never_what_a_link_leads_to(site: Site) -> None:
    said = site.settle(site.job(a="n\n1\n", b="n\n2\n"))
    assert site.arrived() == {"a.tsv": "n\n1\n", "b.tsv": "n\n2\n"}
    assert said["run_outputs"] == {"files": ["a.tsv", "b.tsv"], "more": "leak"}


@pytest.mark.parametrize("site", ["checked"], indirect=True)
def test_checks_let_through_file_by_file(site: Site) -> None:
    said = site.settle(site.job(good="n\tm\n10\t1\n0\t2\nNA\t3\n", small="n\n10\n4\n", none="x\n1\n"))
    assert list(site.arrived()) == ["good.tsv"]
    withheld = said["run_outputs"]["withheld"]
    assert withheld["small.tsv"] == "it did not pass the site's checks: line 3, column 'n': a count below 5"
    assert "none of the columns n" in withheld["none.tsv"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.vcf", b"", "its type .vcf is not one of"),
        ("a", b"", "its type (none)"),
        ("a.txt", b"x" * 2_000_001, "bytes are more than 2000000"),
        ("a.tsv", b"n\n\xff\xfe\n", "no table of text"),
        ("a.csv", b"n,m\n9\n", "line 2 has 1 cells and not 2"),
        ("a.csv", b"n,m\n9,4.0\n", "column 'm': a count below 5"),
        ("a.csv", b"n,m\n9,-3\n", "column 'm'"),
    ],
)
def test_what_does_not_pass_says_why(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    verdict = judge(ReleaseSettings(policy="checked", max_mb=2), name, file)
    assert verdict.decision is Decision.WITHHELD
    assert words in verdict.reason


@pytest.mark.parametrize("site", ["manual"], indirect=True)
def test_a_person_decides_file_by_file_and_the_job_waits_for_it(site: Site) -> None:
    job = site.job(a="n\n1\n", b="n\n2\n")
    waits = site.settle(job)
    assert (waits["stage"], waits["phase"], "run_outputs" in waits) == ("taken", "RUNNING", False)
    assert "2 of its files wait for the site's review (a.tsv, b.tsv)" in waits["messages"][-1]
    work = Folders(site.folder / "data").work(job.id)
    (work / "a.tsv").write_text("all the genotypes")  # too late: the copy is what is reviewed and sent

    data = ("--data", str(site.folder / "data"))
    listed = CliRunner().invoke(main, ["release", "list", *data]).output
    assert "a.tsv" in listed
    assert "me|alice" in listed
    own = CliRunner().invoke(main, ["release", "approve", KEY, "a.tsv", "--reviewer", "Alice", *data])
    assert (own.exit_code, "may not review it" in own.output) == (1, True)
    done = CliRunner().invoke(main, ["release", "approve", KEY, "a.tsv", "--reviewer", "bob", *data])
    assert (done.exit_code, done.output) == (0, "a.tsv: approved by bob\n")
    assert site.settle(job)["stage"] == "taken"
    CliRunner().invoke(main, ["release", "reject", job.id, "--reason", "too detailed", "--reviewer", "bob", *data])

    said = site.settle(job)
    assert site.arrived() == {"a.tsv": "n\n1\n"}
    assert said["run_outputs"]["withheld"] == {"b.tsv": "too detailed"}
    assert "approved by bob" in CliRunner().invoke(main, ["release", "list", "--all", *data]).output
    again = CliRunner().invoke(main, ["release", "approve", KEY, "b.tsv", "--reviewer", "bob", *data])
    assert "withheld already" in again.output


@pytest.mark.parametrize("site", ["manual"], indirect=True)
def test_a_copy_that_changed_is_neither_approved_nor_sent(site: Site) -> None:
    job = site.job(a="n\n1\n", b="n\n2\n")
    site.settle(job)
    ledgers = site.outbox.ledgers
    ledgers.file(KEY, 0).write_text("something else")
    with pytest.raises(Conflict, match="not the file that was listed"):
        ledgers.decide(KEY, "a.tsv", Decision.APPROVED, "ok", "bob", now=NOW)
    ledgers.decide(KEY, "b.tsv", Decision.APPROVED, "ok", "bob", now=NOW)
    ledgers.file(KEY, 1).write_text("something else")
    site.outbox.abandon(KEY, "cancelled by the hub")
    assert site.settle(job)["run_outputs"]["withheld"] == {
        "a.tsv": "cancelled by the hub",
        "b.tsv": "the file changed after it was decided on",
    }
    assert site.arrived() == {}


@pytest.mark.parametrize("site", ["auto"], indirect=True)
def test_a_hub_that_is_away_gets_the_rest_later_and_nothing_twice(site: Site) -> None:
    job = site.job(a="n\n1\n", b="n\n2\n")
    site.faults = [Unavailable("away")]
    with pytest.raises(Unavailable):
        site.settle(job)
    assert site.settle(job)["metadata"] == {"released": "2", "withheld": "0"}
    assert site.arrived() == {"a.tsv": "n\n1\n", "b.tsv": "n\n2\n"}
    assert site.parts == 3
    site.settle(job)
    assert site.parts == 3


@pytest.mark.parametrize("site", ["auto"], indirect=True)
def test_what_the_hub_does_not_take_is_withheld_in_its_words(site: Site) -> None:
    said = site.settle(site.job(a="x" * 2000, b="n\n2\n"))
    assert "a.tsv has 2000 bytes, and this hub takes 1000" in said["run_outputs"]["withheld"]["a.tsv"]
    assert list(site.arrived()) == ["b.tsv"]


@pytest.mark.parametrize("site", ["auto"], indirect=True)
def test_a_run_that_failed_sends_nothing(site: Site) -> None:
    job = site.job(a="n\n1\n")
    failed = Job(**{**{name: getattr(job, name) for name in Job.__dataclass_fields__}, "state": State.EXECUTOR_ERROR})
    assert "run_outputs" not in site.settle(failed)
    assert site.arrived() == {}


@pytest.mark.parametrize("site", ["checked", "auto"], indirect=True)
def test_a_task_that_would_store_outputs_by_itself_comes_in_only_where_all_may_leave(site: Site) -> None:
    site.outbox.check(Kind.TASK, {"executors": []})
    if site.policy == "auto":
        site.outbox.check(Kind.TASK, {"outputs": [{"url": "s3://b/o"}]})
        return
    with pytest.raises(Forbidden, match="its release policy is checked"):
        site.outbox.check(Kind.TASK, {"outputs": [{"url": "s3://b/o"}]})


def test_logs_stay_where_the_site_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, "auto")
    quiet = replace(site.outbox, settings=ReleaseSettings(policy="auto", logs=False))
    report = {"stage": "taken", "tails": [{"step": 0, "stdout": "a genome", "stderr": ""}]}
    assert quiet.settle(KEY, site.job(), report, site.ask) == {"stage": "taken"}
    assert site.outbox.settle(KEY, site.job(), report, site.ask) == report


def a_part(data: bytes, **changes: Any) -> JsonObject:
    whole = changes.pop("whole", data)
    part = {"path": "deep/x", "size_bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "offset": 0}
    return {**part, "data": base64.b64encode(data).decode(), **changes}


def test_parts_become_a_file_once_all_are_there_and_may_come_twice(tmp_path: Path) -> None:
    folders, whole = Folders(tmp_path), b"first second"
    first, second = a_part(b"first ", whole=whole), a_part(b"second", whole=whole, offset=6)
    target = folders.work("j") / "deep" / "x"
    assert inbox.receive(folders, "j", first, most=100) is False
    assert inbox.receive(folders, "j", first, most=100) is False
    assert not target.exists()
    assert inbox.receive(folders, "j", second, most=100) is True
    assert target.read_bytes() == whole
    assert inbox.receive(folders, "j", second, most=100) is True
    assert [path.name for path in target.parent.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"path": "../x"}, InvalidRequest),
        ({"path": "/etc/x"}, InvalidRequest),
        ({"path": "planted/x"}, InvalidRequest),
        ({"sha256": "0" * 64}, InvalidRequest),
        ({"sha256": "../../x"}, InvalidRequest),
        ({"offset": 3}, InvalidRequest),
        ({"offset": -1}, InvalidRequest),
        ({"data": "?"}, InvalidRequest),
        ({"size_bytes": 101}, TooLarge),
        ({"size_bytes": 2}, InvalidRequest),
    ],
)
def test_a_part_that_does_not_fit_is_refused_and_nothing_is_stored(
    tmp_path: Path, changes: JsonObject, error: type[Exception]
) -> None:
    folders = Folders(tmp_path / "data")
    folders.work("j").mkdir(parents=True)
    (folders.work("j") / "planted").symlink_to(tmp_path)
    with pytest.raises(error):
        inbox.receive(folders, "j", a_part(b"abc") | changes, most=100)
    assert not any(path.name == "x" for path in tmp_path.rglob("*"))


def test_a_reviewer_is_not_who_asked(tmp_path: Path) -> None:
    site = Site(tmp_path, "manual")
    site.settle(site.job(a="n\n9\n"))
    for name in ("alice", "ALICE", "me|alice"):
        with pytest.raises(Forbidden):
            site.outbox.ledgers.decide(KEY, "a.tsv", Decision.APPROVED, "mine", name, now=NOW)
