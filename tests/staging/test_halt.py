"""What is fetched for a job that was cancelled stops where it is, and leaves nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import a_task
from tests.staging.conftest import Handler, Web, a_fetch
from tests.staging.ftp_server import FtpSite
from weft.errors import StagingFailed
from weft.folders import AttemptFolder
from weft.model import Input, Task
from weft.sections.transfer import FtpSettings
from weft.staging import halt
from weft.staging.file import FileStager
from weft.staging.ftp import FtpStager
from weft.staging.stagers import Stagers
from weft.staging.transfer import prepare


class Halting:
    """Stages in a thread, as a worker does, and sets the event that a cancel sets."""

    def __init__(self, task: Task, attempt: AttemptFolder, stagers: Stagers) -> None:
        self.event = threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._stage, args=(task, attempt, stagers))

    def _stage(self, task: Task, attempt: AttemptFolder, stagers: Stagers) -> None:
        try:
            with halt.heeding(self.event):
                prepare(task, attempt, stagers)
        except Exception as error:
            self.error = error

    def halted_at(self, moment: threading.Event) -> str:
        """Set the event at this moment; return what the thread said when it ended."""
        self.thread.start()
        assert moment.wait(10)
        self.event.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert isinstance(self.error, StagingFailed)
        return self.error.message


def endless(begun: threading.Event, gone: threading.Event) -> Callable[[Handler], None]:
    """Answer with bytes that never end, and tell when nobody takes them any more."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
                begun.set()
        except OSError:
            gone.set()
            handler.close_connection = True

    return answer


def test_an_endless_body_is_let_go_of(web: Web, attempt: AttemptFolder, stagers: Stagers) -> None:
    begun, gone = threading.Event(), threading.Event()
    web.answers["/endless"] = endless(begun, gone)
    inputs = tuple(Input(path=f"/in/{number}", url=web.url("/endless")) for number in range(20))
    said = Halting(a_task(inputs=inputs), attempt, stagers).halted_at(begun)
    assert "cancelled" in said
    assert gone.wait(10)
    assert web.count("/endless") <= 8  # those that had not begun never do
    assert list(attempt.mounts.rglob("*")) == [attempt.mounts / "in"]


def test_a_pause_before_the_next_try_ends_at_once(web: Web, attempt: AttemptFolder, stagers: Stagers) -> None:
    asked = threading.Event()

    def refuse(handler: Handler) -> None:
        handler.say(503, b"")
        asked.set()

    web.answers["/busy"] = refuse
    halting = Halting(a_task(inputs=(Input(path="/in/x", url=web.url("/busy")),)), attempt, stagers)
    assert "cancelled" in halting.halted_at(asked)
    assert web.count("/busy") == 1


def test_every_loop_over_chunks_looks(tmp_path: Path, attempt: AttemptFolder, stagers: Stagers, data: Path) -> None:
    (data / "f").write_bytes(b"x" * 100)
    event = threading.Event()
    event.set()
    stager = stagers.for_url(f"file://{data}/f")
    assert isinstance(stager, FileStager)
    with halt.heeding(event), pytest.raises(halt.Halted):
        stager.download(f"file://{data}/f", tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]
    stager.download(f"file://{data}/f", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == 100


def test_an_ftp_transfer_is_broken_off(tmp_path: Path) -> None:
    folder = tmp_path / "ftp"
    folder.mkdir()
    (folder / "f").write_bytes(b"x" * (1 << 20))
    site = FtpSite(folder)
    site.start()
    try:
        event = threading.Event()
        event.set()
        with halt.heeding(event), pytest.raises(halt.Halted):
            FtpStager(FtpSettings(), a_fetch()).download(site.url("/f"), tmp_path / "copy")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ftp"]
    finally:
        site.stop()


def test_without_a_job_nothing_is_halted() -> None:
    halt.check()
    halt.pause(0.001)
    assert halt.heeded() is None
