"""Log events, not prose: ``log.info("job moved", job=…, target=…)`` as one readable line, or as JSON."""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any

import orjson

#: Fields of every line that is logged in this context, such as the id of the request that is being answered.
bound: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)


class EventLogger:
    """A thin skin over ``logging`` that takes an event's fields as keywords."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    @property
    def debugs(self) -> bool:
        """Whether ``debug`` writes anything, for those who would have to find out what first."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, **fields: Any) -> None:
        """Log something for developers."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log something that happened."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log something an operator should know."""
        self._log(logging.WARNING, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log an unexpected error with its traceback."""
        self._logger.error(event, extra={"fields": {**fields, **(bound.get() or {})}}, exc_info=True)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": {**fields, **(bound.get() or {})}})


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module."""
    return EventLogger(logging.getLogger(name))


#: What is secret wherever it stands: credentials in headers and URLs, tokens of weft, JWTs, signatures in queries.
_SECRETS = re.compile(
    r"""
    (?P<scheme>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}
    | (?P<site>[a-z][a-z0-9+.-]*://)[^\s/@"'<>]*@
    | (?P<name>\b[\w.-]*(?:token|secret|password|passwd|signature|credential|api[_-]?key|authorization)[\w.-]*
        ["']?\s*[=:]\s*["']?)(?!Bearer\b|Basic\b)[^\s&"',;)}\]]+
    | \bweft_[A-Za-z0-9_-]{16,}
    | \bey[JI][A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*
    """,
    re.VERBOSE | re.IGNORECASE,
)


def masked(text: str) -> str:
    """Replace what looks like a secret by ``***``, whoever wrote it into a line."""
    return _SECRETS.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    site = found["site"]
    return f"{site}***@" if site else f"{found['scheme'] or found['name'] or ''}***"


_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        tail = "".join(f" {key}={_one_line(value)}" for key, value in fields.items() if value is not None)
        line = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')} {record.levelname:<7} {record.getMessage()}{tail}"
        return masked(line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}")


def _one_line(value: Any) -> str:
    """Write a value so that nothing in it can pass for another line of the log."""
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {"at": record.created, "level": record.levelname, "event": record.getMessage()}
        entry.update(getattr(record, "fields", {}))
        if record.exc_info is not None:
            entry["traceback"] = self.formatException(record.exc_info)
        return masked(orjson.dumps(entry, default=str).decode())


def configure(level: str = "INFO", *, as_json: bool = False) -> None:
    """Send weft's events to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("weft", "executors", "tes_service", "wes_service"):
        logging.getLogger(name).setLevel(level.upper())
