"""The decision table: each line one request, and the rule that has the last word on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import NOW, a_run, a_step, a_task
from tests.policy.people import (
    ANNA,
    AUDREY,
    BEN,
    CARL,
    DIGEST,
    FALSE_ANNA,
    FALSE_OLGA,
    OLGA,
    a_principal,
    a_visa,
    the_example,
)
from weft.auth.policy.decide import Decision, decide
from weft.auth.policy.document import Role
from weft.auth.policy.policy import Policy, parse
from weft.auth.policy.resource import Action, Resource, of_run, of_task
from weft.auth.visas import REGISTERED_ACCESS
from weft.errors import InvalidRequest
from weft.model import Input, Output, Principal, Resources

HEART = {"Project": "heart"}
SECRET = "s3://rare-diseases/cohort/a.vcf"
IMAGE = "registry.example.org/approved/bwa:1"
PIPELINE = Principal(issuer="local", subject="pipeline")
DAY = 86_400
DATASET = '[datasets.d]\nurls = ["s3://d/"]\n'


def asked(
    policy: Policy, principal: Principal, resource: Resource, *, now: float = NOW, start: bool = False
) -> Decision:
    return decide(policy, principal, Action.START if start else Action.CREATE, resource, now)


def task(*, image: str = IMAGE, url: str | None = None, to: str | None = None, **changes: Any) -> Resource:
    inputs = () if url is None else (Input(path="/in/0", url=url),)
    outputs = () if to is None else (Output(path="/out/0", url=to),)
    return of_task(
        a_task(**{"steps": (a_step(image=image),), "inputs": inputs, "outputs": outputs, "tags": HEART, **changes})
    )


def wants(**resources: Any) -> Resource:
    return task(resources=Resources(**resources))


@pytest.mark.parametrize(
    ("principal", "resource", "rule"),
    [
        (ANNA, task(), None),
        (ANNA, task(tags={}), None),  # her only project
        (ANNA, task(tags={"project": "heart"}), None),
        (FALSE_ANNA, task(), "submitter"),
        (CARL, task(), "project"),
        (CARL, task(tags={}), "project"),
        (ANNA, task(tags={"Project": "methods"}), "project"),
        (ANNA, task(tags={"Project": "no such"}), "project"),
        (ANNA, task(image="elsewhere.example/x"), "images.allow"),
        (ANNA, task(image=f"{IMAGE}@{DIGEST}"), None),
        (PIPELINE, task(tags={}, image="registry.example.org/x:1"), "images.require_digest"),
        (PIPELINE, task(tags={}, image=f"registry.example.org/x@{DIGEST}"), None),
        (ANNA, wants(cpu_cores=16), None),
        (ANNA, wants(cpu_cores=17), "limits.cores"),
        (PIPELINE, task(tags={}, image=f"registry.example.org/x@{DIGEST}", resources=Resources(cpu_cores=32)), None),
        (ANNA, wants(ram_gb=32.0), None),
        (ANNA, wants(ram_gb=32.1), "limits.ram_gb"),
        (ANNA, wants(disk_gb=501.0), "limits.disk_gb"),
        (ANNA, wants(backend_parameters={"time_limit": "86400"}), None),
        (ANNA, wants(backend_parameters={"time_limit": "86401"}), "limits.time"),
        (ANNA, wants(backend_parameters={"max_retries": "2"}), None),
        (ANNA, wants(backend_parameters={"max_retries": "3"}), "backend_parameters"),
        (ANNA, wants(backend_parameters={"network": "true"}), "backend_parameters"),
        (ANNA, task(url="s3://reference-genomes/hg38.fa"), None),
        (ANNA, task(url="https://data.example.org/public/x?token=1"), None),
        (ANNA, task(url="s3://reference-genomes-2/hg38.fa"), "storage.read"),
        (ANNA, task(url="https://data.example.org/publicity/x"), "storage.read"),
        (ANNA, task(url="https://data.example.org/public/../private/x"), "storage"),
        (ANNA, task(url="https://data.example.org/public/%2e%2e/private/x"), "storage"),
        (ANNA, task(url="https://data.example.org@evil.example/public/x"), "storage"),
        (ANNA, task(url="file:///etc/passwd"), "storage.read"),
        (ANNA, task(url="/etc/passwd"), "storage.read"),
        (ANNA, task(to="s3://results/x"), None),
        (ANNA, task(to="s3://reference-genomes/x"), "storage.write"),
        (ANNA, task(url=SECRET), None),
        (ANNA, task(url="drs://drs.example.org/1234"), None),
        (ANNA, task(url="s3://Rare-Diseases/a"), None),  # a host has no case
        (ANNA, task(to=SECRET), "dataset.actions"),
        (BEN, task(url=SECRET), "dataset.visa"),
        (PIPELINE, task(tags={}, image=f"registry.example.org/x@{DIGEST}", url=SECRET), "dataset.project"),
        (ANNA, of_run(a_run(tags=HEART)), None),
        (ANNA, of_run(a_run(tags=HEART, workflow_params={"a": [{"b": SECRET}]})), None),
        (BEN, of_run(a_run(tags=HEART, workflow_params={"a": [{"b": SECRET}]})), "dataset.visa"),
        (BEN, of_run(a_run(tags=HEART, workflow_params={"manual": "https://docs.example/x"})), None),
        (ANNA, of_run(a_run(tags=HEART, workflow_url="https://elsewhere.example/w.smk")), "storage.read"),
    ],
)
def test_what_may_be_created(principal: Principal, resource: Resource, rule: str | None) -> None:
    decision = asked(the_example(), principal, resource)
    assert (decision.allowed, None if decision.allowed else decision.rule) == (rule is None, rule), decision


MINE = Resource(owner=ANNA.name, project="heart")


@pytest.mark.parametrize(
    ("principal", "may"),
    [
        (ANNA, {Action.READ, Action.CANCEL, Action.DELETE}),
        (BEN, {Action.READ, Action.CANCEL}),
        (CARL, set()),
        (OLGA, {Action.READ, Action.CANCEL}),
        (AUDREY, {Action.READ, Action.READ_AUDIT}),
        (a_principal("x", roles=frozenset({"auditor"})), {Action.READ, Action.READ_AUDIT}),
        (FALSE_ANNA, set()),
        (FALSE_OLGA, set()),
    ],
)
def test_who_may_touch_a_job_of_anna(principal: Principal, may: set[Action]) -> None:
    policy = the_example()
    for action in (Action.READ, Action.CANCEL, Action.DELETE, Action.READ_AUDIT):
        assert decide(policy, principal, action, MINE, NOW).allowed is (action in may), action


@pytest.mark.parametrize(
    "visa",
    [
        a_visa(type="ResearcherStatus"),
        a_visa(value="https://data.example.org/datasets/common-diseases"),
        a_visa(value="https://data.example.org/datasets/rare-diseases/"),
        a_visa(issuer="https://elsewhere.example"),
        a_visa(by="self"),
        a_visa(by=None),
        a_visa(expires_at=NOW),
        a_visa(asserted=NOW + 31),
    ],
)
def test_a_visa_that_is_not_the_one_asked_for_opens_nothing(visa: Any) -> None:
    decision = asked(the_example(), a_principal("anna", visas=(visa,)), task(url=SECRET))
    assert (decision.allowed, decision.rule) == (False, "dataset.visa")


def test_a_visa_of_somebody_whom_the_site_did_not_approve_opens_nothing() -> None:
    text = '[projects.p]\nmembers=["https://login.example.org|*"]\ndatasets=["d"]\n[datasets.d]\nurls=["s3://d/"]\n'
    decision = asked(parse(text), ANNA, of_task(a_task(inputs=(Input(path="/x", url="s3://d/x"),))))
    assert (decision.allowed, decision.rule, decision.datasets) == (False, "dataset.approval", ("d",))


def test_registered_access_needs_both_visas_of_one_person() -> None:
    text = (
        '[projects.p]\nmembers=["https://login.example.org|*"]\ndatasets=["d"]\n[datasets.d]\nurls=["s3://d/"]\n'
        '[[datasets.d.visas]]\ntype="RegisteredAccess"\n[[datasets.d.approvals]]\nwho=["project:p"]\n'
    )
    resource = of_task(a_task(inputs=(Input(path="/x", url="s3://d/x"),)))
    status = a_visa(type="ResearcherStatus", value=REGISTERED_ACCESS, by="so")
    terms = a_visa(type="AcceptedTermsAndPolicies", value=REGISTERED_ACCESS, by="self")
    for visas, rule in (
        ((status, terms), "storage"),
        ((status,), "dataset.visa"),
        ((terms,), "dataset.visa"),
        ((status, replace(terms, subject="ben")), "dataset.visa"),
        ((status, replace(terms, by=None)), "dataset.visa"),
    ):
        decision = asked(parse(text), a_principal("anna", visas=visas), resource)
        assert decision.allowed is (rule == "storage"), (visas, decision)


def test_after_the_end_of_visa_or_approval_nothing_new_starts() -> None:
    policy, resource = the_example(), task(url=SECRET)
    assert asked(policy, ANNA, resource, start=True).allowed
    late = asked(policy, ANNA, resource, start=True, now=NOW + 3600)
    assert (late.allowed, late.rule) == (False, "dataset.visa")
    assert "expired" in late.reason
    lasting = a_principal("anna", visas=(a_visa(expires_at=NOW + 900 * DAY),))
    ended = asked(policy, lasting, resource, start=True, now=1_814_400_001.0)  # 2027-07-01T00:00:01Z
    assert (ended.allowed, ended.rule) == (False, "dataset.approval")


def test_an_expired_credential_creates_nothing_but_does_not_stop_what_waits() -> None:
    past = a_principal("anna", expires_at=NOW)
    assert asked(the_example(), past, task()).rule == "expiry"
    assert asked(the_example(), past, task(), start=True).allowed


def test_the_decision_says_project_and_datasets() -> None:
    decision = asked(the_example(), ANNA, task(tags={}, url=SECRET))
    assert (decision.project, decision.datasets) == ("heart", ("rare-diseases",))


def test_a_policy_without_submitters_lets_all_submit_and_without_projects_leaves_tags_alone() -> None:
    policy = parse("")
    assert asked(policy, FALSE_ANNA, task()).allowed
    assert asked(policy, FALSE_ANNA, task()).project is None
    assert policy.standing(a_principal("x", roles=frozenset({"operator", "king"}))).roles == {Role.OPERATOR}


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("roles = 1", "roles", "dictionary"),
        ("[roles]\nking = []", "roles.king", "submitter"),
        ('[roles]\nauditor = ["audrey"]', "roles.auditor[0]", "names nobody"),
        ('[roles]\nauditor = ["group:x|*"]', "roles.auditor[0]", "a group has a name"),
        ("[limits]\ncores = 0", "limits.cores", "greater than or equal to 1"),
        ("[limit]\ncores = 1", "limit", "not permitted"),
        ('[projects.p]\nmembers = []\ndatasets = ["d"]', "projects.p.datasets[0]", "no dataset 'd'"),
        ('[storage]\nread = ["s3://a/../b"]', "storage.read[0]", "plain form"),
        ('[storage]\nread = ["bucket"]', "storage.read[0]", "plain form"),
        ('[images]\ndigests = ["sha256:1"]', "images.digests[0]", "no digest"),
        (f'{DATASET}[[datasets.d.approvals]]\nwho = ["project:p"]', "datasets.d.approvals[0].who[0]", "no project"),
        (f'{DATASET}[[datasets.d.visas]]\ntype = "ControlledAccessGrants"', "datasets.d.visas.0", "a value"),
        ("[roles", None, "not TOML"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_meant_is_refused_with_its_place(text: str, field: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        parse(text)
    assert (refused.value.field or "").startswith(field or "")
