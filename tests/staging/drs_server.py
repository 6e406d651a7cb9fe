"""A small DRS 1.5 server for tests: two operations, over objects that the test writes down.

Its documents have the shapes of ``DrsObject``, ``AccessMethod`` and ``ContentsObject`` of the released specification;
``test_the_server_speaks_drs`` holds them against it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.staging.conftest import Handler, Web

BASE = "/ga4gh/drs/v1/objects"


class DrsSite:
    """Objects on a ``Web``; their bytes lie there too unless an object says otherwise."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.host = f"127.0.0.1:{web.port}"
        self.objects: dict[str, dict[str, Any]] = {}
        self.token: str | None = None

    def url(self, name: str) -> str:
        return f"drs://{self.host}/{name}"

    def add(self, name: str, body: bytes, *, methods: list[dict[str, Any]] | None = None, **changes: Any) -> str:
        """Offer an object; without ``methods`` its bytes are had by http from this server."""
        self.web.answers[f"/bytes/{name}"] = lambda handler: handler.say(200, body)
        here = {"type": "https", "access_url": {"url": self.web.url(f"/bytes/{name}")}}
        return self._offer(
            name,
            {
                "size": len(body),
                "checksums": [{"type": "sha-256", "checksum": hashlib.sha256(body).hexdigest()}],
                "access_methods": [here] if methods is None else methods,
                **changes,
            },
        )

    def bundle(self, name: str, contents: dict[str, str]) -> str:
        """Offer a bundle of the objects with these ids, each by its name in the bundle."""
        items = [{"name": inside, "id": member, "drs_uri": [self.url(member)]} for inside, member in contents.items()]
        checksums = [{"type": "sha-256", "checksum": "0" * 64}]
        return self._offer(name, {"size": 0, "checksums": checksums, "contents": items})

    def access(self, name: str, access_id: str, answer: dict[str, Any]) -> None:
        """Answer ``GetAccessURL``."""
        self._answer(f"{BASE}/{name}/access/{access_id}", answer)

    def _offer(self, name: str, document: dict[str, Any]) -> str:
        self.objects[name] = {
            "id": name,
            "self_uri": self.url(name),
            "created_time": "2026-01-01T00:00:00Z",
            **document,
        }
        self._answer(f"{BASE}/{name}", self.objects[name])
        return self.url(name)

    def _answer(self, path: str, document: dict[str, Any]) -> None:
        def answer(handler: Handler) -> None:
            if self.token is not None and handler.headers.get("Authorization") != f"Bearer {self.token}":
                handler.say(401, b"{}")
            else:
                handler.say(200, json.dumps(document).encode(), Content_Type="application/json")

        self.web.answers[path] = answer
