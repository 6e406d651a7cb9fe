"""Listen to what the Engine tells of all our containers: one stream, reopened where it broke, and a sweep beside it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from executors.docker_client import DockerClient
from weft.errors import Unavailable
from weft.logs import get_logger
from weft.model import JsonObject

log = get_logger(__name__)

#: The Engine drops events when a reader is slow or it restarts; a list of our containers heals that (seconds).
SWEEP_EVERY = 30.0
#: Pauses between tries to open the stream, in seconds.
BACK_OFF = (0.1, 0.5, 1.0, 2.0, 5.0)
_ACTIONS = ["start", "kill", "die", "destroy"]


class EventStream:
    """Two threads: one reads events, one sweeps."""

    def __init__(
        self,
        client: DockerClient,
        label: str,
        on_event: Callable[[JsonObject], None],
        on_lost: Callable[[], None],
        sweep: Callable[[], None],
    ) -> None:
        """Tell ``on_event`` of every event of containers with ``label``; ``sweep`` also when the stream is new."""
        self._client = client
        self._filters = {"type": ["container"], "label": [label], "event": _ACTIONS}
        self._on_event = on_event
        self._on_lost = on_lost
        self._sweep = sweep
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stream: socket.socket | None = None
        self._since = ""
        self.connected = False

    def start(self) -> None:
        """Start both threads; may be called twice."""
        if self._threads:
            return
        self._stopping.clear()
        self._since = f"{time.time() - 2:.9f}"
        self._threads = [
            threading.Thread(target=self._listen, name="docker-events", daemon=True),
            threading.Thread(target=self._sweep_often, name="docker-sweep", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; may be called twice."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _listen(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                query = {"since": self._since, "filters": json.dumps(self._filters)}
                stream, first = self._client.open_stream("GET", "/events", query)
                tries = 0
                with stream:
                    self._read(stream, first)
            except (Unavailable, OSError) as error:
                log.debug("no events", error=str(error))
            was_connected, self.connected, self._stream = self.connected, False, None
            if was_connected and not self._stopping.is_set():
                self._on_lost()
            self._stopping.wait(BACK_OFF[min(tries, len(BACK_OFF) - 1)])
            tries += 1

    def _read(self, stream: socket.socket, data: bytes) -> None:
        self._stream = stream
        if self._stopping.is_set():
            return
        self._sweep()
        self.connected = True
        while True:
            *lines, data = data.split(b"\n")
            for line in filter(None, lines):
                event = json.loads(line)
                self._since = _stamp(event)
                self._on_event(event)
            more = stream.recv(65536)
            if not more:
                return
            data += more

    def _sweep_often(self) -> None:
        while not self._stopping.wait(SWEEP_EVERY):
            self._sweep_once()

    def _sweep_once(self) -> None:
        try:
            self._sweep()
        except Unavailable as error:
            log.debug("sweep put off", error=error.message)


def _stamp(event: JsonObject) -> str:
    """Give the time of an event as the ``since`` parameter takes it."""
    nanoseconds = event["timeNano"]
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
