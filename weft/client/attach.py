"""Choose the files of a workflow's folder that travel with a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from weft.client.errors import BadRequest

#: A list of patterns, one a line, of what never travels; beside the workflow.
IGNORE_FILE = ".weftignore"
#: What no workflow needs, wherever it lies.
NEVER = ("__pycache__", "*.pyc", "node_modules")
MOST_FILES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file and the name, relative to the workflow's folder, that the server shall give it."""

    name: str
    source: Path

    @property
    def size(self) -> int:
        """Bytes."""
        return self.source.stat().st_size


def below(folder: Path, exclude: Sequence[str] = ()) -> tuple[Attachment, ...]:
    """Return every file below ``folder`` that is not hidden, not ignored and not a link out of it, by name."""
    patterns = (*NEVER, *exclude, *_ignored(folder))
    root = folder.resolve()
    found = (
        Attachment(name=path.relative_to(folder).as_posix(), source=path)
        for path in _walk(folder, folder, patterns)
        if path.resolve().is_relative_to(root)
    )
    return tuple(sorted(found, key=lambda item: item.name))


def named(spec: str) -> Attachment:
    """Read ``--attach``: ``FILE``, or ``NAME=FILE`` to send it under another name.

    :raises BadRequest: no such file.
    """
    name, separator, file = spec.partition("=")
    source = Path(file if separator else spec)
    if not source.is_file():
        raise BadRequest(f"{source} is not a file", field="--attach")
    if not separator:
        name = source.name if source.is_absolute() or ".." in source.parts else source.as_posix()
    return Attachment(name=name, source=source)


def guard(attachments: Sequence[Attachment], most_mb: float) -> None:
    """Refuse to send more than was meant.

    :raises BadRequest: too many files or bytes; names the largest.
    """
    total = sum(item.size for item in attachments)
    if total <= most_mb * 1_000_000 and len(attachments) <= MOST_FILES:
        return
    largest = sorted(attachments, key=lambda item: -item.size)[:3]
    sizes = ", ".join(f"{item.name} ({item.size / 1e6:.1f} MB)" for item in largest)
    raise BadRequest(
        f"{len(attachments)} files, {total / 1e6:.1f} MB would be sent (limit {most_mb:g} MB); the largest: {sizes}",
        remedy=f"leave out what is not needed with --exclude or {IGNORE_FILE}, or raise --max-attach-mb, "
        "or choose by hand with --no-auto-attach --attach FILE",
    )


def _walk(folder: Path, root: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.name.startswith(".") or any(fnmatch(name, one) or fnmatch(path.name, one) for one in patterns):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, root, patterns)
        elif path.is_file():
            yield path


def _ignored(folder: Path) -> tuple[str, ...]:
    try:
        lines = (folder / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    return tuple(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#"))
