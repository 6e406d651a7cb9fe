"""Every real request of ``shared/examples/tes`` runs on a real Docker Engine to its right end.

Images that are not at hand are replaced by stand-ins of the same behaviour, and so is storage: a folder stands for the
root of the client's file system, a web server for the one that is named, moto for S3.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.e2e.conftest import environment
from tests.live import LiveWeft
from tests.testbeds.docker_engine import build_image
from tests.unit.spec_compare import SHARED

EXAMPLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (SHARED / "examples/tes").glob("*.json")
}
#: Image -> programs in it that are not busybox's; an image without any is bash under another name.
IMAGES = {
    "python:2-slim": {"python": 'shift; exec "$@"'},
    "python:2.7": {},
    "snakemake/snakemake:v9.27.0": {"pip": 'echo "pip $*"', "python": 'echo "python $*"'},
    "localhost/toil:d569ea5711eb310ffd5703803f7250ebf7c19576": {
        "_toil_contained_executor": 'test -n "$1" && cat /data/shared/jobstore.30156/config'
    },
    "quay.io/ohsu-comp-bio/nf-canary": {"nextflow": "echo canary > /root/report; echo history > /.nextflow/history"},
    "quay.io/nextflow/bash": {},
    "registryserver1.io/imagename1:tag1": {},
}
#: Prefixes of URLs of the client's own file system.
FOLDERS = ("file:///", "/data/", "/Users/", "/tmp", "/storageaccount1/", "/cromwell-executions/")
#: What the client had put there before.
FILES = {
    "data/clients/cwl-conformance-via-tes/v1.0/v1.0/hello.txt": "Hello world!\n",
    "data/clients/cwl-conformance-via-tes/v1.0/v1.0/args.py": "import sys\n",
    "data/cwlrun/in.txt": "a message\n",
    "data/shared/jobstore.30156/config": "the job store\n",
    "data/shared/nf/ab/00000000000000000660c4cb514768/.command.sh": "echo hello > result.txt",
    "data/shared/nf/ab/00000000000000000660c4cb514768/.command.run": (
        "cd /work; exec > .command.out 2> .command.err; bash .command.sh; echo $? > .exitcode\n"
        "cat data.txt > a.part; mkdir -p outd; echo deep > outd/deep\n"
    ),
    "data/shared/nf/ab/data.txt": "data\n",
    "storageaccount1/container1/file1.txt": "one\n",
    "tmp/md5sum_input": "hello\n",
}
NO_SCHEME = {
    "funnel-google-storage": "gs",
    "funnel-multiple-executors": "gs",
    "tesk-output_tree": "ftp",
    "tesk-output_volume": "ftp",
    "tesk-taskWithIO": "ftp",
}
ENDLESS = {"funnel-log-streaming", "tesk-counter"}
#: Ends other than COMPLETE.
ENDS = {
    "tesk-error_stops_execution": "EXECUTOR_ERROR",
    # The whole line is one word: the image's own start script would have to take it apart.
    "funnel-quotes-double-quotes": "EXECUTOR_ERROR",
}
#: The last step's stdout, where it says something.
SAID = {
    "captured-cwl-tes": "a message\n",
    "captured-cwl-tes-docker-workdir": "Hello world!\n",
    "captured-toil-batch-system-tes": "the job store\n",
    "funnel-input-content": "Hello World\n",
    "funnel-md5sum": "b1946ac92492d2347c6235b4d2611184  /tmp/in\n",
    "funnel-quotes-multi-element-backslash": "back\\slash\n",
    "funnel-quotes-shell": "inline shell\n",
    "funnel-s3": "b1946ac92492d2347c6235b4d2611184  /tmp/release.json\n",
    "tesk-env": "TESK rocks!\n",
    "tesk-hello": "TESK says: Hello World\n",
    "tesk-input_content": "ABC TESK and some more text.",
    "tesk-input_file_http": "hello\n",
    "tesk-stdin": "# nothing is mounted here\n",
}
#: What must lie in the client's file system afterwards.
LEFT = {
    "captured-cwl-tes": {"data/cwlrun/tmpjb7op_ud/out.txt": "a message\n"},
    "funnel-full-hello": {
        "Users/buchanae/src/github.com/ohsu-comp-bio/funnel/_scratch/full-output/foo": "foo\n",
        "Users/buchanae/src/github.com/ohsu-comp-bio/funnel/_scratch/full-output/bar": "bar\n",
    },
    "funnel-input-content": {"tmp/cat_output": "Hello World\n"},
    "funnel-md5sum": {"tmp/md5sum_output": "b1946ac92492d2347c6235b4d2611184  /tmp/in\n"},
    "funnel-nextflow": {"tmp/report": "canary\n", "tmp/history": "history\n"},
    "ms-cromwell-testask1": {
        "cromwell-executions/workflow1/0fbdb535-4afd-45e3-a8a8-c8e50585ee4e/call-Task1/execution/rc": "0\n",
        "cromwell-executions/workflow1/0fbdb535-4afd-45e3-a8a8-c8e50585ee4e/call-Task1/execution/OutputFromTask1.vcf": (
            "Hello World from Task1.\n"
        ),
    },
    "replayed-nf-ga4gh-1.4.2": {
        f"data/shared/nf/ab/00000000000000000660c4cb514768/{name}": text
        for name, text in {
            "result.txt": "hello\n",
            "a.part": "data\n",
            "outd/deep": "deep\n",
            ".exitcode": "0\n",
            ".command.err": "",
        }.items()
    },
}


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None  # type: ignore[method-assign]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def object_store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def images(docker_engine: str) -> None:
    for name, programs in IMAGES.items():
        lines = ["FROM bash"]
        for program, script in programs.items():
            text = base64.b64encode(f"#!/bin/sh\n{script}\n".encode()).decode()
            lines.append(f"RUN echo {text} | base64 -d > /bin/{program} && chmod 755 /bin/{program}")
        build_image(docker_engine, name, *lines)


@pytest.fixture(scope="module")
def site(
    images: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveWeft, str]]:
    """A server whose storage is all here, and the address of the web server."""
    folder = tmp_path_factory.mktemp("real")
    root = folder / "files"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (folder / "web").mkdir()
    (folder / "web" / "hello.json").write_text("hello\n")
    with web_server(folder / "web") as web, object_store() as s3:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=s3, **keys)
        client.create_bucket(Bucket="cellxgene-census-public-us-west-2")
        client.put_object(Bucket="cellxgene-census-public-us-west-2", Key="cell-census/release.json", Body=b"hello\n")
        client.close()
        env = environment("docker", request) | {
            "WEFT_S3__ENDPOINT_URL": s3,
            "WEFT_S3__ACCESS_KEY_ID": "a",
            "WEFT_S3__SECRET_ACCESS_KEY": "b",
            "WEFT_FETCH__ALLOW_HOSTS": json.dumps([web]),
        }
        server = LiveWeft(folder / "data", flags=("--executor", "docker", "--file-root", str(root)), env=env).start()
        try:
            yield server, web
            server.assert_nothing_is_left()
        finally:
            server.end()


def here(document: Any, root: Path, web: str) -> Any:
    """Turn the client's own paths into paths below ``root``, and the web's address into one of this host."""
    if isinstance(document, list):
        return [here(item, root, web) for item in document]
    if not isinstance(document, dict):
        return document
    copy = {key: here(value, root, web) for key, value in document.items()}
    url = copy.get("url") or ""
    if url.startswith(FOLDERS):
        copy["url"] = url.replace("file:///", f"file://{root}/") if "://" in url else f"{root}{url}"
    elif url.startswith("https://"):
        copy["url"] = f"http://{web}/{url.rpartition('/')[2]}"
    if copy.get("image", "").startswith("registryServer1.io/"):  # Docker's names have no capitals
        copy["image"] = copy["image"].lower()
    return copy


def test_each_image_of_the_requests_has_a_stand_in() -> None:
    named = {step["image"].lower() for document in EXAMPLES.values() for step in document["executors"]}
    assert named - IMAGES.keys() == {
        "alpine", "bash", "ubuntu", "gcr.io/google.com/cloudsdktool/google-cloud-cli:latest"
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(NO_SCHEME) - ENDLESS - {"funnel-resource-request"}))
def test_a_request_runs_to_its_right_end(site: tuple[LiveWeft, str], name: str) -> None:
    weft, web = site
    task = weft.wait(weft.create(here(EXAMPLES[name], weft.files, web)))
    assert task["state"] == ENDS.get(name, "COMPLETE"), task
    steps = task["logs"][0]["logs"]
    if name in SAID:
        assert steps[-1]["stdout"] == SAID[name]
    for path, text in LEFT.get(name, {}).items():
        assert (weft.files / path).read_text() == text


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_an_endless_request_shows_its_logs_until_it_is_cancelled(site: tuple[LiveWeft, str], name: str) -> None:
    weft, _ = site
    task_id = weft.create(EXAMPLES[name])
    deadline = time.monotonic() + 30
    while not any(step.get("stdout", "").count(":") > 1 for step in _steps(weft.task(task_id))[-1:]):
        assert time.monotonic() < deadline, weft.task(task_id)
        time.sleep(0.05)
    assert weft.task(task_id)["state"] == "RUNNING"
    weft.cancel(task_id)
    assert weft.wait(task_id)["state"] == "CANCELED"


@pytest.mark.parametrize("name", sorted(NO_SCHEME))
def test_a_request_for_foreign_storage_is_refused_for_its_scheme(site: tuple[LiveWeft, str], name: str) -> None:
    answer = requests.post(f"{site[0].tes}/tasks", json=EXAMPLES[name], timeout=30)
    said = answer.json()
    assert answer.status_code in (400, 403), said
    assert said["field"] == ("outputs[0].url" if "output" in name else "inputs[0].url")
    assert f"scheme '{NO_SCHEME[name]}'" in said["msg"] or f"{NO_SCHEME[name]} to " in said["msg"]


def test_a_request_for_more_cores_than_there_are_is_refused_and_else_runs(site: tuple[LiveWeft, str]) -> None:
    weft, _ = site
    answer = requests.post(f"{weft.tes}/tasks", json=EXAMPLES["funnel-resource-request"], timeout=30)
    if (os.cpu_count() or 1) < 4:  # docs/decisions/0004
        assert answer.status_code == 400
        assert answer.json()["field"] == "resources.cpu_cores"
    else:
        assert weft.wait(answer.json()["id"])["state"] == "COMPLETE"


def _steps(task: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for attempt in task["logs"] for step in attempt["logs"]]
