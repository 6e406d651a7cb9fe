"""Submissions on disk."""

from __future__ import annotations

from pathlib import Path

from weft import submissions
from weft.model import Kind, Mount, Resources, Step, Submission


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    work = Submission(
        key="a-1",
        job_id="a",
        attempt=1,
        kind=Kind.TASK,
        steps=(Step(image="i", command=("echo", "é\n'\""), env={"A": "b"}, stdout="/o/x", ignore_error=True),),
        folder=tmp_path,
        mounts=(Mount(source=tmp_path / "m", target="/o"),),
        resources=Resources(cpu_cores=2, ram_gb=0.5, zones=("z",), backend_parameters={"network": "true"}),
        uid=5,
        gid=5,
    )
    submissions.save(work)
    assert submissions.load(tmp_path) == work


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert submissions.load(tmp_path) is None
