"""Which executors and engines are installed, and which one tasks go to."""

from __future__ import annotations

from collections.abc import Mapping

from weft.config import Settings
from weft.errors import InvalidRequest, Unavailable, WeftError
from weft.plugins import Broken, Plugins
from weft.ports import Capabilities, Engine, Executor

#: What ``executor = "auto"`` tries, in this order: the first that is usable.
AUTO = ("docker", "process")
#: The executor that runs workflow engines.
ENGINE = "engine"


def choose_executor(settings: Settings) -> Executor:
    """Return the executor for tasks: the one that is named, or the first usable one.

    A named executor is never replaced by another: if its backend is down, jobs wait for it.

    :raises InvalidRequest: there is none of this name.
    :raises Unavailable: ``auto``, and none is usable.
    """
    if settings.executor == ENGINE:
        others = ", ".join(("auto", *task_executors()))
        raise InvalidRequest(
            "executor engine runs workflow engines, no tasks", field="executor", remedy=f"one of: {others}"
        )
    if settings.executor != "auto":
        return executor_named(settings.executor, settings)
    said = []
    for name in AUTO:
        try:
            executor = executor_named(name, settings)
            health = executor.check()
        except WeftError as error:
            said.append(f"{name}: {error.message}")
            continue
        if health.usable:
            return executor
        said.append(f"{name}: {health.detail}")
    raise Unavailable("no executor is usable here: " + "; ".join(said))


def task_executors() -> list[str]:
    """Name the executors that tasks can go to."""
    return [name for name in Plugins("weft.executors").names if name != ENGINE]


def executor_named(name: str, settings: Settings) -> Executor:
    """Make the executor of an entry point."""
    executor: Executor = Plugins("weft.executors").load(name)(settings)
    return executor


def engines(settings: Settings, capabilities: Capabilities | None = None) -> Mapping[str, Engine]:
    """Return the engines that can run here, by name.

    :param capabilities: of the executor that their tasks go to; only a worker knows it.
    """
    found, _ = look_for_engines(settings, capabilities)
    return {engine.info.name: engine for engine in found}


def look_for_engines(settings: Settings, capabilities: Capabilities | None) -> tuple[list[Engine], list[Broken]]:
    """Return the engines that are installed, and those that are not, each with what is missing."""
    plugins = Plugins("weft.engines")
    found, missing = [], list(plugins.broken())
    for name in sorted(set(plugins.names) - {item.name for item in missing}):
        try:
            found.append(plugins.load(name)(settings, capabilities))
        except ModuleNotFoundError as error:
            missing.append(Broken(name, error))
    return found, missing
