"""The staging image without a registry: this Python, what staging imports, weft, and Debian's static busybox.

It stands in for the target ``staging`` of the Dockerfile and has the same entry point.
"""

from __future__ import annotations

import compileall
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from tests.testbeds.docker_engine import _unpack

ROOT = Path(__file__).parents[2]
_NEEDED = ("boto3", "pydantic", "pydantic-settings", "orjson", "platformdirs", "urllib3", "certifi")
_BASE, _NAME = "weft-test-staging-base", "weft-test-staging"
_LEFT_OUT = {"site-packages", "test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo"}
_NAME_OF = re.compile(r"[A-Za-z0-9._-]+")
#: Data of botocore that is used; all of it is large.
_SERVICES = {"s3", "sts", "sso", "sso-oidc"}


def add_staging_image(host: str) -> str:
    """Make the image on the engine unless it is there, and return its name."""
    api = docker.APIClient(host, version="auto")
    try:
        below = [ROOT / "requirements-dev.lock", Path(__file__)]
        base = f"{_BASE}:{_digest_of(below)}"
        if not _has(api, base):
            name, _, tag = base.partition(":")
            api.import_image_from_data(_base_tar(), repository=name, tag=tag)
        code = [path for path in sorted((ROOT / "weft").rglob("*")) if path.suffix in (".py", ".sh")]
        image = f"{_NAME}:{_digest_of([*below, *code])}"
        if not _has(api, image):
            _build(api, base, image)
    finally:
        api.close()
    return image


def _build(api: docker.APIClient, base: str, image: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "site"
        shutil.copytree(ROOT / "weft", place / "weft", ignore=shutil.ignore_patterns("__pycache__"))
        info = place / "weft-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weft\nVersion: 0\n")
        (info / "entry_points.txt").write_text(metadata.distribution("weft").read_text("entry_points.txt") or "")
        compileall.compile_dir(place, quiet=1, stripdir=str(place), prependdir="/site")
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            tar.add(place, "site")
            lines = (
                f"FROM {base}\nCOPY site /site\nENV PYTHONPATH=/site PYTHONDONTWRITEBYTECODE=1\n"
                f'ENTRYPOINT ["{sys.base_prefix}/bin/python3", "-m", "weft.staging.inside"]\n'
            ).encode()
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(lines)
            tar.addfile(member, io.BytesIO(lines))
        context.seek(0)
        for line in api.build(fileobj=context, custom_context=True, tag=image, rm=True, decode=True):
            if "error" in line:
                raise RuntimeError(line["error"])


def _base_tar() -> bytes:
    prefix = Path(sys.base_prefix)
    library = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=stream, mode="w") as tar:
        _unpack("busybox-static", Path(folder))
        tar.add(next(Path(folder).glob("*bin/busybox")), "bin/busybox")
        for name in ("tmp", "weft", "job", "proc", "dev", "sys", "etc"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        programs = [python, *library.glob("lib-dynload/*.so"), *prefix.glob("lib/libpython*.so*")]
        for entry in library.iterdir():
            if entry.name not in _LEFT_OUT and not entry.name.startswith("config-"):
                tar.add(entry, f"{library}/{entry.name}")
        for path in sorted(set(_files_of(_NEEDED))):
            target = f"/site/{path.relative_to(_site())}"
            if not _is_other_service(path):
                tar.add(path, target)
                programs += [path] if path.suffix == ".so" else []
        tar.add(python, f"{prefix}/bin/python3")
        libraries = {library for program in programs for library in _linked(program)}
        for path in sorted(libraries | set(prefix.glob("lib/libpython*.so*"))):
            tar.add(path.resolve(), str(path))
    return stream.getvalue()


def _site() -> Path:
    return Path(str(metadata.distribution("boto3").locate_file(""))).resolve()


def _files_of(names: tuple[str, ...]) -> Iterator[Path]:
    """Give the files of distributions and of all that they need."""
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if found.name in seen:
            continue
        seen.add(found.name)
        todo += [_NAME_OF.match(line)[0] for line in found.requires or () if "extra ==" not in line]  # type: ignore[index]
        for file in found.files or ():
            path = Path(str(file.locate())).resolve()
            if path.is_relative_to(_site()) and path.is_file():
                yield path


def _is_other_service(path: Path) -> bool:
    parts = path.parts
    if "botocore" not in parts or "data" not in parts:
        return False
    below = parts[parts.index("data") + 1 :]
    return len(below) > 1 and below[0] not in _SERVICES


def _linked(program: Path) -> list[Path]:
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.splitlines()
    words = [word for line in lines for word in line.split() if word.startswith("/")]
    return [Path(word) for word in words]


def _digest_of(paths: list[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _has(api: docker.APIClient, image: str) -> bool:
    try:
        api.inspect_image(image)
    except ImageNotFound:
        return False
    return True
