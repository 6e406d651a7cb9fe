"""Steps in the files of their image, on a real Slurm: a folder as charliecloud unpacks it, in bubblewrap."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors.slurm import create
from tests.contract.suite import MAX_LOG_BYTES, Bench, Watched, exit_codes
from tests.testbeds import docker_engine, slurm_site
from tests.testbeds.slurm_site import SlurmSite
from weft.config import Settings
from weft.errors import ExecutorRefused
from weft.model import Mount
from weft.sections.backends import SlurmSettings


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, site: SlurmSite) -> Path:
    """A folder with the image ``alpine:3``: busybox, with a place for data and a variable."""
    folder = site.folder / "img"
    root = folder / "alpine+3"
    with tarfile.open(fileobj=io.BytesIO(docker_engine._small_root())) as tar:
        tar.extractall(root, filter="fully_trusted")
    (root / "srv" / "data").mkdir(parents=True)
    (root / "srv" / "note").write_text("of the image\n")
    (root / "ch").mkdir()
    (root / "ch" / "environment").write_text("FLAVOUR=sweet\nOTHER=image\n")
    return folder


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    missing = slurm_site.missing_tools() or docker_engine.missing_tools()
    if missing:
        pytest.skip(missing)
    with slurm_site.private_site(nodes=1) as running:
        yield running


@pytest.fixture
def settings(data: Path, site: SlurmSite, images: Path) -> Settings:
    slurm = SlurmSettings(conf=site.conf, user=slurm_site.ACCOUNT, python=Path("/usr/bin/python3"), images=images)
    return Settings(data=data, max_log_bytes=MAX_LOG_BYTES, slurm=slurm, beat_seconds=0.1)


@pytest.fixture
def bench(data: Path, site: SlurmSite) -> Bench:
    return Bench(data, "docker.io/library/alpine:3", user=site.account.pw_uid)


@pytest.fixture
def watched(settings: Settings) -> Iterator[Watched]:
    made = Watched(create(settings))
    yield made
    for _, handle in list(made.executor.list()):
        made.executor.forget(handle)


def test_a_step_sees_its_image_its_mounts_and_nothing_of_the_node(watched: Watched, bench: Bench) -> None:
    there = bench.volume("/srv/data", words="of the job\n")
    new = bench.volume("/srv/new/place", words="made for it\n")
    step = bench.shell(
        "cat /srv/note /srv/data/words /srv/new/place/words; echo $FLAVOUR $OTHER; pwd; id -u; echo /srv/* /home;"
        " ls /usr/lib | wc -l; echo x > /srv/note || echo read-only",
        env={"OTHER": "step"},
        workdir="/opt/made",
    )
    work = bench.submission(step, mounts=(there, new))
    seen = watched.run(work)
    assert (exit_codes(seen), seen.messages) == ([0], ())
    uid = str(bench.user)
    expected = ["of the image", "of the job", "made for it", "sweet step", "/opt/made", uid]
    lines = bench.log(work).splitlines()
    assert lines == [*expected, "/srv/data /srv/new /srv/note /home", "0", "read-only"], bench.log(work, 0, "stderr")
    assert watched.executor.capabilities.uses_image


def test_steps_of_one_job_may_have_different_images(watched: Watched, bench: Bench, images: Path) -> None:
    other = images / "other+latest"
    if not other.exists():
        other.symlink_to("alpine+3")
    volume = bench.volume()
    work = bench.submission(
        bench.shell("echo one > /vol/file"), bench.step("cat", "/vol/file", image="other"), mounts=(volume,)
    )
    assert exit_codes(watched.run(work)) == [0, 0]
    assert bench.log(work, 1) == "one\n"


@pytest.mark.parametrize("name", ["nosuch:1", "..", "../alpine+3", ".", ""])
def test_an_image_that_is_not_there_is_refused(watched: Watched, bench: Bench, name: str) -> None:
    with pytest.raises(ExecutorRefused, match="is not unpacked"):
        watched.executor.submit(bench.submission(bench.step("echo", image=name)))


def test_nothing_is_mounted_below_a_link_of_the_image(watched: Watched, bench: Bench, images: Path) -> None:
    link = images / "alpine+3" / "link"
    if not link.is_symlink():
        link.symlink_to("/srv")
    mount = Mount(source=bench.volume().source, target="/link/there")
    with pytest.raises(ExecutorRefused, match="no folder of the image"):
        watched.executor.submit(bench.submission(bench.step("echo"), mounts=(mount,)))
