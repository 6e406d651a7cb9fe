"""The five calls of TES 1.1.0, on any server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from weft.client.connection import Connection, JsonObject
from weft.client.errors import ServerFailed


class TesClient:
    """Tasks of one server."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def service_info(self) -> JsonObject:
        """Return the server's description of itself."""
        return self.connection.json("GET", "/service-info")

    def create(self, task: JsonObject) -> str:
        """Submit ``task`` and return its id."""
        answer = self.connection.json("POST", "/tasks", json=task)
        if not answer.get("id"):
            raise ServerFailed("the server accepted the task but gave no id")
        return str(answer["id"])

    def get(self, task_id: str, view: str = "BASIC") -> JsonObject:
        """Return one task; ``view`` is MINIMAL, BASIC or FULL."""
        return self.connection.json("GET", f"/tasks/{quote(task_id, safe='')}", params={"view": view})

    def cancel(self, task_id: str) -> None:
        """Ask for the task's end; asking again is harmless on weft."""
        self.connection.json("POST", f"/tasks/{quote(task_id, safe='')}:cancel")

    def list(
        self,
        *,
        limit: int | None = None,
        view: str = "BASIC",
        state: str | None = None,
        name_prefix: str | None = None,
        tags: Sequence[tuple[str, str]] = (),
    ) -> Iterator[JsonObject]:
        """Yield tasks in the server's order, at most ``limit``, page by page."""
        params: dict[str, str | list[str]] = {"view": view}
        if state:
            params["state"] = state
        if name_prefix:
            params["name_prefix"] = name_prefix
        if tags:
            params["tag_key"] = [key for key, _ in tags]
            params["tag_value"] = [value for _, value in tags]
        yield from pages(self.connection, "/tasks", "tasks", params, limit)


def pages(
    connection: Connection, path: str, key: str, params: dict[str, str | list[str]], limit: int | None
) -> Iterator[JsonObject]:
    """Yield the items of a list, at most ``limit``; a page that is empty or missing ends nothing, its token does."""
    left = limit
    asked = dict(params)
    while left is None or left > 0:
        asked["page_size"] = str(min(left or 256, 256))
        answer = connection.json("GET", path, params=asked)
        items = answer.get(key) or []
        yield from items[:left]
        left = None if left is None else left - len(items)
        token = answer.get("next_page_token")
        if not token or token == asked.get("page_token"):
            return
        asked["page_token"] = str(token)
