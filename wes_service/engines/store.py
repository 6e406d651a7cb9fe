"""Store a run's outputs at a URL that its submitter named, as outputs of one TES task.

The engine's sandbox has no network; weft's own stagers store, by their rules.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from wes_service.engines.fetch import run_task
from wes_service.engines.program import BadRequest, Place, made
from wes_service.engines.tes_client import JsonObject

#: Below the run's folder: what is to be stored, at its path in the run's folder. Hidden names are not listed by WES.
_FOLDER = ".outputs"


def check_store(url: str | None, place: Place) -> None:
    """Refuse, before anything runs, what could not be stored.

    :raises BadRequest: outputs are to be stored, and there is no image for the task that does.
    """
    if url and place.default_image is None:
        raise BadRequest(
            "output_url: a task stores the outputs, and this site sets no default image for it (engine.default_image)"
        )


def store(url: str | None, names: Iterable[str], place: Place) -> None:
    """Store files and folders of the run's folder below ``url``, each at its path; nothing without a URL.

    :raises BadRequest: TES refuses the task, or it fails.
    """
    if not url:
        return
    print(f"Storing the outputs at {url.partition('?')[0]}", file=sys.stderr)
    folder = place.work / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    made(folder)
    for name in names:
        _lay_out(place.work / name, folder / name)
    run_task(_task(url, folder, place), place, "store", "Storing the outputs")
    shutil.rmtree(folder, ignore_errors=True)


def _lay_out(source: Path, target: Path) -> None:
    """Link a file, or all files of a folder; a link that cannot be made is a copy."""
    made(target.parent)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)
    elif source.is_file() and not target.exists():
        _link(str(source), str(target))


def _link(source: str, target: str) -> str:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy(source, target)
    return target


def _task(url: str, folder: Path, place: Place) -> JsonObject:
    return {
        "name": "store outputs",
        "tags": place.tags,
        "resources": {"cpu_cores": 1},
        "inputs": [{"type": "DIRECTORY", "url": folder.as_uri(), "path": str(folder)}],
        "outputs": [{"type": "DIRECTORY", "url": url, "path": str(folder)}],
        "executors": [{"image": place.default_image, "command": ["/bin/sh", "-c", ":"]}],
    }
