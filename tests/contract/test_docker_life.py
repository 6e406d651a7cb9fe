"""The docker executor on a real Docker Engine: steps, streams, cancel, restarts, and an engine that dies."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.testbeds.docker_engine import PrivateEngine, add_stand_ins, missing_tools, private_engine
from tests.testbeds.docker_site import DockerSite, a_step, eventually
from weft.errors import ExecutorRefused, Unavailable
from weft.folders import AttemptFolder, log_path
from weft.model import Handle, Step, Submission
from weft.ports import Phase

pytestmark = pytest.mark.docker


@pytest.fixture
def site(docker_engine: str, tmp_path: Path) -> Iterator[DockerSite]:
    site = DockerSite(docker_engine, tmp_path)
    yield site
    site.close()
    assert site.containers() == []


def shared(work: Submission) -> Path:
    return work.mounts[0].source


# -- steps ---------------------------------------------------------------------------------------------------------


def test_steps_run_in_order_and_share_their_mounts(site: DockerSite) -> None:
    write = a_step("echo one; echo oops >&2", stdout="/data/sub/out", stderr="/data/err")
    ended = site.run(
        write, "cat /data/sub/out /data/err; echo two >>/data/sub/out; pwd", a_step("pwd", workdir="/data")
    )
    assert ended.exit_codes == [0, 0, 0]
    assert ended.stdout(1) == "one\noops\n/\n"
    assert ended.stdout(2) == "/data\n"
    started = [step.started_at for step in ended.seen.steps]
    finished = [step.ended_at for step in ended.seen.steps]
    assert started == sorted(started)
    assert all(end <= start for end, start in zip(finished, started[1:], strict=False))


def test_a_failing_step_is_the_last(site: DockerSite) -> None:
    ended = site.run("exit 7", "echo never")
    assert ended.exit_codes == [7]
    assert ended.seen.failure is None


def test_an_ignored_failure_is_recorded_and_the_next_step_runs(site: DockerSite) -> None:
    missing = Step(image="busybox", command=("nosuch",), ignore_error=True)
    ended = site.run(a_step("exit 7", ignore_error=True), missing, "echo after")
    assert ended.exit_codes == [7, 127, 0]
    assert ended.seen.steps[1].reason == "command not found: nosuch"
    assert ended.stdout(2) == "after\n"


def test_a_workdir_that_cannot_be_is_refused_in_words(site: DockerSite) -> None:
    with pytest.raises(ExecutorRefused, match=r"step 0: .*/etc/passwd is not a directory"):
        site.run(a_step("pwd", workdir="/etc/passwd"))


def test_a_later_step_that_is_refused_is_a_failure_in_words(site: DockerSite) -> None:
    ended = site.run("true", a_step("pwd", workdir="/etc/passwd"))
    assert ended.exit_codes == [0]
    assert ended.seen.failure is not None
    assert "step 1: " in ended.seen.failure.reason


# -- streams -------------------------------------------------------------------------------------------------------


def test_stdin_comes_from_a_mount_whole(site: DockerSite) -> None:
    work = site.submission(a_step("wc -c", stdin="/data/in"))
    (shared(work) / "in").write_bytes(bytes(5_000_000))
    handle = site.executor.submit(work)
    site.ended(handle)
    assert log_path(work.folder, work.mounts, work.steps, 0, "stdout").read_text() == "5000000\n"


def test_stdin_that_nobody_reads_holds_nothing_up(site: DockerSite) -> None:
    work = site.submission(a_step("true", stdin="/data/in"))
    (shared(work) / "in").write_bytes(bytes(5_000_000))
    assert site.ended(site.executor.submit(work)).steps[0].exit_code == 0


def test_stdin_may_be_a_file_of_the_image(site: DockerSite) -> None:
    step = Step(image="alpine", command=("cat",), stdin="/etc/fstab")
    assert site.run(step).stdout() == "# nothing is mounted here\n"


def test_stdin_follows_links_only_inside_the_container(site: DockerSite, tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text("the host's")
    steps = (
        "ln -s /etc/fstab /data/inside; ln -s real /data/near; echo mine >/data/real; ln -s "
        + str(tmp_path)
        + " /data/out",
    )
    inside = Step(image="alpine", command=("cat",), stdin="/data/inside")
    near = Step(image="alpine", command=("cat",), stdin="/data/near")
    outside = Step(image="alpine", command=("cat",), stdin="/data/out/fstab")
    ended = site.run(*steps, inside, near, outside)
    assert ended.stdout(1) == "# nothing is mounted here\n"
    assert ended.stdout(2) == "mine\n"
    assert ended.seen.failure is not None
    assert "step 3: there is no such file for stdin: /data/out/fstab" in ended.seen.failure.reason


@pytest.mark.parametrize("name", ["/data/link", "/data/way/file"])
def test_stdout_never_follows_a_link_that_a_step_made(site: DockerSite, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("the host's")
    make = f"ln -s {tmp_path}/file /data/link; ln -s {tmp_path} /data/way"
    ended = site.run(make, a_step("echo pwned", stdout=name))
    assert ended.seen.failure is not None
    assert "not a regular file, or reached through a link" in ended.seen.failure.reason
    assert (tmp_path / "file").read_text() == "the host's"


def test_stdout_and_stderr_may_be_one_file(site: DockerSite) -> None:
    work = site.submission(a_step("echo a; sleep 0.1; echo b >&2", stdout="/data/log", stderr="/data/log"))
    site.ended(site.executor.submit(work))
    assert (shared(work) / "log").read_text() == "a\nb\n"
    assert (shared(work) / "log").stat().st_uid == work.uid


def test_output_is_there_while_a_step_runs(site: DockerSite) -> None:
    work = site.submission("echo first; until [ -e /data/go ]; do sleep 0.05; done; echo last")
    handle = site.executor.submit(work)
    path = log_path(work.folder, work.mounts, work.steps, 0, "stdout")
    assert eventually(path, "first") == "first\n"
    assert site.executor.observe([handle])[handle].phase is Phase.RUNNING
    (shared(work) / "go").touch()
    site.ended(handle)
    assert path.read_text() == "first\nlast\n"


def test_much_output_is_complete_when_the_step_has_ended(site: DockerSite) -> None:
    work = site.submission(a_step("seq 2000000; echo end >&2", stdout="/data/out"))
    site.ended(site.executor.submit(work))
    assert (shared(work) / "out").read_text() == "".join(f"{number}\n" for number in range(1, 2_000_001))


def test_captured_output_is_capped_and_its_end_kept(docker_engine: str, tmp_path: Path) -> None:
    site = DockerSite(docker_engine, tmp_path, max_log_bytes=100_000)
    ended = site.run("seq 1000000")
    assert 50_000 <= len(ended.stdout()) <= 100_000
    assert ended.stdout().endswith("\n999999\n1000000\n")
    assert ended.seen.messages == ("step 0: only the end of stdout is kept",)
    site.close()


# -- submit, find, cancel, forget ----------------------------------------------------------------------------------


def test_a_job_that_is_submitted_twice_is_started_once(site: DockerSite) -> None:
    work = site.submission("sleep 60")
    assert site.executor.submit(work) == site.executor.submit(work)
    site.restart()
    handle = site.executor.submit(work)
    assert site.containers() == [site.container(work)]
    assert site.executor.find(work.key) == handle
    assert site.executor.find("nosuch") is None
    assert list(site.executor.list()) == [(work.key, handle)]


def test_another_installation_does_not_see_the_job(site: DockerSite, docker_engine: str, tmp_path: Path) -> None:
    work = site.submission("sleep 60")
    handle = site.executor.submit(work)
    other = DockerSite(docker_engine, tmp_path / "other")
    assert other.executor.find(work.key) is None
    assert list(other.executor.list()) == []
    assert other.executor.observe([handle])[handle].phase is Phase.UNSEEN
    other.executor.forget(handle)
    assert site.executor.observe([handle])[handle].phase is Phase.RUNNING
    other.close()


def test_cancel_removes_the_container_within_a_second(site: DockerSite) -> None:
    work = site.submission("trap '' TERM; sleep 60", "echo never")
    handle = site.executor.submit(work)
    before = time.monotonic()
    site.executor.cancel(handle)
    assert time.monotonic() - before < 1
    assert site.containers() == []
    seen = site.executor.observe([handle])[handle]
    assert seen.phase is Phase.ENDED
    assert seen.failure is not None
    site.executor.cancel(handle)
    site.executor.forget(handle)
    site.executor.forget(handle)
    assert site.executor.observe([handle])[handle].phase is Phase.UNSEEN


def test_forget_removes_the_containers_of_all_steps(site: DockerSite) -> None:
    work = site.submission("true", "true", "true")
    handle = site.executor.submit(work)
    site.ended(handle)
    assert len(site.containers()) == 3
    site.executor.forget(handle)
    assert site.containers() == []


def test_what_was_never_submitted_is_unseen(site: DockerSite) -> None:
    handle = Handle(executor="docker", native_id="nosuch-1")
    assert site.executor.observe([handle])[handle].phase is Phase.UNSEEN
    site.executor.cancel(handle)
    site.executor.forget(handle)


def test_a_container_that_somebody_removed_is_unseen_and_never_a_success(site: DockerSite) -> None:
    work = site.submission("sleep 60")
    handle = site.executor.submit(work)
    site.api.remove_container(site.container(work), force=True)
    seen = site.until(handle, lambda seen: seen.phase in (Phase.UNSEEN, Phase.ENDED))
    assert seen.phase is Phase.UNSEEN or seen.failure is not None


def test_a_container_that_somebody_killed_is_not_the_steps_own_failure(site: DockerSite) -> None:
    work = site.submission("sleep 60")
    handle = site.executor.submit(work)
    site.api.kill(site.container(work))
    seen = site.ended(handle)
    assert seen.failure is not None
    assert seen.failure.retry


# -- restarts ------------------------------------------------------------------------------------------------------


def test_a_running_job_is_adopted_with_all_of_its_output(site: DockerSite) -> None:
    work = site.submission("seq 1000; until [ -e /data/go ]; do sleep 0.05; done; echo last", "echo second")
    handle = site.executor.submit(work)
    path = log_path(work.folder, work.mounts, work.steps, 0, "stdout")
    eventually(path, "1000\n")
    site.restart()
    seen = site.executor.observe([handle])[handle]
    assert seen.phase is Phase.RUNNING
    assert len(seen.steps) == 1
    (shared(work) / "go").touch()
    seen = site.ended(handle)
    assert [step.exit_code for step in seen.steps] == [0, 0]
    assert path.read_text() == "".join(f"{number}\n" for number in range(1, 1001)) + "last\n"
    assert log_path(work.folder, work.mounts, work.steps, 1, "stdout").read_text() == "second\n"


def test_a_step_that_ended_while_nobody_looked_is_followed_by_the_next(site: DockerSite) -> None:
    work = site.submission(
        a_step("until [ -e /data/go ]; do sleep 0.05; done; echo away; exit 3", ignore_error=True), "true"
    )
    handle = site.executor.submit(work)
    site.executor.stop()
    (shared(work) / "go").touch()
    site.api.wait(site.container(work))
    site.restart()
    seen = site.ended(handle)
    assert [step.exit_code for step in seen.steps] == [3, 0]
    assert log_path(work.folder, work.mounts, work.steps, 0, "stdout").read_text() == "away\n"


def test_an_ended_job_is_read_back_from_its_containers(site: DockerSite) -> None:
    work = site.submission("echo one", a_step("exit 4"), "true")
    handle = site.executor.submit(work)
    before = site.ended(handle)
    site.restart()
    assert site.ended(handle) == before
    assert log_path(work.folder, work.mounts, work.steps, 0, "stdout").read_text() == "one\n"


def test_a_container_that_was_created_and_never_started_is_started(
    site: DockerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = site.submission("echo started")

    def die(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(site.executor._runner, "_start", die)
    with pytest.raises(Unavailable):
        site.executor.submit(work)
    site.restart()
    handle = site.executor.find(work.key)
    assert handle is not None
    assert site.ended(handle).steps[0].exit_code == 0


def test_a_job_whose_stdin_was_cut_off_by_a_death_is_tried_again(site: DockerSite) -> None:
    work = site.submission(a_step("sleep 60", stdin="/data/in"))
    (shared(work) / "in").write_bytes(bytes(5_000_000))
    handle = site.executor.submit(work)
    site.restart()
    seen = site.ended(handle)
    assert seen.failure is not None
    assert seen.failure.retry


def test_a_job_whose_stdin_was_sent_is_adopted(site: DockerSite) -> None:
    work = site.submission(a_step("cat; sleep 0.5; echo end", stdin="/data/in"))
    (shared(work) / "in").write_text("hello\n")
    handle = site.executor.submit(work)
    eventually(log_path(work.folder, work.mounts, work.steps, 0, "stdout"), "hello")
    site.restart()
    assert site.ended(handle).steps[0].exit_code == 0
    assert log_path(work.folder, work.mounts, work.steps, 0, "stdout").read_text() == "hello\nend\n"


def test_a_job_whose_folder_is_gone_has_failed(site: DockerSite) -> None:
    work = site.submission("sleep 60")
    handle = site.executor.submit(work)
    site.restart()
    for path in AttemptFolder(work.folder).control.iterdir():
        path.unlink()
    seen = site.executor.observe([handle])[handle]
    assert seen.phase is Phase.ENDED
    assert seen.failure is not None


def test_without_events_a_look_is_enough(site: DockerSite) -> None:
    site.executor._events.stop()
    handle = site.executor.submit(site.submission("true", "true"))
    deadline = time.monotonic() + 30
    while (seen := site.executor.observe([handle])[handle]).phase is not Phase.ENDED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [step.exit_code for step in seen.steps] == [0, 0]


# -- an engine of its own ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("end", [PrivateEngine.stop, PrivateEngine.crash], ids=["stopped", "crashed"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py leaks where nobody listens
def test_an_engine_that_dies_and_comes_again_loses_no_job(tmp_path: Path, end: Callable[[PrivateEngine], None]) -> None:
    missing = missing_tools()
    if missing:
        pytest.skip(missing)
    with private_engine("--init-path=/nosuch/docker-init") as engine:
        add_stand_ins(engine.host)
        site = DockerSite(engine.host, tmp_path)
        handle = site.executor.submit(site.submission("trap 'exit 143' TERM; while true; do sleep 0.1; done"))
        assert not site.executor._runner.limits.init
        end(engine)
        with pytest.raises(Unavailable):
            site.executor.observe([handle])
        assert not site.executor.check().usable
        engine.start()
        seen = site.until(handle, lambda seen: seen.phase in (Phase.ENDED, Phase.UNSEEN))
        assert seen.failure is not None
        assert seen.failure.retry
        site.executor.forget(handle)
        assert site.run("echo again").stdout() == "again\n"
        site.close()
        gc.collect()
