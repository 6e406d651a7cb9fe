"""An installation without any extra starts: what is not installed is not offered, and ``weft check`` says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
#: Runs weft's command line as if nothing but what requirements.lock names were installed.
BARE = """
import importlib.metadata, re, sys
from pathlib import Path

ABSENT = {"cwltool": "cwltool", "WDL": "miniwdl", "psycopg": "psycopg", "fsspec": "fsspec"}
locked = set(re.findall(r"^([A-Za-z0-9_.-]+)==", Path("requirements.lock").read_text(), re.MULTILINE))
assert not locked & set(ABSENT.values()), "requirements.lock has an extra"
real = importlib.metadata.version

def version(name):
    if name in ABSENT.values():
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

importlib.metadata.version = version
sys.meta_path.insert(0, Absent())
from weft.cli import main
main(sys.argv[1:])
"""


def weft_without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", BARE, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False)


def test_check_names_the_engines_that_are_there_and_says_how_to_get_the_others(tmp_path: Path) -> None:
    done = weft_without_extras("check", "--data", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert "[ok]   engine snakemake" in done.stdout
    assert "[no]   engine cwl:" in done.stdout
    assert "weft[cwl]" in done.stdout
    assert "[no]   engine wdl:" in done.stdout
    assert "weft[wdl]" in done.stdout
    assert "[ok]   URLs: " in done.stdout


def test_serve_starts_and_stops(tmp_path: Path) -> None:
    argv = [sys.executable, "-u", "-c", BARE, "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    argv += ["--executor", "process"]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        server.terminate()
        rest = server.stdout.read()
    assert first.startswith("weft listens on "), first + rest
    assert server.returncode == 0, rest
