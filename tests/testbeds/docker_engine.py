"""A private Docker Engine in its own network namespace, with images made of Debian packages instead of a registry.

By hand: ``python -m tests.testbeds.docker_engine`` starts one, prints its ``DOCKER_HOST`` and stops it on Ctrl-C.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import ImageNotFound

#: Tools that a private engine needs, and the Debian package that each comes from.
TOOLS = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
#: All are the same small file system: busybox with a real bash. They stand in for the images of that name.
STAND_INS = ("busybox", "alpine", "bash", "ubuntu")
DEBIAN = "weft-test-debian"
_READY_WITHIN = 60.0
_FSTAB = "# nothing is mounted here\n"
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


def missing_tools() -> str | None:
    """Say what keeps this machine from starting an engine; None when nothing does."""
    if os.geteuid() != 0:
        return "a private Docker Engine needs root; set WEFT_TEST_DOCKER_HOST to use another one"
    missing = [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class PrivateEngine:
    """One ``dockerd``, which can die and come again."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        # Not pytest's own folder: the path of a socket must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="weft-dockerd-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{self._folder}/docker.sock"

    def start(self) -> None:
        """Start ``dockerd`` and wait until it answers."""
        # A network namespace of its own: its bridge and its firewall rules cannot touch another engine's.
        inside = ["sh", "-c", 'ip link set lo up && exec dockerd "$@"', "dockerd"]
        places = {"host": self.host, "data-root": self._folder / "data", "exec-root": self._folder / "exec"}
        options = [f"--{name}={value}" for name, value in places.items()]
        log = self._folder / "dockerd.log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                ["unshare", "--net", *inside, *options, f"--pidfile={self._folder}/docker.pid", *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        _wait_until_ready(self._process, self.host, log)

    def stop(self) -> None:
        """End ``dockerd`` by its own process id."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.crash()
        self._process = None

    def crash(self) -> None:
        """Kill ``dockerd`` and all that it started, as when the machine loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for pid in _started_below(self._folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _clean(self._folder / "exec")  # it would lie in memory; its process ids may be zombies for a while

    def remove(self) -> None:
        """Stop, and remove all that it made."""
        try:
            if self._process is not None:
                _remove_containers(self.host)
        finally:
            self.stop()
            self.crash()
            _clean(self._folder)


@contextmanager
def private_engine(*flags: str) -> Iterator[PrivateEngine]:
    """Run an engine with extra ``flags`` of ``dockerd``."""
    engine = PrivateEngine(*flags)
    try:
        engine.start()
        yield engine
    finally:
        engine.remove()


def _wait_until_ready(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        if _listens(host):
            docker.APIClient(host, version="auto").close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"dockerd did not start:\n{log.read_text()[-4000:]}")


def _started_below(folder: Path) -> list[int]:
    """Return the processes that name ``folder`` on their command line, each after its children."""
    parents, named = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if os.fsencode(f"{folder}/") in (entry / "cmdline").read_bytes():
                named.append(pid)
    found = list(named)
    for pid in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found[::-1]


def _listens(host: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(host.removeprefix("unix://")) == 0


def _remove_containers(host: str) -> None:
    api = docker.APIClient(host, version="auto")
    for container in api.containers(all=True):
        api.remove_container(container["Id"], force=True, v=True)
    api.close()


def _clean(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([point for point in mounted if Path(point).is_relative_to(folder)]):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(folder, ignore_errors=not folder.exists())


def add_stand_ins(host: str) -> None:
    """Make the images of ``STAND_INS`` that the engine at ``host`` has not got."""
    api = docker.APIClient(host, version="auto")
    try:
        missing = [name for name in STAND_INS if not _has_image(api, name)]
        if missing:
            _import(api, _small_root(), missing[0], ["CMD ['/bin/sh']"])
        for name in missing[1:]:
            api.tag(missing[0], name, "latest", force=True)
    finally:
        api.close()


def add_debian(host: str, *packages: str) -> str:
    """Make an image of Debian packages (bash and coreutils besides those named) and return its name."""
    script = Path(__file__).parents[2] / "scripts" / "debian_image.sh"
    api = docker.APIClient(host, version="auto")
    try:
        with tempfile.TemporaryDirectory() as folder:
            tar = Path(folder) / "root.tar"
            subprocess.run([script, tar, *packages], check=True)
            _import(api, tar.read_bytes(), DEBIAN, ["CMD ['/bin/bash']"])
    finally:
        api.close()
    return DEBIAN


def build_image(host: str, name: str, *lines: str) -> str:
    """Build an image of the lines of a Dockerfile and return its name."""
    api = docker.APIClient(host, version="auto")
    try:
        for line in api.build(fileobj=io.BytesIO("\n".join(lines).encode()), tag=name, rm=True, decode=True):
            if "error" in line:
                raise RuntimeError(line["error"])
    finally:
        api.close()
    return name


def _has_image(api: docker.APIClient, name: str) -> bool:
    try:
        api.inspect_image(name)
    except ImageNotFound:
        return False
    return True


def _import(api: docker.APIClient, tar: bytes, name: str, changes: list[str]) -> None:
    changes = ["ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", *changes]
    answer = api.import_image_from_data(tar, repository=name, tag="latest", changes=changes)
    if '"error"' in answer:
        raise RuntimeError(answer)


def _small_root() -> bytes:
    """Make a file system of Debian's static busybox and bash, as a tar."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _unpack("busybox-static", root)
        _unpack("bash-static", root)
        busybox = next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists())
        bash = next(path for path in (root / "bin/bash-static", root / "usr/bin/bash-static") if path.exists())
        applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
        with io.BytesIO() as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            for name in ("bin", "etc", "proc", "sys", "dev", "root", "usr", "usr/bin", "var"):
                _add(tar, name, tarfile.DIRTYPE, mode=0o755)
            for name in ("tmp", "var/tmp"):
                _add(tar, name, tarfile.DIRTYPE, mode=0o1777)
            _add(tar, "bin/busybox", content=busybox.read_bytes(), mode=0o755)
            _add(tar, "bin/bash", content=bash.read_bytes(), mode=0o755)
            for name in sorted(set(applets) - {"busybox", "bash"}):
                _add(tar, f"bin/{name}", tarfile.SYMTYPE, link="busybox")
            _add(tar, "usr/bin/env", tarfile.SYMTYPE, link="/bin/busybox")
            _add(tar, "etc/passwd", content=_PASSWD.encode())
            _add(tar, "etc/group", content=b"root:x:0:\nnogroup:x:65534:\n")
            _add(tar, "etc/fstab", content=_FSTAB.encode())
            tar.close()
            return stream.getvalue()


def _unpack(package: str, root: Path) -> None:
    download = ["apt-get", "download", "-q", package]
    if subprocess.run(download, cwd=root, check=False, capture_output=True).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
        subprocess.run(download, cwd=root, check=True, capture_output=True)
    (archive,) = root.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, root], check=True)


def _add(
    tar: tarfile.TarFile,
    name: str,
    type_: bytes = tarfile.REGTYPE,
    *,
    content: bytes = b"",
    mode: int = 0o644,
    link: str = "",
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname, member.size = type_, mode, link, len(content)
    tar.addfile(member, io.BytesIO(content))


def main() -> None:
    """Run one engine until Ctrl-C."""
    with private_engine() as engine:
        add_stand_ins(engine.host)
        sys.stdout.write(f"export DOCKER_HOST={engine.host}\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
