"""Bring files that are URLs of other places into the run's folder, as inputs of one TES task.

The engine's sandbox has no network; weft's own stagers fetch, by their rules.
"""

from __future__ import annotations

import hashlib
import queue
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from wes_service.engines.program import BadRequest, Place, create_patiently, explain, made
from wes_service.engines.task_watch import TaskWatch
from wes_service.engines.tes_client import JsonObject, TesRefused, TesUnavailable

#: Where the task sees the fetched files; not in the run's folder, which is mounted whole.
_STAGED = PurePosixPath("/weft-fetched")
_COPY = 'while [ $# -gt 1 ]; do cp "$1" "$2" || exit 1; shift 2; done'


def is_remote(location: object) -> bool:
    """Tell whether a file must be fetched before a step can use it."""
    scheme, separator, _ = str(location).partition("://")
    return bool(separator) and scheme.lower() != "file"


def fetch(urls: Sequence[str], place: Place, folder: Path) -> dict[str, Path]:
    """Fetch every URL to a folder of its own below ``folder``, by one task; none if there is nothing to fetch.

    :raises BadRequest: TES refuses the task, or it fails.
    """
    if not urls:
        return {}
    if place.default_image is None:
        raise BadRequest(
            f"{urls[0]} must be fetched by a task, and this site sets no default image for it (engine.default_image); "
            "attach the file instead"
        )
    targets = {url: made(folder / str(index)) / _name_of(url) for index, url in enumerate(urls)}
    print(f"Fetching {', '.join(_without_query(url) for url in urls)}", file=sys.stderr)
    key = hashlib.sha256("\n".join(urls).encode()).hexdigest()[:16]
    run_task(_task(targets, place), place, f"fetch-{key}", "Fetching")
    return targets


def run_task(document: JsonObject, place: Place, key: str, what: str) -> None:
    """Run a task of the engine's own, once a ``key``, to its end.

    :raises BadRequest: TES refuses it, or it fails; the text says ``what`` failed.
    """
    try:
        task_id = create_patiently(place.client, document, key=f"{place.session}-{key}", say=_say)
        state = _wait(task_id, place)
        if state != "COMPLETE":
            logs = place.client.get(task_id).get("logs")
            raise BadRequest(explain(f"{what} failed: TES task {task_id} ended in {state}", _list(logs)))
    except (TesRefused, TesUnavailable) as error:
        raise BadRequest(f"{what} failed: {error}") from error


def _task(targets: Mapping[str, Path], place: Place) -> JsonObject:
    work = str(place.work)
    staged = {url: str(_STAGED / str(index) / path.name) for index, (url, path) in enumerate(targets.items())}
    words = [word for url, path in targets.items() for word in (staged[url], str(path))]
    return {
        "name": "fetch inputs",
        "tags": place.tags,
        "resources": {"cpu_cores": 1},
        "inputs": [
            {"type": "DIRECTORY", "url": place.work.as_uri(), "path": work},
            *({"url": url, "path": path} for url, path in staged.items()),
        ],
        "executors": [
            {"image": place.default_image, "command": ["/bin/sh", "-c", _COPY, "sh", *words], "workdir": work}
        ],
    }


def _wait(task_id: str, place: Place) -> str:
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    watch = TaskWatch(place.client, place.tags, lambda error: ended.put("UNKNOWN"))
    try:
        watch.add(task_id, lambda _, state: ended.put(state))
        return ended.get()
    except BaseException:
        watch.cancel_all()
        raise
    finally:
        watch.stop()


def _name_of(url: str) -> str:
    return unquote(PurePosixPath(urlsplit(url).path).name).replace("/", "_").replace("\0", "_") or "file"


def _without_query(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
