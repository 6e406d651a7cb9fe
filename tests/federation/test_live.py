"""A hub and sites as real servers: a task goes there and its outcome comes back."""

from __future__ import annotations

from typing import Any

from tests.federation.conftest import Federation


def task(*command: str, **resources: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"executors": [{"image": "busybox", "command": list(command)}]}
    if resources:
        document["resources"] = {"backend_parameters": resources}
    return document


def test_a_task_goes_to_a_node_and_its_outcome_comes_back(federation: Federation) -> None:
    site = federation.join("cz")
    done = federation.hub.wait(federation.hub.create(task("sh", "-c", "echo hello; echo oops >&2")))
    assert done["state"] == "COMPLETE", (done, federation.hub.log(), site.log())
    (log,) = done["logs"]
    assert (log["logs"][0]["exit_code"], log["logs"][0]["stdout"], log["logs"][0]["stderr"]) == (0, "hello\n", "oops\n")
    assert log["metadata"]["node"] == "cz"
