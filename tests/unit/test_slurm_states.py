"""Every word that Slurm has for a state means one thing, and a word that it has not is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from executors.slurm_states import failure_of, phase_of, rows
from weft.errors import UnknownNativeState
from weft.ports import Phase

RECORDED = Path(__file__).parent / "data" / "slurm"
#: https://slurm.schedmd.com/squeue.html, JOB STATE CODES of 22.05, and of job_state_codes.html.
MANUAL = {
    Phase.ENDED: "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT",
    Phase.WAITING: "CONFIGURING PENDING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED SPECIAL_EXIT",
    Phase.RUNNING: "COMPLETING RUNNING RESIZING SIGNALING STAGE_OUT STOPPED SUSPENDED",
}


@pytest.mark.parametrize(
    ("phase", "word"), [(phase, word) for phase, words in MANUAL.items() for word in words.split()]
)
def test_each_word_of_the_manual_has_its_phase(phase: Phase, word: str) -> None:
    assert phase_of(word) is phase


@pytest.mark.parametrize("word", ["", "DONE", "completed", "CANCELLED by 0"])
def test_a_word_that_slurm_does_not_have_is_an_error(word: str) -> None:
    with pytest.raises(UnknownNativeState, match="does not know"):
        phase_of(word)


@pytest.mark.parametrize("word", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_what_is_not_the_jobs_own_fault_may_be_tried_again(word: str) -> None:
    failure = failure_of(word)
    assert failure is not None
    assert failure.retry


@pytest.mark.parametrize("word", ["TIMEOUT", "CANCELLED", "DEADLINE"])
def test_what_would_happen_again_is_not_tried_again(word: str) -> None:
    failure = failure_of(word)
    assert failure is not None
    assert not failure.retry


def test_recorded_lines_of_squeue_are_read() -> None:
    found = {row.job_id: row for row in rows((RECORDED / "squeue.txt").read_text())}
    assert len(found) == 6
    assert found["4923003"].name == "odd|name"
    assert [row.complaint for row in found.values() if row.complaint] == [
        "Slurm keeps the job waiting: QOSMaxCpuPerUserLimit"
    ]
    assert [row.job_id for row in found.values() if row.has_ended] == ["4923004", "4923005"]


def test_recorded_lines_of_sacct_are_read_and_who_cancelled_is_left_out() -> None:
    assert [row.state for row in rows((RECORDED / "sacct.txt").read_text())] == ["CANCELLED", "TIMEOUT", "COMPLETED"]


@pytest.mark.parametrize("text", ["", "\n", "slurm_load_jobs error: Socket timed out\n", "1|RUNNING\n"])
def test_other_text_is_no_job(text: str) -> None:
    assert list(rows(text)) == []
