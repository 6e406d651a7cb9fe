"""Which policy is in force: the file's last good version. A change is noticed within seconds, without a restart.

A file that cannot be read any more changes nothing: the version before it stays in force, and the log says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from weft.auth.policy.policy import Policy, parse
from weft.errors import InvalidRequest
from weft.logs import get_logger

log = get_logger(__name__)

#: Pause between looks at the file, in seconds.
LOOK_SECONDS = 2.0


class PolicyFile:
    """Reads ``policy.toml`` and reads it again when it has changed."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        """Read the file.

        :raises InvalidRequest: it is not there, or says what is wrong with it.
        """
        self.path = path
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._policy = load(path)
        self._next_look = monotonic() + LOOK_SECONDS
        self._listeners: tuple[Callable[[Policy], None], ...] = ()

    def on_change(self, listener: Callable[[Policy], None]) -> None:
        """Call ``listener`` (must be quick) with each new version."""
        self._listeners = (*self._listeners, listener)

    def __call__(self) -> Policy:
        """Return what is in force now."""
        if self._monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self._policy

    def _refresh(self) -> None:
        self._next_look = self._monotonic() + LOOK_SECONDS
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            policy = load(self.path)
        except InvalidRequest as error:
            log.warning("policy not changed", field=error.field, error=error.message, in_force=self._policy.version)
            return
        if policy.version != self._policy.version:
            self._policy = policy
            log.info("policy changed", version=policy.version)
            for listener in self._listeners:
                listener(policy)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def load(path: Path) -> Policy:
    """Read a policy file.

    :raises InvalidRequest: it cannot be read, or what is wrong with it and where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"the policy {path} cannot be read: {error.strerror}", field="policy") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the policy {path} is not text in UTF-8", field="policy") from error
    return parse(text)
