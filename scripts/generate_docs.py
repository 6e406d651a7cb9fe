#!/usr/bin/env python3
"""Write the pages of docs/ that are made of the code: settings.md of config.py, states.md of states.py.

`make docs` calls it; a test holds the pages against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from weft.config import Settings
from weft.sections.section import Section
from weft.states import DRIVEN, MOVES, TERMINAL, State

DOCS = Path(__file__).resolve().parent.parent / "docs"

SETTINGS_HEAD = """\
# Settings

<!-- Made of weft/config.py and weft/sections by `make docs`. -->

A setting is given by a flag of `weft serve`, else by the environment, else by `weft.toml` in the folder that weft is
started in (or the file that `WEFT_CONFIG` names). Unknown keys stop the start. `weft check` prints what is in force.

```toml
executor = "docker"
file_roots = ["/data/projects"]

[docker]
default_ram_gb = 4.0
```

is the same as `WEFT_EXECUTOR=docker`, `WEFT_FILE_ROOTS='["/data/projects"]'`, `WEFT_DOCKER__DEFAULT_RAM_GB=4`.
"""

STATES_HEAD = """\
# States

<!-- Made of weft/states.py by `make docs`. -->

A task and a run obey one law: the moves below and no others. TES 1.1.0 and WES 1.1.0 share the words. A job is
accepted when it is on disk as QUEUED; exactly one of the terminal states is recorded for it, and it is final.
"""


def settings_page() -> str:
    """Return docs/settings.md."""
    lines = [SETTINGS_HEAD]
    plain = {name: field for name, field in Settings.model_fields.items() if not _is_section(field)}
    lines += _table("", plain)
    for name, field in Settings.model_fields.items():
        if _is_section(field):
            section: type[BaseModel] = field.annotation  # type: ignore[assignment]
            lines += [f"\n## [{name}]", f"\n{_text(section.__doc__)}\n"]
            lines += _table(f"{name}.", section.model_fields)
            for inner, item in _repeated(section):
                lines += [f"\n### [[{name}.{inner}]]", f"\n{_text(item.__doc__)}\n"]
                lines += _table(None, item.model_fields)
        for inner in _named(field):
            lines += [f"\n## [{name}.NAME]", f"\n{_text(inner.__doc__)}\n"]
            lines += _table(None, {key: item for key, item in inner.model_fields.items() if not _is_section(item)})
            lines += [f"\nKeys as in `[{key}]` stand in `[{name}.NAME.{key}]`." for key in inner.model_fields if
                      _is_section(inner.model_fields[key])]  # fmt: skip
    return "\n".join(lines) + "\n"


def states_page() -> str:
    """Return docs/states.md."""
    lines = [STATES_HEAD, "```mermaid", "stateDiagram-v2", "    [*] --> QUEUED: accepted"]
    lines += [
        f"    {source} --> {target}: {cause}" for source, targets in MOVES.items() for target, cause in targets.items()
    ]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    lines += ["```", "", "| state | a worker holds it | terminal | leads to |", "|---|---|---|---|"]
    for state in State:
        leads = ", ".join(MOVES.get(state, {})) or ("-" if state in TERMINAL else "never stored")
        lines.append(f"| {state} | {_mark(state in DRIVEN)} | {_mark(state in TERMINAL)} | {leads} |")
    return "\n".join(lines) + "\n"


def _named(field: FieldInfo) -> Iterator[type[Section]]:
    """Yield the table that a setting holds by name."""
    if get_origin(field.annotation) is dict:
        item = get_args(field.annotation)[1]
        if isinstance(item, type) and issubclass(item, Section):
            yield item


def _repeated(section: type[BaseModel]) -> Iterator[tuple[str, type[Section]]]:
    """Yield the settings that are a list of tables."""
    for name, field in section.model_fields.items():
        item = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else None
        if isinstance(item, type) and issubclass(item, Section):
            yield name, item


def _table(prefix: str | None, fields: dict[str, FieldInfo]) -> Iterator[str]:
    """Yield a table of settings; those of one table among several (``prefix`` is None) have no variable."""
    if prefix is None:
        yield "| setting | type | default | meaning |"
        yield "|---|---|---|---|"
        for name, field in fields.items():
            meaning = _text(field.description).replace("|", "\\|")
            yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |"
        return
    yield "| setting | environment | type | default | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in fields.items():
        variable = "WEFT_" + f"{prefix}{name}".replace(".", "__").upper()
        meaning = _text(field.description).replace("|", "\\|")
        yield f"| `{name}` | `{variable}` | {_type(field.annotation)} | {_default(field)} | {meaning} |"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _text(description: str | None) -> str:
    """Turn a docstring into one line of Markdown."""
    return " ".join((description or "").replace("``", "`").split())


def _type(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "tables"
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{item.value}`" for item in annotation)
    return {str: "text", Path: "path", SecretStr: "secret"}.get(annotation, getattr(annotation, "__name__", "object"))


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "the user's data folder" if field.annotation is Path else "-"
    if field.default is None or field.default == ():
        return "-"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _mark(holds: bool) -> str:
    return "yes" if holds else ""


PAGES = {"settings.md": settings_page, "states.md": states_page}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
