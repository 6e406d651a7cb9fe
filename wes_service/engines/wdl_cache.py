"""Make miniwdl's call cache of an earlier run's folder hold in the folder that it was copied to.

miniwdl names an entry by a digest of the call's inputs, in which files are absolute paths (``WDL.runtime.cache``,
``miniwdlCallCacheVersion`` 2), and takes it only if no file in it changed after the entry was written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

_VERSION = 2


def move_cache(cache: Path, before: Path, after: Path) -> None:
    """Rewrite every entry below ``cache``: what lay below ``before`` lies below ``after``. What is no entry is left."""
    for path in list(cache.glob("*/*/*.json")):
        found = path.stat()
        try:
            entry = json.loads(path.read_bytes())
        except ValueError:
            continue
        if not isinstance(entry, dict) or entry.get("miniwdlCallCacheVersion") != _VERSION:
            continue
        moved = _moved(entry, f"{before}/", f"{after}/")
        target = path.with_name(f"{_digest(moved.get('inputs'))}.json")
        path.unlink()
        target.write_text(json.dumps(moved))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _digest(inputs: Any) -> str:
    """Return the name that miniwdl gives an entry: ``WDL.runtime.cache.digest_inputs``."""
    envelope = {"miniwdlCallCacheVersion": _VERSION, "inputs": inputs}
    text = json.dumps(envelope, separators=(",", ":"), sort_keys=True)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:20]).decode().lower()


def _moved(value: Any, before: str, after: str) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, before, after) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, before, after) for item in value]
    return after + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value
