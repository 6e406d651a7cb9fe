"""What a fresh machine and a container get: the Dockerfile, the lock files, the Makefile."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
Instruction = tuple[str, str]


def dockerfile() -> list[Instruction]:
    """Read the Dockerfile as (instruction, arguments), continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split("#")[0].strip() if line.startswith("#") else line.strip() for line in text.splitlines()]
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines if line]


def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for name, arguments in dockerfile():
        if name == "FROM":
            found.append([])
        found[-1].append((name, arguments))
    return found


def of(stage: list[Instruction], wanted: str) -> list[str]:
    return [arguments for name, arguments in stage if name == wanted]


def test_the_image_has_no_sources() -> None:
    build, _, final = stages()
    assert of(build, "FROM")[0].lower().endswith(" as build")
    assert of(final, "COPY") == ["--from=build /opt/weft /opt/weft"]


def test_all_stages_have_the_same_python_so_that_the_environment_can_move() -> None:
    assert len({of(stage, "FROM")[0].split()[0] for stage in stages()}) == 1
    assert of(stages()[-1], "FROM")[0].startswith("python:3.")


def test_the_staging_image_runs_the_staging_program_and_has_the_busybox_of_the_steps() -> None:
    staging = stages()[1]
    assert of(staging, "FROM")[0].endswith(" AS staging")
    assert of(staging, "ENTRYPOINT") == ['["python", "-m", "weft.staging.inside"]']
    assert "busybox-static" in of(staging, "RUN")[0]
    assert (ROOT / "weft" / "staging" / "inside.py").exists()


def test_the_image_runs_weft_serve_as_a_user_without_rights() -> None:
    final = stages()[-1]
    (user,) = of(final, "USER")
    assert all(int(number) >= 1000 for number in user.split(":"))
    assert of(final, "ENTRYPOINT") == ['["weft"]']
    assert of(final, "CMD")[-1] == '["serve"]'
    names = [name for name, _ in final]
    assert "RUN" not in names[names.index("USER") :]


def test_the_image_installs_only_what_the_lock_names() -> None:
    installs = [words for words in of(stages()[0], "RUN") if "pip install" in words]
    assert all("--require-hashes -r requirements.lock" in words or words.endswith(" .") for words in installs)
    assert all("--no-deps" in words for words in installs)


def test_nothing_secret_is_in_the_image() -> None:
    text = (ROOT / "Dockerfile").read_text().lower()
    assert not re.search(r"password|secret|token|api_?key|authorization", text)
    assert not of(dockerfile(), "ARG")


def test_the_image_is_made_of_all_packages_and_of_nothing_unlisted() -> None:
    copied = {shlex.split(words)[0].rstrip("/") for words in of(stages()[0], "COPY")}
    packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages <= copied
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wanted = {name for words in of(stages()[0], "COPY") for name in shlex.split(words)[:-1]}
    assert {name.rstrip("/") for name in wanted} == allowed


def locked(name: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE):
        pins.setdefault(normal(package), set()).add(version)
    return pins


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(requirements: list[object]) -> set[str]:
    return {normal(re.split(r"[\[<>=!~; ]", item)[0]) for item in requirements if isinstance(item, str)}


def test_every_dependency_is_locked() -> None:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert wanted(project["dependencies"]) | wanted(groups["build"]) <= set(runtime)
    assert wanted(groups["dev"]) <= set(dev)


def test_the_larger_lock_has_all_of_the_smaller_one() -> None:
    dev = locked("requirements-dev.lock")
    for package, versions in locked("requirements.lock").items():
        assert versions <= dev[package], package


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_version_has_hashes_and_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert "://" not in text


def test_every_target_of_the_makefile_is_explained_and_phony() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    explained = set(re.findall(r"^([a-z-]+):.*## .+$", text, re.MULTILINE))
    assert explained == set(phony.split())


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_stop_at_errors_and_can_be_started(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert any(line in {"set -euo pipefail", "set -uo pipefail"} for line in lines)
    assert script.stat().st_mode & 0o111
