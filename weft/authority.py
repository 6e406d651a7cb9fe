"""What the services and the worker ask before they act: the policy decides, the audit record is told.

On a laptop there is neither: every job belongs to whom it was made by, and each question is one test of an attribute.
Allowed acts are recorded here before they are done; what is refused is an exception, recorded by the gate (``refused``)
whoever raised it, so that a denied request is recorded once and nowhere forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from weft.audit.entry import ALLOW, DENY, Entry
from weft.audit.journal import Journal
from weft.auth.policy import grounds, resource
from weft.auth.policy.datasets import grounds as grounds_of
from weft.auth.policy.decide import Decision, decide
from weft.auth.policy.document import Role
from weft.auth.policy.policy import Policy
from weft.auth.policy.resource import Action, Resource
from weft.clock import Clock, system_clock
from weft.errors import Forbidden, NotFound, Unauthenticated, WeftError
from weft.limits import Limits, LimitsOf
from weft.model import Job, Kind, Principal

#: Parts of a path that name what was asked for; what follows them may be the name of a file.
_PATH_PARTS = 7
_REMEMBERED = 4096


class Refused(Forbidden):
    """The site's policy refuses."""

    def __init__(self, decision: Decision) -> None:
        """Keep the decision."""
        super().__init__(decision.reason, field=decision.field, remedy=decision.remedy)
        self.decision = decision


@dataclass(frozen=True, slots=True)
class Ruling:
    """What comes with a job that may be created; ``entry`` is recorded before it is stored."""

    project: str | None = None
    grounds: bytes | None = None
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose jobs a principal's lists show: the owner's and the projects', or (None) everybody's."""

    owner: str | None
    projects: tuple[str, ...] = ()


_FREE = Ruling()


class Authority:
    """Asks the policy and tells the record; either may be absent."""

    def __init__(
        self,
        *,
        clock: Clock,
        job: Callable[[str], Job | None],
        policy: Callable[[], Policy] | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Keep the collaborators.

        :param job: the store's ``get``.
        :param policy: gives the version in force.
        """
        self._clock = clock
        self._policy = policy
        self._journal = journal
        self._run = lru_cache(maxsize=_REMEMBERED)(lambda run_id: self._what_a_run_has(job, run_id))

    # -- before a job is created -----------------------------------------------------------------------------------

    def admit(
        self, principal: Principal, kind: Kind, asked: Callable[[], Resource], *, job_id: str, request_id: str
    ) -> Ruling:
        """Decide on a new job.

        :param asked: says what the job asks for; not called without a policy.
        :raises Refused: names the field, the reason and the remedy.
        """
        if self._policy is None and self._journal is None:
            return _FREE
        now = self._clock()
        act = f"{kind}.create"
        if self._policy is None:
            return Ruling(entry=self._entry(act, principal, now, request=request_id, job=job_id))
        policy, wanted, who, action = self._policy(), asked(), principal, Action.CREATE
        if principal.run is not None:  # a step of a run has what the run has, and is no new beginning
            who, project = self._run(principal.run)
            wanted, action = wanted.within(project), Action.START
        decision = decide(policy, who, action, wanted, now)
        if not decision.allowed:
            raise Refused(decision)
        visas = who.visas if kind is Kind.RUN else grounds_of(policy, decision.datasets, who.visas)
        entry = self._entry(act, principal, now, request=request_id, job=job_id, decision=decision)
        return Ruling(decision.project, grounds.pack(who, visas), entry)

    # -- before a job is touched -----------------------------------------------------------------------------------

    def reach(self, principal: Principal) -> Reach:
        """Say whose jobs a list shows."""
        if self._policy is None or principal.run is not None:
            return Reach(principal.name)
        standing = self._policy().standing(principal)
        if standing.roles & {Role.OPERATOR, Role.AUDITOR}:
            return Reach(None)
        return Reach(principal.name, standing.projects)

    def sees(self, principal: Principal, owner: str, project: str | None) -> bool:
        """Tell whether a job exists for a principal; where it does not, say that it was not found."""
        if owner == principal.name:
            return True
        return self._policy is not None and self._may(principal, Action.READ, owner, project).allowed

    def check(self, principal: Principal, action: Action, owner: str, project: str | None) -> None:
        """Refuse what may not be done to a job that is seen.

        :raises Refused: says why.
        """
        if owner != principal.name:
            decision = self._may(principal, action, owner, project)
            if not decision.allowed:
                raise Refused(decision)

    def _may(self, principal: Principal, action: Action, owner: str, project: str | None) -> Decision:
        if self._policy is None or principal.run is not None:
            return Decision(allowed=False, reason="it is not yours", rule="owner")
        return decide(self._policy(), principal, action, Resource(owner=owner, project=project), self._clock())

    def check_auditor(self, principal: Principal) -> None:
        """Refuse to show the record to anybody but an auditor.

        :raises Refused: they are none.
        """
        if self._policy is not None:
            decision = decide(self._policy(), principal, Action.READ_AUDIT, Resource(), self._clock())
        else:
            is_one = Role.AUDITOR in principal.roles
            decision = Decision(allowed=is_one, reason=f"only an auditor may {Action.READ_AUDIT}", rule="role")
        if not decision.allowed:
            raise Refused(decision)

    # -- before a job starts ---------------------------------------------------------------------------------------

    def check_start(self, job: Job) -> None:
        """Decide again when an attempt begins: visas and approvals end, and policies change.

        :raises Refused: why nothing starts.
        :raises Unavailable: it cannot be recorded.
        """
        now = self._clock()
        decision = None if self._policy is None else self._on_start(self._policy(), job, now)
        if self._journal is not None:
            who, act = _owner_of(job), f"{job.kind}.start"
            self.record(self._entry(act, who, now, job=job.id, decision=decision, project=job.project))
        if decision is not None and not decision.allowed:
            raise Refused(decision)

    def ended(self, job: Job, *, images: tuple[str, ...], size: int) -> None:
        """Record what came of an attempt: its state, the digests of its images, the bytes of its outputs.

        Nobody waits for it: the attempt has ended, and the job itself says so.
        """
        if self._journal is not None:
            entry = Entry(
                at=self._clock(),
                action=f"{job.kind}.end",
                object=job.state.value,
                actor=job.owner,
                job=job.id,
                project=job.project,
                policy=self.version,
                images=images,
                bytes=size,
            )
            self._journal.note(entry)

    def time_limit(self, job: Job) -> float | None:
        """Return the wall time in seconds that the policy gives to an attempt."""
        if self._policy is None:
            return None
        maxima = self._policy().maxima(grounds.unpack(job.owner, job.grounds), job.project)
        return maxima.time_limit_seconds if job.kind is Kind.TASK else maxima.run_time_limit_seconds

    def _on_start(self, policy: Policy, job: Job, now: float) -> Decision:
        wanted = resource.of_task(job.task) if job.kind is Kind.TASK else resource.of_run(job.run)
        who = grounds.unpack(job.owner, job.grounds)
        return decide(policy, who, Action.START, wanted.within(job.project), now)

    # -- limits ----------------------------------------------------------------------------------------------------

    def limits(self, site: LimitsOf) -> LimitsOf:
        """Put what the policy gives a principal in place of what the settings give everybody."""
        policy = self._policy
        if policy is None:
            return site
        known = lru_cache(maxsize=_REMEMBERED)(lambda version, principal: _over(site(principal), policy(), principal))
        return lambda principal: known(policy().version, principal)

    def note_policy(self, policy: Policy) -> None:
        """Record that a version of the policy comes into force."""
        if self._journal is not None:
            self._journal.note(Entry(at=self._clock(), action="policy.in_force", policy=policy.version))

    def close(self) -> None:
        """Write and seal what waits; nothing may be asked any more."""
        if self._journal is not None:
            self._journal.stop()

    # -- the record ------------------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal | None:
        """Where acts are recorded."""
        return self._journal

    @property
    def version(self) -> str | None:
        """The version of the policy in force."""
        return None if self._policy is None else self._policy().version

    def act(
        self, action: str, principal: Principal, request_id: str, *, job: str | None = None, object: str | None = None
    ) -> Entry | None:
        """Return the entry of an act that is allowed; None where nothing is recorded."""
        return self._entry(action, principal, self._clock(), request=request_id, job=job, object=object)

    def record(self, entry: Entry | None) -> None:
        """Write an entry; it is on disk when this returns. Not for the event loop.

        :raises Unavailable: then nothing may be done.
        """
        if entry is not None and self._journal is not None:
            self._journal.append(entry)

    async def record_soon(self, entry: Entry | None) -> None:
        """Like ``record``, for the event loop."""
        if entry is not None and self._journal is not None:
            await self._journal.append_soon(entry)

    async def refused(self, error: BaseException, principal: Principal | None, request_id: str, what: str) -> None:
        """Record that a request was refused: by whom it was made is known, except where that is the reason.

        :param what: method and path, without a query.
        :raises Unavailable: it cannot be recorded.
        """
        if self._journal is None or not isinstance(error, Forbidden | Unauthenticated | NotFound):
            return
        decision = error.decision if isinstance(error, Refused) else None
        entry = Entry(
            at=self._clock(),
            action="request",
            decision=DENY,
            reason=_reason(error) if decision is None else decision.rule,
            actor=None if principal is None else principal.name,
            object="/".join(what.split("/")[:_PATH_PARTS])[:200],
            project=None if decision is None else decision.project,
            datasets=() if decision is None else decision.datasets,
            policy=self.version,
            request=request_id,
        )
        await self._journal.append_soon(entry)

    def _entry(
        self,
        action: str,
        principal: Principal,
        now: float,
        *,
        request: str | None = None,
        job: str | None = None,
        object: str | None = None,
        project: str | None = None,
        decision: Decision | None = None,
    ) -> Entry | None:
        if self._journal is None:
            return None
        refused = decision is not None and not decision.allowed
        return Entry(
            at=now,
            action=action,
            decision=DENY if refused else ALLOW,
            reason=decision.rule if decision is not None and refused else None,
            actor=principal.name,
            object=object,
            job=job,
            project=project if decision is None else decision.project,
            datasets=() if decision is None else decision.datasets,
            policy=self.version,
            request=request,
        )

    @staticmethod
    def _what_a_run_has(job: Callable[[str], Job | None], run_id: str) -> tuple[Principal, str | None]:
        run = job(run_id)
        if run is None:
            raise NotFound(f"there is no run {run_id[:100]!r}")
        return grounds.unpack(run.owner, run.grounds), run.project


#: Neither policy nor record: a laptop.
OPEN = Authority(clock=system_clock, job=lambda _: None)


def _owner_of(job: Job) -> Principal:
    issuer, _, subject = job.owner.partition("|")
    return Principal(issuer=issuer, subject=subject)


def _reason(error: WeftError) -> str:
    """Name what refused, where no rule of the policy did, without quoting the request."""
    match error:
        case Unauthenticated():
            return "authentication"
        case NotFound():
            return "unknown, or not theirs"
        case _:
            return "settings" if error.field is None else f"settings: {error.field}"


def _over(site: Limits, policy: Policy, principal: Principal) -> Limits:
    own = policy.maxima(principal, None)
    requests = site.requests if own.requests_per_second is None else own.requests_per_second
    return replace(
        site,
        queued=site.queued if own.queued is None else own.queued,
        running=site.running if own.running is None else own.running,
        requests=requests,
        burst=max(site.burst, math.ceil(requests or 1)),
    )
