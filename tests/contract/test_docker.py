"""The docker executor on a real Docker Engine: what a step sees from inside its container is closed by default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.testbeds.docker_engine import build_image
from tests.testbeds.docker_site import UID, DockerSite, a_step
from weft.errors import ExecutorRefused
from weft.model import Mount, Resources, Step
from weft.ports import Phase

pytestmark = pytest.mark.docker


@pytest.fixture
def site(docker_engine: str, tmp_path: Path) -> Iterator[DockerSite]:
    site = DockerSite(docker_engine, tmp_path)
    yield site
    site.close()
    assert site.containers() == []


@pytest.fixture
def open_site(docker_engine: str, tmp_path: Path) -> Iterator[DockerSite]:
    site = DockerSite(docker_engine, tmp_path, docker={"allow_network": True, "pids": 16, "tmpfs_mb": 3})
    yield site
    site.close()
    assert site.containers() == []


# -- closed by default ---------------------------------------------------------------------------------------------


def test_a_step_has_no_capabilities_and_gains_none(site: DockerSite) -> None:
    status = site.run("cat /proc/self/status").stdout()
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert values["NoNewPrivs"] == "1"
    assert values["Seccomp"] == "2"


def test_a_step_runs_as_the_jobs_own_user(site: DockerSite) -> None:
    assert site.run("id -u; id -g").stdout() == f"{UID}\n{UID}\n"


def test_a_step_of_a_job_without_a_user_is_not_root(site: DockerSite) -> None:
    assert site.run("id -u", uid=None, gid=None).stdout() != "0\n"


def test_the_root_file_system_is_read_only_and_tmp_is_not(site: DockerSite) -> None:
    ended = site.run("touch /x /etc/x /bin/x; echo 'echo ran' >/tmp/x; chmod +x /tmp/x; /tmp/x")
    assert ended.stderr().count("Read-only file system") == 3
    assert ended.stdout() == "ran\n"


def test_tmp_has_a_size(open_site: DockerSite) -> None:
    ended = open_site.run("head -c 10000000 /dev/zero >/tmp/x; wc -c </tmp/x")
    assert ended.stdout() == f"{3 << 20}\n"


def test_there_is_no_network_but_loopback(site: DockerSite) -> None:
    ended = site.run("ls /sys/class/net; wc -l </proc/net/route; ping -c1 -W2 localhost | grep -o '1 packets received'")
    devices = ended.stdout().splitlines()
    assert [name for name in devices if name.startswith(("eth", "wl", "en"))] == []
    assert site.run("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").stdout() == "lo\n"


def test_localhost_has_its_name(site: DockerSite) -> None:
    ended = site.run("echo hello | nc -l -p 8000 & sleep 0.2; nc localhost 8000 </dev/null")
    assert ended.stdout() == "hello\n"


def test_a_network_is_there_where_it_is_allowed_and_asked_for(open_site: DockerSite) -> None:
    resources = Resources(backend_parameters={"network": "true"})
    devices = open_site.run("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", resources=resources).stdout()
    assert "eth0" in devices


def test_a_network_that_is_not_allowed_is_refused(site: DockerSite) -> None:
    assert site.executor.capabilities.backend_parameters == frozenset()
    with pytest.raises(ExecutorRefused, match="no network"):
        site.run("true", resources=Resources(backend_parameters={"network": "true"}))


def test_gpus_of_an_engine_that_has_none_are_refused_in_words(docker_engine: str, tmp_path: Path) -> None:
    site = DockerSite(docker_engine, tmp_path, docker={"max_gpus": 1})
    try:
        if "nvidia" in site.api.info()["Runtimes"]:
            pytest.skip("this engine has GPUs")
        assert site.executor.capabilities.backend_parameters == {"gpus"}
        seen = site.run("true", resources=Resources(backend_parameters={"gpus": "1"})).seen
        assert seen.failure is not None
        assert "this Docker Engine offers none" in seen.failure.reason
    finally:
        site.close()


def test_what_a_task_may_choose_is_what_the_site_allows(docker_engine: str, tmp_path: Path) -> None:
    site = DockerSite(docker_engine, tmp_path, docker={"allow_network": True, "max_gpus": 4, "users": [1234]})
    try:
        able = site.executor.capabilities
        chosen = {"user"} if os.geteuid() == 0 else set()
        assert able.backend_parameters == {"network", "gpus"} | chosen
        assert able.users == ({1234} if chosen else set())
    finally:
        site.close()


def test_the_number_of_processes_is_limited(open_site: DockerSite) -> None:
    ended = open_site.run("for i in $(seq 30); do sleep 2 & done; wait")
    assert "fork" in ended.stderr()


def test_the_memory_limit_bites_and_is_said_in_words(site: DockerSite) -> None:
    ended = site.run("x=a; while true; do x=$x$x; done", resources=Resources(ram_gb=0.064))
    assert ended.exit_codes == [137]
    assert ended.seen.steps[0].reason == "killed: out of memory, limit 64 MB"


def test_a_child_that_ran_out_of_memory_does_not_speak_for_its_step(site: DockerSite) -> None:
    script = "sh -c 'x=a; while true; do x=$x$x; done'; exit 0"
    ended = site.run(script, resources=Resources(ram_gb=0.064))
    assert ended.exit_codes == [0]
    assert ended.seen.steps[0].reason is None


def test_more_memory_than_the_host_has_is_refused(site: DockerSite) -> None:
    with pytest.raises(ExecutorRefused, match="asks for 1e\\+06 GB of memory"):
        site.run("true", resources=Resources(ram_gb=1e6))


def test_cores_are_limited_to_what_was_asked_for(site: DockerSite) -> None:
    script = (
        "cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us"
    )
    quota, period = site.run(script, resources=Resources(cpu_cores=1)).stdout().split()
    assert int(quota) == int(period)


def test_open_files_and_core_dumps_are_limited(site: DockerSite) -> None:
    assert site.run("ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc").stdout().split() == ["16384", "16384", "0", "0"]


def test_an_init_process_reaps_and_the_engine_is_out_of_reach(site: DockerSite) -> None:
    ended = site.run(
        "cat /proc/1/comm; find / -xdev -name 'docker*.sock' 2>/dev/null; ls -d /dev/sd* /dev/vd* /dev/mem"
    )
    assert ended.stdout() == "docker-init\n"


def test_an_engine_without_an_init_program_runs_steps_all_the_same(site: DockerSite) -> None:
    runner = site.executor._runner
    runner.limits = replace(runner.limits, init=False)
    ended = site.run("cat /proc/1/comm; true", Step(image="busybox", command=("nosuch",)))
    assert ended.stdout() == "sh\n"
    assert ended.exit_codes == [0, 127]
    assert ended.seen.steps[1].reason == "command not found: nosuch"


def test_the_images_entrypoint_volumes_and_health_check_are_not_used(site: DockerSite) -> None:
    image = build_image(
        site.host,
        "weft-test-entrypoint",
        "FROM busybox",
        'ENTRYPOINT ["echo", "the entrypoint"]',
        'CMD ["the", "command"]',
        "ENV FROM_IMAGE=yes",
        "VOLUME /scratch",
        "HEALTHCHECK --interval=1s CMD touch /data/health",
    )
    volumes = {volume["Name"] for volume in site.api.volumes()["Volumes"] or ()}
    ended = site.run(a_step("echo $FROM_IMAGE $MINE; sleep 1.5; ls /data", image=image, env={"MINE": "a b=$HOME"}))
    assert ended.stdout() == "yes a b=$HOME\n"
    assert {volume["Name"] for volume in site.api.volumes()["Volumes"] or ()} == volumes
    site.api.remove_image(image)


def test_a_read_only_mount_cannot_be_written(site: DockerSite, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    given.chmod(0o777)
    (given / "file").write_text("input")
    mounts = (Mount(source=given, target="/given", read_only=True),)
    ended = site.run("cat /given/file; echo no >/given/file", mounts=mounts)
    assert ended.stdout() == "input"
    assert "Read-only file system" in ended.stderr()
    assert (given / "file").read_text() == "input"


def test_containers_bear_the_labels_of_their_job(site: DockerSite) -> None:
    work = site.submission("sleep 60", "true")
    site.executor.submit(work)
    labels = site.api.inspect_container(site.container(work))["Config"]["Labels"]
    expected = {
        "key": work.key,
        "job": work.job_id,
        "attempt": "1",
        "step": "0",
        "steps": "2",
        "folder": str(work.folder),
    }
    assert {name.removeprefix("weft."): value for name, value in labels.items() if name != "weft.owner"} == expected


# -- refusals and health -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["127.0.0.1:1/nosuch:1", "-v", "UPPER CASE", "busybox@sha256:12"])
def test_an_image_that_cannot_be_had_is_refused_in_words(site: DockerSite, image: str) -> None:
    with pytest.raises(ExecutorRefused, match=r"image .* not found: "):
        site.run(a_step("true", image=image))


def test_an_engine_that_is_down_is_said_with_the_remedy(tmp_path: Path) -> None:
    from executors.docker import create
    from weft.config import DockerSettings, Settings
    from weft.errors import Unavailable

    executor = create(Settings(data=tmp_path, docker=DockerSettings(host=f"unix://{tmp_path}/none.sock")))
    executor.start(lambda handle: None)
    health = executor.check()
    assert not health.usable
    assert "No such file or directory" in health.detail
    assert health.remedy is not None
    assert executor.capabilities.slots is None
    with pytest.raises(Unavailable, match="does not answer"):
        executor.find("key")
    executor.stop()


def test_an_engine_that_answers_is_usable(site: DockerSite) -> None:
    health = site.executor.check()
    assert health.usable
    assert "Docker Engine" in health.detail


def test_capabilities_are_those_of_the_host(site: DockerSite) -> None:
    info = site.api.info()
    able = site.executor.capabilities
    assert (able.cpu_cores, able.ram_bytes, able.slots) == (info["NCPU"], info["MemTotal"], 2 * info["NCPU"])
    assert able.wakes
    assert able.uses_image
    assert able.shared_filesystem


def test_the_image_is_resolved_once_and_its_digest_stands_in_the_metadata(site: DockerSite) -> None:
    ended = site.run("true")
    assert ended.seen.metadata["image_digest"] == f"busybox@{site.api.inspect_image('busybox')['Id']}"
    assert ended.seen.metadata["host"] == site.api.info()["Name"]
    assert ended.seen.phase is Phase.ENDED
