"""One ``echo`` task on Docker, from create to COMPLETE, against the same container made by bare calls of the API."""

from __future__ import annotations

import time

import docker
import requests

from benchmarks.report import Row, at_most, interleaved
from tests.live import TERMINAL, LiveWeft


def rows(weft: LiveWeft, docker_host: str, image: str, rounds: int = 15) -> list[Row]:
    """Measure medians of ``rounds`` turns each; the bare container is hardened as weft hardens its own."""
    client = docker.DockerClient(base_url=docker_host)
    session = requests.Session()

    def by_weft() -> float:
        task = {"executors": [{"image": image, "command": ["echo", "hello"]}]}
        begin = time.perf_counter()
        task_id = session.post(f"{weft.tes}/tasks", json=task, timeout=30).json()["id"]
        while True:
            state = session.get(f"{weft.tes}/tasks/{task_id}", timeout=30).json()["state"]
            if state in TERMINAL:
                break
            time.sleep(0.002)
        taken = time.perf_counter() - begin
        assert state == "COMPLETE", weft.task(task_id)
        return taken * 1000

    def bare() -> float:
        begin = time.perf_counter()
        bare_container(client, image)
        return (time.perf_counter() - begin) * 1000

    by_weft(), bare()
    mine, limit = interleaved(rounds, by_weft, bare)
    return [at_most("one echo task on Docker, create to COMPLETE", mine, limit, "ms", 1.15)]


def bare_container(client: docker.DockerClient, image: str) -> None:
    """Run ``echo`` in a container, hardened as weft hardens its own, with the fewest calls that do it."""
    container = client.api.create_container(
        image, ["echo", "hello"], user="65534:65534", network_disabled=True, host_config=_host_config(client)
    )
    client.api.start(container["Id"])
    client.api.wait(container["Id"])
    client.api.logs(container["Id"])
    client.api.remove_container(container["Id"])


def _host_config(client: docker.DockerClient) -> dict[str, object]:
    config: dict[str, object] = client.api.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit=2 * 10**9,
        memswap_limit=2 * 10**9,
        pids_limit=4096,
        tmpfs={"/tmp": "size=64m"},
        init=True,
    )
    return config
