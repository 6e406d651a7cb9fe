"""Workflows of a tool registry (GA4GH TRS 2.x): ``trs://HOST/ID[/VERSION]``, or the URL of a version's descriptor.

The descriptors of the version are written below one folder at the paths that the registry gives them, so that one
finds the other as it did where it was registered. https://ga4gh.github.io/tool-registry-service-schemas/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import orjson

from weft.errors import InvalidRequest, StagingFailed, TooLarge
from weft.paths import Tree, relative_name
from weft.sections.transfer import TrsSettings
from weft.staging.checksums import check_bytes
from weft.staging.guard import GuardedClient
from weft.staging.urls import shown

FIELD = "workflow_url"
API = "/ga4gh/trs/v2"
_FORM = "trs://HOST/ID/VERSION, with '/' in the id as %2F and '#' as %23"
#: ``…/tools/ID/versions/VERSION/TYPE/descriptor[/PATH]``; TYPE may be the plain one, which has no JSON around it.
_DESCRIPTOR = re.compile(
    r"(?P<api>.*)/tools/(?P<tool>[^/]+)/versions/(?P<version>[^/]+)"
    r"/(?:PLAIN[-_])?(?P<type>[A-Za-z]+)/descriptor(?:/+(?P<path>.+))?"
)
_TAKEN = ("PRIMARY_DESCRIPTOR", "SECONDARY_DESCRIPTOR")
_MOST_FILES = 1000
_MOST_BYTES = 64 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What a ``workflow_url`` names in a registry; texts are decoded."""

    #: URL of the API, up to its version.
    api: str
    tool: str
    #: None for the only one there is.
    version: str | None
    #: Of the descriptor, where the URL says so.
    type: str | None = None
    #: Of the descriptor that is meant; None for the primary one.
    path: str | None = None
    #: For CWL: which object of the document.
    fragment: str = ""

    @property
    def url(self) -> str:
        """Where the registry tells of this tool."""
        return f"{self.api}/tools/{quote(self.tool, safe='')}"


class Registries:
    """Reads workflows from tool registries."""

    def __init__(self, settings: TrsSettings, client: GuardedClient) -> None:
        """Keep the guarded client and what the site says of registries."""
        self._tokens = {host.lower(): token for host, token in settings.tokens.items()}
        self._http_hosts = frozenset(host.lower() for host in settings.http_hosts)
        self._client = client

    def named(self, workflow_url: str) -> Tool | None:
        """Return what the URL names in a registry; None where it is of another kind.

        :raises InvalidRequest: a ``trs://`` URL that names no tool.
        """
        parts = urlsplit(workflow_url)
        if parts.scheme == "trs":
            return self._of_trs(workflow_url)
        if parts.scheme not in ("http", "https"):
            return None
        match = _DESCRIPTOR.fullmatch(parts.path)
        if match is None:
            return None
        return Tool(
            api=parts._replace(path=match["api"], query="", fragment="").geturl(),
            tool=unquote(match["tool"]),
            version=unquote(match["version"]),
            type=match["type"].upper(),
            path=None if match["path"] is None else unquote(match["path"]),
            fragment=parts.fragment,
        )

    def check(self, tool: Tool, workflow_type: str) -> None:
        """Refuse what can never be fetched or run. No network.

        :raises InvalidRequest: its descriptor is of another language.
        :raises Forbidden: this server may not fetch it.
        """
        if tool.type is not None and tool.type != workflow_type.upper():
            raise InvalidRequest(
                f"{FIELD}: a descriptor of type {tool.type} is no workflow of type {workflow_type}",
                field=FIELD,
                remedy=f"send workflow_type {tool.type}, or the URL of a descriptor of type {workflow_type}",
            )
        self._client.check(tool.url)

    def fetch(self, tool: Tool, workflow_type: str, folder: Path) -> str:
        """Write a version's descriptors below ``folder`` and return the one to run, with its fragment.

        A file that is there already is kept, whoever wrote it.

        :raises WeftError: the registry does not answer, has no such workflow, or sends what cannot be kept.
        """
        tool = replace(tool, version=tool.version or self._only_version(tool))
        where = f"{tool.url}/versions/{quote(str(tool.version), safe='')}/{workflow_type}"
        listed = list(self._listed(tool, where))
        primary = next((path for path, kind in listed if kind == _TAKEN[0]), None)
        wanted = tool.path or primary
        if wanted is None:
            raise StagingFailed(f"{shown(where)} has no primary descriptor")
        names = _placed(dict.fromkeys([wanted, *(path for path, _ in listed)]))
        left = _MOST_BYTES
        for path, name in names.items():
            url = f"{where}/descriptor" if path == primary else f"{where}/descriptor/{quote(path, safe='')}"
            body = self._descriptor(url, left)
            left -= len(body)
            _write(folder, name, body)
        return f"{names[wanted]}#{tool.fragment}" if tool.fragment else names[wanted]

    def _of_trs(self, url: str) -> Tool:
        text, _, fragment = url.partition("#")
        parts = urlsplit(text)
        names = [unquote(name) for name in parts.path.strip("/").split("/")]
        if not parts.netloc or not all(names) or len(names) > 2 or parts.query or "\0" in "".join(names):
            raise InvalidRequest(f"{FIELD}: {shown(url)[:200]} names no tool of a registry", field=FIELD, remedy=_FORM)
        scheme = "http" if parts.netloc.lower() in self._http_hosts else "https"
        return Tool(
            api=f"{scheme}://{parts.netloc}{API}",
            tool=names[0],
            version=names[1] if len(names) == 2 else None,
            fragment=fragment,
        )

    def _only_version(self, tool: Tool) -> str:
        """Return the version of a tool that has one; which of several is meant would be a guess."""
        found = self._json(f"{tool.url}/versions", _MOST_BYTES)
        versions = [_name_of(item) for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        if len(versions) != 1:
            listed = ", ".join(versions[:50]) or "none"
            raise StagingFailed(f"{shown(tool.url)} has not one version but: {listed}; name one in {FIELD}")
        return versions[0]

    def _listed(self, tool: Tool, where: str) -> Iterator[tuple[str, str]]:
        """Yield path and type of each descriptor of a version.

        :raises StagingFailed: the answer is none of TRS, or has more files than one workflow may have.
        """
        found = self._json(f"{where}/files", _MOST_BYTES)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise StagingFailed(f"the answer for {shown(where)}/files is no list of files")
        taken = [(str(item.get("path") or ""), str(item.get("file_type"))) for item in found]
        taken = [(path, kind) for path, kind in taken if path and kind in _TAKEN]
        if len(taken) > _MOST_FILES:
            raise StagingFailed(f"{shown(tool.url)} has more than {_MOST_FILES} descriptors")
        yield from taken

    def _descriptor(self, url: str, most: int) -> bytes:
        """Return one descriptor, verified where the registry names a checksum of it."""
        found = self._json(url, 2 * most)
        if not isinstance(found, dict):
            raise StagingFailed(f"the answer for {shown(url)} is no file")
        if isinstance(found.get("content"), str):
            body = str(found["content"]).encode()
        elif isinstance(found.get("url"), str):
            body = self._client.get_bytes(urljoin(url, found["url"]), most)
        else:
            raise StagingFailed(f"the answer for {shown(url)} has neither content nor url")
        if len(body) > most:
            raise TooLarge(f"the descriptors at {shown(url)} are larger than {_MOST_BYTES} bytes in all")
        given = found.get("checksum")
        check_bytes(
            body, [item for item in given if isinstance(item, dict)] if isinstance(given, list) else (), shown(url)
        )
        return body

    def _json(self, url: str, most: int) -> Any:
        token = self._tokens.get(urlsplit(url).netloc.lower())
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        body = self._client.get_bytes(url, most, headers={"Accept": "application/json", **headers})
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise StagingFailed(f"the answer for {shown(url)} is not JSON") from error


def _name_of(version: Mapping[str, Any]) -> str:
    """Return a version's id as it stands in URLs: some registries put the tool's before it, after a colon."""
    return str(version.get("id", "")).rpartition(":")[2]


def _placed(paths: Mapping[str, None]) -> dict[str, str]:
    """Return for each of the registry's paths the one below the run's folder.

    Paths are relative to the primary descriptor, so some may lead upwards: then all lie as many folders deeper.

    :raises StagingFailed: a path that cannot be kept.
    """
    split = {path: _parts(path) for path in paths}
    up = max((parts.count("..") for parts in split.values()), default=0)
    below = [f"up{index}" for index in range(up)]
    placed = {
        path: "/".join([*below[: len(below) - parts.count("..")], *_plain(parts)]) for path, parts in split.items()
    }
    for path, name in placed.items():
        try:
            relative_name(name, FIELD)
        except InvalidRequest as error:
            raise StagingFailed(f"the registry names a file {path[:200]!r}: {error.message}") from error
    return placed


def _parts(path: str) -> list[str]:
    """Normalise by the text alone; ``..`` is left at the beginning only. A leading slash is the repository's root."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return kept


def _plain(parts: list[str]) -> list[str]:
    return [part for part in parts if part != ".."]


def _write(folder: Path, name: str, body: bytes) -> None:
    """Write a file with the folders that it needs, whole or not at all; one that is there already is kept."""
    path = PurePosixPath(folder / name)
    temporary = f".{path.name}.trs"
    handle = Tree({str(folder): folder}).folder(str(path.parent), make=True)
    try:
        with os.fdopen(os.open(temporary, _CREATE, 0o644, dir_fd=handle), "wb") as stream:
            stream.write(body)
        with suppress(FileExistsError):
            os.link(temporary, path.name, src_dir_fd=handle, dst_dir_fd=handle)
        os.unlink(temporary, dir_fd=handle)
    except OSError as error:
        raise StagingFailed(f"{name[:200]!r} cannot be written: {error.strerror}") from error
    finally:
        os.close(handle)
