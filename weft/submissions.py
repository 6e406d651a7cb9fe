"""Keep a Submission on disk, so that a worker that takes a job over knows its mounts and steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from weft.model import Kind, Mount, Resources, Step, Submission

_NAME = "submission.json"


def save(work: Submission) -> None:
    """Write ``work`` into its own folder, whole or not at all; it stays when the executor forgets the native job."""
    work.folder.mkdir(parents=True, exist_ok=True)
    temporary = work.folder / f".{_NAME}"
    temporary.write_bytes(orjson.dumps(work, default=_plain, option=orjson.OPT_PASSTHROUGH_SUBCLASS))
    temporary.replace(work.folder / _NAME)


def load(folder: Path) -> Submission | None:
    """Read what ``save`` wrote for the attempt in ``folder``; None when nothing is there."""
    try:
        document = orjson.loads((folder / _NAME).read_bytes())
    except FileNotFoundError:
        return None
    resources = document["resources"]
    zones = resources["zones"]
    return Submission(
        **{
            **document,
            "kind": Kind(document["kind"]),
            "folder": Path(document["folder"]),
            "steps": tuple(Step(**{**step, "command": tuple(step["command"])}) for step in document["steps"]),
            "mounts": tuple(Mount(**{**mount, "source": Path(mount["source"])}) for mount in document["mounts"]),
            "resources": Resources(**{**resources, "zones": None if zones is None else tuple(zones)}),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Kind):
        return value.value
    return dict(value)
