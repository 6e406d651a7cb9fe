"""A hub and two sites as real servers: one request, two nodes, one answer; and what is refused at its coming in."""

from __future__ import annotations

from typing import Any

import requests

from tests.federation.conftest import Federation


def task(script: str, **parameters: str) -> dict[str, Any]:
    step = {"image": "busybox", "command": ["sh", "-c", script]}
    return {"executors": [step], "resources": {"backend_parameters": parameters}}


def test_one_task_runs_at_two_nodes_and_one_cancel_ends_both(federation: Federation) -> None:
    hub = federation.hub
    for name in ("cz", "ee"):
        federation.join(name)
    both = hub.wait(hub.create(task("echo hello", nodes="cz,ee")))
    assert both["state"] == "COMPLETE", (both, hub.log())
    assert both["logs"][0]["metadata"] | {"node.cz": "COMPLETE", "partial": "false"} == both["logs"][0]["metadata"]

    running = hub.create(task("sleep 600", nodes="cz,ee"))
    hub.wait(running, until={"RUNNING"})
    hub.cancel(running)
    assert hub.wait(running)["state"] == "CANCELED"
    for site in federation.sites.values():
        assert site.processes() == []

    unknown = requests.post(f"{hub.tes}/tasks", json=task("true", nodes="cz,xx"), timeout=30)
    assert (unknown.status_code, unknown.json()["field"]) == (400, "resources.backend_parameters.node")
    nowhere = task("true") | {"inputs": [{"url": "dataset://cohort/x", "path": "/in/x"}]}
    refused = requests.post(f"{hub.tes}/tasks", json=nowhere, timeout=30)
    assert refused.status_code == 400
    assert "no node of this hub holds dataset://cohort/x" in refused.json()["detail"]
