"""What the workers that announced themselves can run: limits on resources, and the backend parameters they know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tes_service.wire import WireResources
from weft import parameters
from weft.clock import Clock
from weft.errors import InvalidRequest
from weft.model import JsonObject, Resources
from weft.store.store import WorkerInfo

_GB = 10**9
#: How long an answer of the store about workers is good enough.
_FRESH_SECONDS = 1.0
_STRICT = "resources.backend_parameters"
_PREFIX = f"{_STRICT}: "
_NO_BOUNDS = parameters.Bounds()


class Workers(Protocol):
    """The part of the store that is needed here."""

    def workers(self, *, since: float) -> tuple[WorkerInfo, ...]:
        """Return the workers that were heard of since then."""
        ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """The executors that tasks can go to now, by what they say of themselves; empty when none has spoken yet."""

    executors: tuple[JsonObject, ...]

    @property
    def backend_parameters(self) -> tuple[str, ...]:
        """Every key that one of them understands, in lower case, sorted."""
        return tuple(sorted({str(key).lower() for able in self.executors for key in able.get(_KEYS, ())}))

    @property
    def stages_elsewhere(self) -> bool:
        """Whether all of them move inputs and outputs by themselves, so that this site's URLs mean nothing to them."""
        return bool(self.executors) and all(able.get("stages") for able in self.executors)

    def fit(self, resources: Resources) -> None:
        """Refuse what no executor here could ever run.

        :raises InvalidRequest: says which resource, how much was asked for, and how much there is.
        """
        if not self.executors:
            return
        asked = {
            "cpu_cores": resources.cpu_cores,
            "ram_bytes": resources.ram_bytes,
            "disk_bytes": resources.disk_bytes,
        }
        wanted = {name: amount for name, amount in asked.items() if amount is not None}
        if not any(_fits(wanted, able) for able in self.executors):
            raise _too_much(wanted, self.executors)

    def known(self, wire: WireResources, bounds: parameters.Bounds) -> tuple[dict[str, str], list[str]]:
        """Keep the backend parameters that are known here, by their names in lower case; and a note on each other one.

        :raises InvalidRequest: an unknown one, or one whose value means nothing, although
            ``backend_parameters_strict``; or two that differ by case only.
        """
        given = wire.backend_parameters or {}
        _refuse_doubles(given)
        known, notes = {}, []
        for name, value in given.items():
            refusal = self._refusal(name, value, bounds)
            if refusal is None:
                known[name.lower()] = value
            elif wire.backend_parameters_strict:
                raise refusal
            else:
                notes.append(f"{refusal.message.removeprefix(_PREFIX)} and was dropped ({refusal.remedy})")
        return known, notes

    def _refusal(self, name: str, value: str, bounds: parameters.Bounds) -> InvalidRequest | None:
        """Say why a parameter is not supported; None if it is."""
        field = f"{_STRICT}.{name}"
        if self.executors and name.lower() not in self.backend_parameters:
            names = ", ".join(self.backend_parameters) or "none"
            message = f"{_PREFIX}backend parameter {name!r} is not supported here"
            return InvalidRequest(message, field=field, remedy=f"known: {names}")
        try:
            parameters.check(name.lower(), value, bounds)
        except InvalidRequest as error:
            message = f"{_PREFIX}backend parameter {name!r}: {error.message}"
            return InvalidRequest(message, field=field, remedy=error.remedy)
        return None


_KEYS = "backend_parameters"


class FleetView:
    """Asks the store about the workers, at most once a second."""

    def __init__(self, store: Workers, clock: Clock, *, silent_seconds: float) -> None:
        """Count workers in that were heard of in the last ``silent_seconds``."""
        self._store = store
        self._clock = clock
        self._silent_seconds = silent_seconds
        self._seen = Fleet(())
        self._seen_at = float("-inf")

    def now(self) -> Fleet:
        """Return the fleet of this moment."""
        now = self._clock()
        if not 0 <= now - self._seen_at < _FRESH_SECONDS:
            workers = self._store.workers(since=now - self._silent_seconds)
            self._seen, self._seen_at = Fleet(tuple(worker.capabilities for worker in workers)), now
        return self._seen


def read_resources(
    wire: WireResources | None, fleet: Fleet, *, binary: bool = False, bounds: parameters.Bounds = _NO_BOUNDS
) -> tuple[Resources | None, list[str]]:
    """Check the resources of a task against the executors that there are; and what its owner should know.

    :param binary: a gigabyte is 2**30 bytes here (A19).
    :param bounds: the most that a task may ask for.
    :raises InvalidRequest: see ``Fleet``.
    """
    if wire is None:
        return None, []
    known, notes = fleet.known(wire, bounds)
    resources = Resources(
        cpu_cores=wire.cpu_cores,
        ram_gb=wire.ram_gb,
        disk_gb=wire.disk_gb,
        preemptible=wire.preemptible,
        zones=None if wire.zones is None else tuple(wire.zones),
        backend_parameters=known,
        backend_parameters_strict=wire.backend_parameters_strict,
    )
    fleet.fit(resources.in_binary() if binary else resources)
    return resources, notes


def _fits(wanted: Mapping[str, int], able: JsonObject) -> bool:
    return all(able.get(name) is None or amount <= able[name] for name, amount in wanted.items())


def _too_much(wanted: Mapping[str, int], executors: Sequence[JsonObject]) -> InvalidRequest:
    for name, amount in wanted.items():
        limits = [able.get(name) for able in executors]
        if None not in limits and amount > max(limit for limit in limits if limit is not None):
            most = max(limit for limit in limits if limit is not None)
            field, unit, scale = _UNITS[name]
            has, wants = f"{most / scale:g}{unit}", f"{amount / scale:g}{unit}"
            return InvalidRequest(
                f"resources.{field}: {wants} is more than any executor here has ({has})",
                field=f"resources.{field}",
                remedy="ask for less",
            )
    return InvalidRequest(
        "resources: no executor here has as much of everything at once", field="resources", remedy="ask for less"
    )


#: Capability -> member of tesResources, unit, and how much of the capability is one of it.
_UNITS = {"cpu_cores": ("cpu_cores", "", 1), "ram_bytes": ("ram_gb", " GB", _GB), "disk_bytes": ("disk_gb", " GB", _GB)}


def _refuse_doubles(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            raise InvalidRequest(
                f"{_STRICT}: {twin!r} and {name!r} are the same key, because upper and lower case do not count",
                field=f"{_STRICT}.{name}",
                remedy="send one of them",
            )
