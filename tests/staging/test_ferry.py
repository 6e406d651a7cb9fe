"""A run's files on their way to tasks that share no folder with weft, and home again."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.builders import a_job, a_step, a_task
from weft.config import Settings
from weft.errors import StagingFailed
from weft.folders import Folders
from weft.model import FileType, Input, Kind, Output, Task, task_from_json
from weft.preparation import PartlyCollected
from weft.prepare import HandedOver
from weft.sections.transfer import S3Settings
from weft.staging.ferry import Ferry
from weft.staging.stagers import installed

RUN = "run01"


@pytest.fixture
def client(moto: S3Settings) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=moto.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "data")
    made.work(RUN).mkdir(parents=True)
    return made


@pytest.fixture
def work(folders: Folders) -> Path:
    return folders.work(RUN)


@pytest.fixture
def ferry(moto: S3Settings, bucket: str, folders: Folders) -> Ferry:
    stagers = installed(Settings(s3=moto, data=folders.data))
    return Ferry(folders=folders, stagers=stagers, storage=f"s3://{bucket}/weft", pause=lambda _: None)


def a_rule(work: Path, *, outputs: tuple[Output, ...] = ()) -> Task:
    (work / "in").mkdir(exist_ok=True)
    (work / "in/a b.txt").write_text("a")
    path = work / "in/a b.txt"
    return a_task(inputs=(Input(path=str(path), url=path.as_uri()),), outputs=outputs)


def keys(client: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_what_a_task_needs_is_stored_once_for_each_state_of_a_file(
    ferry: Ferry, work: Path, client: Any, bucket: str
) -> None:
    task = ferry.out(RUN, a_rule(work))
    assert task.inputs[0].url == f"s3://{bucket}/weft/runs/{RUN}/in/a b.txt"
    assert keys(client, bucket) == [f"weft/runs/{RUN}/in/a b.txt"]
    client.delete_object(Bucket=bucket, Key=f"weft/runs/{RUN}/in/a b.txt")
    path = work / "in/a b.txt"
    ferry.out(RUN, a_task(inputs=(Input(path=str(path), url=path.as_uri()),)))
    assert keys(client, bucket) == [], "it lies there already, as far as is known"
    path.write_text("changed")
    ferry.out(RUN, a_task(inputs=(Input(path=str(path), url=path.as_uri()),)))
    assert client.get_object(Bucket=bucket, Key=f"weft/runs/{RUN}/in/a b.txt")["Body"].read() == b"changed"


def test_other_urls_and_content_stay_as_they_are(ferry: Ferry, work: Path) -> None:
    task = a_task(
        inputs=(Input(path="/x", url="s3://elsewhere/x"), Input(path="/y", content="y")),
        outputs=(Output(path="/z", url="https://example.org/z"),),
    )
    assert ferry.out(RUN, task) == task


def test_what_a_task_made_comes_home_files_folders_and_logs_that_may_be_missing(
    ferry: Ferry, work: Path, client: Any, bucket: str
) -> None:
    made = (
        Output(path=str(work / "out.txt"), url=(work / "out.txt").as_uri()),
        Output(path=str(work / "dir"), url=(work / "dir").as_uri(), type=FileType.DIRECTORY),
        Output(path=str(work / "logs/[r]ule.log"), url=(work / "logs").as_uri(), path_prefix=str(work / "logs")),
    )
    task = a_rule(work, outputs=made)
    assert [output.url for output in ferry.out(RUN, task).outputs] == [
        f"s3://{bucket}/weft/runs/{RUN}/{name}" for name in ("out.txt", "dir", "logs")
    ]
    for name in ("out.txt", "dir/deep/x", "logs/rule.log", "logs/other.log"):
        client.put_object(Bucket=bucket, Key=f"weft/runs/{RUN}/{name}", Body=name.encode())
    assert ferry.home(RUN, task) == ()
    assert (work / "out.txt").read_text() == "out.txt"
    assert (work / "dir/deep/x").read_text() == "dir/deep/x"
    assert (work / "logs/rule.log").exists()
    assert not (work / "logs/other.log").exists()


def test_a_link_that_a_workflow_made_leads_nobody_out_of_its_folder(
    ferry: Ferry, work: Path, tmp_path: Path, client: Any, bucket: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    (work / "link").symlink_to(tmp_path / "secret")
    (work / "folder").symlink_to(tmp_path)
    inputs = (Input(path=str(work / "link"), url=(work / "link").as_uri()),)
    with pytest.raises(StagingFailed, match="leads out"):
        ferry.out(RUN, a_task(inputs=inputs))
    assert keys(client, bucket) == []
    client.put_object(Bucket=bucket, Key=f"weft/runs/{RUN}/folder/new", Body=b"x")
    output = Output(path=str(work / "folder/new"), url=(work / "folder/new").as_uri())
    (problem,) = ferry.home(RUN, a_task(outputs=(output,)))
    assert "leads out" in problem
    assert not (tmp_path / "new").exists()


def test_without_storage_a_runs_task_is_told_what_is_missing(ferry: Ferry, work: Path) -> None:
    ferry.storage = None
    with pytest.raises(StagingFailed, match="set engine"):
        ferry.out(RUN, a_rule(work))


def test_a_task_is_handed_over_whole_and_one_of_a_run_with_its_files(
    ferry: Ferry, folders: Folders, work: Path, bucket: str
) -> None:
    handed_over = HandedOver(ferry=ferry)
    alone = a_job(task=a_task(steps=(a_step(), a_step())))
    prepared = handed_over.prepare(alone, folders.attempt(alone.id, 1)).work
    assert (prepared.document, len(prepared.steps), prepared.mounts) == (alone.document, 2, ())
    assert handed_over.collect(alone, prepared, best_effort=False).messages == ()

    output = Output(path=str(work / "out.txt"), url=(work / "out.txt").as_uri())
    part = a_job(task=a_rule(work, outputs=(output,)), parent=RUN)
    prepared = handed_over.prepare(part, folders.attempt(part.id, 1)).work
    assert prepared.kind is Kind.TASK
    assert prepared.document is not None
    assert task_from_json(prepared.document).outputs[0].url == f"s3://{bucket}/weft/runs/{RUN}/out.txt"
    with pytest.raises(PartlyCollected, match="no such object"):
        handed_over.collect(part, prepared, best_effort=False)
    assert "no such object" in handed_over.collect(part, prepared, best_effort=True).messages[0]
