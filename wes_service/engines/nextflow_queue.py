"""Be the cluster that Nextflow submits to: each job is a TES task of this weft.

Nextflow speaks to a cluster by three commands (``nextflow_shim``) and by files: a task has started when
``.command.begin`` is there, and has ended when ``.exitcode`` is. The wrapper script writes both. Where a task ends
before its wrapper could, the exit code and the reason are written here in its stead.
"""

from __future__ import annotations

import os
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from wes_service.engines import nextflow_shim
from wes_service.engines.nextflow_task import WRAPPER, CannotRun, options_of, task_of
from wes_service.engines.program import Place, create_patiently, explain, failed_step
from wes_service.engines.task_watch import TaskWatch
from wes_service.engines.tes_client import TesRefused, TesUnavailable

COMMANDS = ("sbatch", "squeue", "scancel")
#: The exit code of a task that left none.
LOST = 1
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class _Sent:
    task_id: str
    name: str
    folder: Path


class Refused(Exception):
    """What a command answers with an exit code other than 0."""


class Queue:
    """The jobs of one engine process, by the numbers that Nextflow knows them by."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        """Keep where the tasks go; ``say`` gets what a person should read."""
        self._place = place
        self._say = say
        self._lock = threading.Lock()
        self._count = 0
        self._sent: dict[int, _Sent] = {}
        self._watch = TaskWatch(place.client, place.tags, lambda error: say(f"{type(error).__name__}: {error}"))

    def answer(self, command: str, folder: Path, words: Sequence[str]) -> str:
        """Do what one of the commands asks, and return what it prints.

        :raises Refused: what it prints instead, with an exit code of 1.
        """
        if command == "sbatch":
            return f"Submitted batch job {self._submit(folder)}"
        if command == "squeue":
            with self._lock:
                return "\n".join(f"{number} R" for number in self._sent)
        for word in words:
            if word.isdecimal():
                self._cancel(int(word))
        return ""

    def cancel_all(self) -> None:
        """Cancel whatever still runs."""
        self._watch.cancel_all()

    def stop(self) -> None:
        """Stop watching; tasks go on."""
        self._watch.stop()

    def _submit(self, folder: Path) -> int:
        place = self._place
        try:
            with (folder / WRAPPER).open(encoding="utf-8") as wrapper:
                options = options_of(wrapper)
            document = task_of(
                options,
                folder,
                place.work,
                default_image=place.default_image,
                tags=place.tags,
                time_limit_parameter=place.time_limit_parameter,
            )
            key = f"{place.session}-{folder.parent.name}-{folder.name}"
            task_id = create_patiently(place.client, document, key=key, say=self._say)
        except (CannotRun, TesRefused, TesUnavailable, OSError, ValueError) as error:
            raise Refused(str(error)) from error
        with self._lock:
            self._count += 1
            number = self._count
            self._sent[number] = _Sent(task_id, document["name"], folder)
        self._watch.add(task_id, lambda task, state: self._ended(number, task, state))
        return number

    def _cancel(self, number: int) -> None:
        with self._lock:
            sent = self._sent.get(number)
        if sent is not None:
            with suppress(TesRefused, TesUnavailable):
                self._place.client.cancel(sent.task_id)

    def _ended(self, number: int, task_id: str, state: str) -> None:
        with self._lock:
            sent = self._sent.pop(number)
        logs = [] if state == "COMPLETE" else self._logs_of(task_id)
        said = explain(f"TES task {task_id} of {sent.name} ended in {state}", logs)
        if state not in ("COMPLETE", "CANCELED"):
            self._say(said)
        self._complete(sent.folder, state, said, failed_step(logs).get("exit_code"))

    def _complete(self, folder: Path, state: str, said: str, exit_code: int | None) -> None:
        """Write what the wrapper would have written at its end, unless it has."""
        exit_file = folder / ".exitcode"
        if exit_file.is_file() and exit_file.read_text().strip():
            return
        with (folder / ".command.err").open("a", encoding="utf-8") as notes:
            notes.write(f"{said}\n")
        code = exit_code or (0 if state == "COMPLETE" else LOST)
        temporary = exit_file.with_name(".exitcode.weft")
        temporary.write_text(f"{code}\n")
        temporary.replace(exit_file)

    def _logs_of(self, task_id: str) -> list[object]:
        try:
            found = self._place.client.get(task_id).get("logs")
        except (TesRefused, TesUnavailable):
            return []
        return found if isinstance(found, list) else []


class Commands:
    """A folder with the three commands in it, to be the first on Nextflow's PATH, for as long as this is open."""

    def __init__(self, queue: Queue) -> None:
        """Keep whom the commands ask."""
        self._queue = queue
        self._cleanup = ExitStack()

    def __enter__(self) -> Path:
        """Make the commands and begin to answer them; return their folder."""
        folder = Path(tempfile.mkdtemp(prefix="weft-queue-"))
        self._cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in COMMANDS:
            shutil.copyfile(nextflow_shim.__file__, folder / name)
            (folder / name).chmod(0o755)
        server = _Server(str(folder / "queue"), _Answer)
        server.queue = self._queue
        self._cleanup.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        self._cleanup.callback(thread.join)
        self._cleanup.callback(server.shutdown)
        return folder

    def __exit__(self, *_: object) -> None:
        """Stop answering and remove the commands."""
        self._cleanup.close()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    queue: Queue


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Answer one command: its name, its folder and its words, with a NUL between them."""
        command, folder, *words = self.rfile.read(_LONGEST).decode().split("\0")
        try:
            answer = f"0\n{cast('_Server', self.server).queue.answer(command, Path(folder), words)}"
        except Refused as error:
            answer = f"1\n{error}"
        self.wfile.write(os.fsencode(answer))
