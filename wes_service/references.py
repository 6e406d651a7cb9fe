"""Check a ``workflow_url``: a name among the attachments, a workflow of a tool registry, or an http(s) URL."""

from __future__ import annotations

import re
from typing import Protocol

from weft.errors import InvalidRequest
from weft.staging.trs import Tool

FIELD = "workflow_url"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FORMS = "send the name of an attached file, an http or https URL, or trs://HOST/ID/VERSION"


class CheckUrl(Protocol):
    """Refuses a URL that weft could or may never fetch (``Stager.check``)."""

    def __call__(self, url: str, *, writing: bool) -> None:
        """Raise ``InvalidRequest`` or ``Forbidden``, or do nothing."""
        ...


class Registries(Protocol):
    """What is asked of the tool registries' client (``weft.staging.trs``)."""

    def named(self, workflow_url: str) -> Tool | None:
        """Return what the URL names in a registry, if it does."""
        ...

    def check(self, tool: Tool, workflow_type: str) -> None:
        """Refuse what can never be fetched or run."""
        ...


def check_reference(
    workflow_url: str, workflow_type: str, *, attached: bool, check_url: CheckUrl, registries: Registries
) -> None:
    """Refuse a URL that can never lead to a workflow. No network.

    A name that matches none of the attachments is accepted: the run then fails and says so in its log.

    :param workflow_type: in canonical case.
    :param attached: whether the request has attachments at all.
    :raises InvalidRequest: malformed, of another scheme, or relative with nothing attached.
    :raises Forbidden: this server may not fetch it.
    """
    scheme = _SCHEME.match(workflow_url)
    tool = registries.named(workflow_url)
    if tool is not None:
        registries.check(tool, workflow_type)
    elif scheme is None:
        _check_name(workflow_url, attached=attached)
    elif scheme[1].lower() in ("http", "https"):
        check_url(workflow_url.partition("#")[0], writing=False)
    else:
        raise _refused(f"the scheme '{scheme[1][:50]}' cannot be fetched", _FORMS)


def _check_name(name: str, *, attached: bool) -> None:
    path = name.partition("#")[0]
    if not path:
        raise _refused("it names no file", _FORMS)
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise _refused("a name must stay inside the run's folder", f"{_FORMS}, such as workflow/Snakefile")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise _refused("it has a control character", _FORMS)
    if not attached:
        remedy = f"attach '{path[:100]}' as workflow_attachment (multipart/form-data), or send an http or https URL"
        raise _refused(f"'{path[:100]}' is relative, but the request has no workflow_attachment", remedy)


def _refused(what: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f"{FIELD}: {what}", field=FIELD, remedy=remedy)
