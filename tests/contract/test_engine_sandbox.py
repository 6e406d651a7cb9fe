"""The sandbox of engines where weft is not root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors import sandbox

SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import sandbox
os.write(1, f"problem {sandbox.problem()}\\n".encode())

def inside():
    for path in ("/etc/passwd", "/usr/bin/env", sys.argv[2] + "/hidden", sys.argv[2] + "/shown"):
        os.write(1, f"{path} {os.path.exists(path)}\\n".encode())
    os.write(1, f"user {os.getuid()} pid {os.getpid()}\\n".encode())
    open(sys.argv[2] + "/shown/mine", "w").close()
    return 5

links = {path: os.readlink(path) for path in ("/bin", "/lib", "/lib64") if os.path.islink(path)}
data = sys.argv[2]
view = sandbox.View(readable=("/usr",), writable=(data + "/shown",), hidden=(data,), links=links)
sandbox.shut_in(view, inside, lambda code: os.write(1, f"ended {code}\\n".encode()))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that belongs to nobody, with the sandbox's module in it."""
    path = Path(tempfile.mkdtemp(prefix="weft-sandbox-"))
    path.chmod(0o755)
    shutil.copy(sandbox.__file__, path / "sandbox.py")
    (path / "data/shown").mkdir(parents=True)
    (path / "data/hidden").mkdir()
    (path / "data/shown").chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_a_user_without_rights_is_shut_in_as_well(folder: Path) -> None:
    setpriv, python = shutil.which("setpriv"), Path("/usr/bin/python3")
    if setpriv is None or not python.exists():
        pytest.skip("setpriv (util-linux) and /usr/bin/python3 are missing")
    data = folder / "data"
    nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    done = subprocess.run(
        [*nobody, str(python), "-B", "-c", SCRIPT, str(folder), str(data)], capture_output=True, text=True, check=False
    )
    if "problem namespaces are refused" in done.stdout:
        pytest.skip("unprivileged user namespaces are switched off on this machine")
    assert done.stdout.splitlines() == [
        "problem None",
        "/etc/passwd False",
        "/usr/bin/env True",
        f"{data}/hidden False",
        f"{data}/shown True",
        "user 65534 pid 1",
        "ended 5",
    ], done.stderr
    assert done.returncode == 5
    assert (data / "shown/mine").stat().st_uid == 65534
