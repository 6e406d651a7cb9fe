#!/usr/bin/env python3
"""Show weft at work: start a server, run a TES task and a Snakemake workflow through its command line, stop it.

Called by `make demo`. What was made stays in demo-output/.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = REPOSITORY / "demo-output"
WEFT = Path(sys.executable).with_name("weft")
IMAGE = "weft-demo-tools:1"
IMAGE_PACKAGES = ("gzip", "mawk", "grep", "sed", "findutils", "bowtie2", "samtools", "bcftools")
TOOLS = ("bowtie2", "bowtie2-build", "samtools", "bcftools")
START_SECONDS = 60


class DemoFailed(Exception):
    """The demo cannot go on."""


def main() -> int:
    """Run the demo and return an exit code."""
    began = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    try:
        with tempfile.TemporaryDirectory(prefix="weft-demo-", ignore_cleanup_errors=True) as scratch:
            executor, image = choose_executor(Path(scratch))
            with server(Path(scratch) / "data", executor) as url:
                os.environ["WEFT_SERVER"] = url
                show_task(Path(scratch), image)
                show_workflow(Path(scratch), image)
    except (DemoFailed, OSError, subprocess.CalledProcessError) as error:
        say(f"\nThe demo failed: {error}")
        return 1
    say(f"\nDone in {time.monotonic() - began:.0f} s. Everything that was started is stopped. Left: {OUTPUT}/")
    if executor == "docker":
        say(f"and the image {IMAGE}, for the next time (docker rmi {IMAGE} removes it)")
    return 0


def choose_executor(scratch: Path) -> tuple[str, str | None]:
    """Return ("docker", image) where a local Docker Engine can be used, else ("process", None); say why."""
    try:
        with_tools = tools_image(scratch)
    except DemoFailed as error:
        say(f"{error}:\nsteps run on this machine, in a bubblewrap sandbox where it is installed.")
    else:
        say(f"Docker answers: steps run in containers of the image {with_tools}.")
        return "docker", with_tools
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise DemoFailed(
            f"{', '.join(missing)} not found; type: sudo apt-get install bubblewrap bowtie2 samtools bcftools"
        )
    return "process", None


def tools_image(scratch: Path) -> str:
    """Return the demo's image; make it of Debian's packages, without a registry, where the engine has none yet."""
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise DemoFailed("No Docker Engine answers") from error
    if not client.api.base_url.startswith("http+docker://"):
        raise DemoFailed("The Docker Engine is on another machine")
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        make_image(client, scratch / "image.tar")
    return IMAGE


def make_image(client: docker.DockerClient, tar: Path) -> None:
    """Make the image of Debian's packages."""
    say("Making an image with the tools, of Debian's packages …")
    script = REPOSITORY / "scripts" / "debian_image.sh"
    repository, tag = IMAGE.split(":")
    changes = ["ENV PATH=/usr/bin:/bin", 'CMD ["/bin/bash"]']
    try:
        subprocess.run([script, tar, *IMAGE_PACKAGES], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client.api.import_image(src=str(tar), repository=repository, tag=tag, changes=changes)
    except (docker.errors.DockerException, OSError, subprocess.CalledProcessError) as error:
        raise DemoFailed("Docker answers, but an image with the tools cannot be made here") from error


@contextmanager
def server(data: Path, executor: str) -> Iterator[str]:
    """Run `weft serve` on a free port; yield its URL; stop it by its own pid."""
    data.mkdir()
    log = OUTPUT / "server.log"
    argv: list[str | Path] = [
        WEFT,
        "serve",
        "--port",
        "0",
        "--data",
        data,
        "--executor",
        executor,
        "--file-root",
        OUTPUT,
    ]
    env = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
    say(f"\n$ {shown(argv)}")
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=env)
    try:
        yield wait_for_url(process, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the URL that the server says it listens on."""
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS and process.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("weft listens on "):
                url = line.split()[-1]
                say(f"weft listens on {url} after {time.monotonic() - began:.1f} s")
                return url
        time.sleep(0.05)
    raise DemoFailed(f"weft did not start:\n{log.read_text(errors='replace')}")


def show_task(scratch: Path, image: str | None) -> None:
    """Run the three-step task."""
    say("\n(a) A TES task of three steps: an input, a volume that the steps share, an output\n")
    document = json.loads((REPOSITORY / "examples" / "three-steps" / "task.json").read_text())
    target = OUTPUT / "composition.txt"
    document["outputs"][0]["url"] = target.as_uri()
    for step in document["executors"]:
        step["image"] = image or step["image"]
    file = scratch / "task.json"
    file.write_text(json.dumps(document))
    began = time.monotonic()
    task_id = weft("task", "submit", "--wait", file).strip()
    took = time.monotonic() - began
    weft("task", "get", task_id, show=True)
    say(f"\nFrom submit to COMPLETE: {took:.1f} s. {target}:\n{target.read_text().rstrip()}")


def show_workflow(scratch: Path, image: str | None) -> None:
    """Run the variant-calling workflow."""
    say(
        "\n(b) A Snakemake workflow: variants on the lambda-phage genome, from the reads of Debian's bowtie2-examples\n"
    )
    folder = scratch / "variant-calling"
    shutil.copytree(REPOSITORY / "examples" / "variant-calling", folder)
    subprocess.run([REPOSITORY / "scripts" / "example_data.sh", folder], check=True, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    parameter = ["--param", f"image=docker://{image}"] if image else []
    run_id = weft("run", "submit", "--wait", *parameter, folder, on_failure=explain_run).strip()
    took = time.monotonic() - began
    weft("run", "tasks", run_id, show=True)
    results = OUTPUT / "variant-calling"
    weft("run", "outputs", run_id, "--download", results)
    say(f"\nFrom submit to COMPLETE: {took:.1f} s. Each rule was a TES task.\n")
    say((results / "results" / "report.txt").read_text().rstrip())
    say("\nVCF files:")
    for vcf in sorted(results.rglob("*.vcf.gz")):
        say(f"  {vcf}")


def explain_run(run_id: str) -> None:
    """Print what a failed run wrote."""
    if run_id.strip():
        weft("run", "logs", run_id.strip(), show=True, check=False)


def weft(
    *arguments: str | Path, show: bool = False, check: bool = True, on_failure: Callable[[str], None] | None = None
) -> str:
    """Run one `weft` command, as a person would type it, and return its stdout."""
    say(f"$ {shown([WEFT, *arguments])}")
    done = subprocess.run([WEFT, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if show:
        say(done.stdout.rstrip())
    if check and done.returncode:
        if on_failure is not None:
            on_failure(done.stdout)
        raise DemoFailed(f"exit code {done.returncode} of: {shown([WEFT, *arguments])}")
    return done.stdout


def shown(argv: list[str | Path]) -> str:
    """Return a command line as a person would type it."""
    words = [WEFT.name if argument == WEFT else str(argument) for argument in argv]
    return shlex.join(words)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
