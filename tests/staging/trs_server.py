"""A small TRS 2.0 server for tests: the operations on versions, files and descriptors, over tools that a test adds.

Its documents have the shapes of ``ToolVersion``, ``ToolFile`` and ``FileWrapper`` of the released specification.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from tests.staging.conftest import Handler, Web

API = "/ga4gh/trs/v2"


class TrsSite:
    """Workflows on a ``Web``."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.host = f"127.0.0.1:{web.port}"
        self.token: str | None = None

    def url(self, tool: str, version: str | None = None) -> str:
        return "/".join(["trs:/", self.host, quote(tool, safe=""), *([] if version is None else [version])])

    def descriptor(self, tool: str, version: str, language: str, path: str = "") -> str:
        where = f"{API}/tools/{quote(tool, safe='')}/versions/{version}/{language}/descriptor"
        return self.web.url(f"{where}/{quote(path, safe='')}" if path else where)

    def add(self, tool: str, versions: dict[str, dict[str, str]], language: str = "CWL") -> None:
        """Offer versions, each with its files by path; the first one is the primary descriptor."""
        base = f"{API}/tools/{quote(tool, safe='')}/versions"
        self.answer(base, [{"id": version, "url": f"{self.web.url(base)}/{version}"} for version in versions])
        for version, files in versions.items():
            where = f"{base}/{version}/{language}"
            kinds = ["PRIMARY_DESCRIPTOR", *["SECONDARY_DESCRIPTOR"] * len(files)]
            listed = [{"path": path, "file_type": kind} for path, kind in zip(files, kinds, strict=False)]
            self.answer(f"{where}/files", [*listed, {"path": "test.json", "file_type": "TEST_FILE"}])
            for path, text in files.items():
                self.answer(f"{where}/descriptor/{quote(path, safe='')}", wrapped(text))
            self.answer(f"{where}/descriptor", wrapped(next(iter(files.values()))))

    def answer(self, path: str, document: Any) -> None:
        def answer(handler: Handler) -> None:
            if self.token is not None and handler.headers.get("Authorization") != f"Bearer {self.token}":
                handler.say(401, b"{}")
            else:
                handler.say(200, json.dumps(document).encode(), Content_Type="application/json")

        self.web.answers[path] = answer


def wrapped(text: str) -> dict[str, Any]:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"content": text, "checksum": [{"type": "sha-256", "checksum": digest}]}
