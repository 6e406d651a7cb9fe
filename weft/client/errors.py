"""What can go wrong when talking to a server, each with the exit code that a script sees."""

from __future__ import annotations


class ClientError(Exception):
    """The server did not do what it was asked."""

    exit_code: int = 2

    def __init__(self, message: str = "", *, field: str | None = None, remedy: str | None = None) -> None:
        """Keep the server's words: what is wrong, in which field, and what to do about it."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.field = field
        self.remedy = remedy
        super().__init__(self.message)

    def describe(self) -> str:
        """Return the error as one to three lines for a person."""
        lines = [self.message]
        if self.field:
            lines.append(f"  field:  {self.field}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


class BadRequest(ClientError):
    """The request is not one that the server accepts."""


class Missing(ClientError):
    """The server has no such thing."""


class NotAllowed(ClientError):
    """The server refused the credentials."""

    exit_code = 5


class Unreachable(ClientError):
    """The server does not answer."""

    exit_code = 5


class ServerFailed(ClientError):
    """The server failed, or is not what it was taken for."""

    exit_code = 5


class TimedOut(ClientError):
    """The time given with --timeout is over; the job goes on."""

    exit_code = 6
