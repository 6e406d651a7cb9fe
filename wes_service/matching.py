"""Find the engine that runs what a request asks for, or say what is supported. Pure.

Types are compared without regard to case and by the engines' aliases, versions without a leading ``v``
(``reference/wes.md``, B6 and B7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft.errors import InvalidRequest
from weft.ports import Engine, EngineInfo
from wes_service.wire import RunForm

#: Versions of a language that clients send where the language has none of its own: Sapporo's clients say "1.0" for
#: Snakemake whatever version they mean.
CUSTOMARY: dict[str, tuple[str, ...]] = {"smk": ("1.0",), "snakemake": ("1.0",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The engine that was chosen, and the request's words in canonical form."""

    engine: Engine
    workflow_type: str
    workflow_type_version: str


def choose(form: RunForm, engines: Sequence[Engine]) -> Match:
    """Choose the first engine that takes the request's type and version.

    :raises InvalidRequest: nothing here runs it; the message lists what is supported.
    """
    candidates = [(engine, name) for engine in engines if (name := _type_in(engine.info, form.workflow_type))]
    if not candidates:
        raise _unsupported("workflow_type", form.workflow_type, [_types(engine.info) for engine in engines])
    candidates = _of_engine(form, candidates, engines)
    for engine, name in candidates:
        version = _version_in(engine.info, name, form.workflow_type_version)
        if version is not None:
            return Match(engine=engine, workflow_type=name, workflow_type_version=version)
    supported = [", ".join(_versions(engine.info, name)) for engine, name in candidates]
    raise _unsupported("workflow_type_version", form.workflow_type_version, supported)


def _of_engine(
    form: RunForm, candidates: list[tuple[Engine, str]], engines: Sequence[Engine]
) -> list[tuple[Engine, str]]:
    """Keep the candidates that the request's engine and engine version allow."""
    if form.workflow_engine is None:
        if form.workflow_engine_version is not None:
            remedy = "send workflow_engine too, or neither"
            raise InvalidRequest(
                "workflow_engine_version was sent without workflow_engine", field="workflow_engine", remedy=remedy
            )
        return candidates
    wanted = form.workflow_engine.casefold()
    named = [(engine, name) for engine, name in candidates if engine.info.name.casefold() == wanted]
    if not named:
        if any(engine.info.name.casefold() == wanted for engine in engines):
            raise InvalidRequest(
                f"workflow_engine: {form.workflow_engine[:100]} does not run {form.workflow_type[:100]}",
                field="workflow_engine",
                remedy=f"use {_listed([engine.info.name for engine, _ in candidates])}",
            )
        raise _unsupported("workflow_engine", form.workflow_engine, [engine.info.name for engine, _ in candidates])
    return _of_engine_version(form, named)


def _of_engine_version(form: RunForm, named: list[tuple[Engine, str]]) -> list[tuple[Engine, str]]:
    if form.workflow_engine_version is None:
        return named
    wanted = _plain(form.workflow_engine_version)
    kept = [(engine, name) for engine, name in named if _plain(engine.info.version) == wanted]
    if not kept:
        installed = [engine.info.version for engine, _ in named]
        raise _unsupported("workflow_engine_version", form.workflow_engine_version, installed)
    return kept


def _type_in(info: EngineInfo, wanted: str) -> str | None:
    """Return the canonical name of the type ``wanted`` if the engine runs it."""
    folded = wanted.casefold()
    by_name = {name.casefold(): name for name in info.workflow_types}
    return by_name.get(folded) or info.aliases.get(folded)


def _version_in(info: EngineInfo, name: str, wanted: str) -> str | None:
    """Return the engine's spelling of the version ``wanted``."""
    plain = _plain(wanted)
    return next((version for version in _versions(info, name) if _plain(version) == plain), None)


def _versions(info: EngineInfo, name: str) -> list[str]:
    """Return all versions of a type that are accepted.

    Where the engine's own version is a version of the language, as with Snakemake, its beginnings ("9", "9.27")
    are accepted too, and so is what clients customarily send.
    """
    listed = list(info.workflow_types.get(name, ()))
    spellings = {name.casefold(), *(alias for alias, meant in info.aliases.items() if meant == name)}
    customary = [version for spelling in sorted(spellings) for version in CUSTOMARY.get(spelling, ())]
    if not customary and _plain(info.version) not in map(_plain, listed):
        return listed
    numbers = info.version.split(".")
    own = [".".join(numbers[:count]) for count in range(len(numbers), 0, -1)]
    return list(dict.fromkeys([*listed, *own, *customary]))


def accepted_types(engines: Sequence[Engine]) -> dict[str, list[str]]:
    """Return every type in canonical spelling with all the versions that are accepted, for service-info."""
    found: dict[str, list[str]] = {}
    for engine in engines:
        for name in engine.info.workflow_types:
            known = found.setdefault(name, [])
            known.extend(version for version in _versions(engine.info, name) if version not in known)
    return found


def _types(info: EngineInfo) -> str:
    return ", ".join(info.workflow_types)


def _plain(version: str) -> str:
    folded = version.strip().casefold()
    return folded[1:] if folded[:1] == "v" and folded[1:2].isdigit() else folded


def _unsupported(field: str, value: str, supported: Sequence[str]) -> InvalidRequest:
    listed = _listed(supported)
    return InvalidRequest(
        f"{field} '{value[:100]}' is not supported here; supported: {listed}",
        field=field,
        remedy=f"use one of: {listed}",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "nothing (no workflow engine is installed)"
