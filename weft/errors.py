"""The tree of errors: each class says who must act, and the class docstring is its default message.

A class that a client may see carries its HTTP ``status``. Only ``weft.http`` turns these into responses.
"""

from __future__ import annotations


class WeftError(Exception):
    """Something went wrong inside weft."""

    status: int = 500

    #: When it may go better, in whole seconds; for ``TooMany`` and ``Unavailable``.
    retry_after: int = 1

    def __init__(
        self,
        message: str = "",
        *,
        field: str | None = None,
        remedy: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Keep the message and, for a caller's mistake, the field that is wrong and what to do about it."""
        if retry_after is not None:
            self.retry_after = retry_after
        self.message = message or (type(self).__doc__ or "").strip()
        self.field = field
        self.remedy = remedy
        super().__init__(self.message)


class InvalidRequest(WeftError):
    """The request is malformed."""

    status = 400


class Unauthenticated(WeftError):
    """The request is unauthorized: send a valid token."""

    status = 401


class InvalidToken(Unauthenticated):
    """The credentials that were sent are not valid."""


class Forbidden(WeftError):
    """The requester is not authorized to perform this action."""

    status = 403


class InsufficientScope(Forbidden):
    """The token does not allow this."""


class NotFound(WeftError):
    """The requested object was not found."""

    status = 404


class Conflict(WeftError):
    """The request contradicts an earlier one."""

    status = 409


class TooSlow(WeftError):
    """The request took too long to arrive."""

    status = 408


class TooLarge(WeftError):
    """The request is larger than this server accepts."""

    status = 413


class UnsupportedMediaType(WeftError):
    """The content type of the request is not one that this operation reads."""

    status = 415


class TooMany(WeftError):
    """Too many requests: try again later."""

    status = 429


class Unavailable(WeftError):
    """A part that weft needs does not answer now: try again later."""

    status = 503


class StagingFailed(WeftError):
    """An input or an output could not be moved; the message names the URL or the path."""

    #: Whether nothing is wrong but that a part did not answer, which it may do later.
    may_pass: bool = False


class ExecutorRefused(WeftError):
    """The executor will never run this job as it is (no such image, too large, not allowed)."""


class UnknownNativeState(WeftError):
    """A backend used a word that its table of states does not have."""


class Bug(WeftError):
    """weft has a bug: please report it."""
