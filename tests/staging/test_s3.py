"""S3 against moto (odd keys, errors) and rclone (signatures, real I/O)."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import boto3
import pytest
from pydantic import SecretStr

from weft.config import Settings
from weft.errors import InvalidRequest, StagingFailed, Unavailable
from weft.folders import AttemptFolder, host_path
from weft.model import FileType, Input, Output, Step, Task
from weft.sections.transfer import S3Place, S3Settings
from weft.staging import halt
from weft.staging.collect import collect
from weft.staging.s3 import S3Stager, create
from weft.staging.stagers import Stagers
from weft.staging.transfer import prepare


def a_client(settings: S3Settings):
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture
def bucket(moto: S3Settings) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    a_client(moto).create_bucket(Bucket=name)
    return name


@pytest.fixture
def stager(moto: S3Settings) -> S3Stager:
    return S3Stager(moto)


@pytest.mark.parametrize("name", ["plain", "sub/a b", "quo'te\"", "ümlaut", "a#b?c", "per%20cent", "plus+", "&=;"])
def test_keys_are_taken_as_they_are(stager: S3Stager, moto: S3Settings, bucket: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_text(name)
    stager.upload(tmp_path / "source", f"s3://{bucket}/{name}")
    assert [item["Key"] for item in a_client(moto).list_objects_v2(Bucket=bucket)["Contents"]] == [name]
    stager.download(f"s3://{bucket}/{name}", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == name


def test_a_listing_gives_all_below_and_nothing_beside(stager: S3Stager, moto: S3Settings, bucket: str) -> None:
    client = a_client(moto)
    for key in ("d/a", "d/sub/b", "d/empty/", "da", "e/x"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for url in (f"s3://{bucket}/d", f"s3://{bucket}/d/"):
        assert {(entry.path, entry.size_bytes) for entry in stager.list(url)} == {("a", 3), ("sub/b", 7)}
    assert len([*stager.list(f"s3://{bucket}")]) == 4
    assert [*stager.list(f"s3://{bucket}/nothing")] == []


def test_a_listing_of_many_pages_is_whole(rclone) -> None:
    settings, folder = rclone
    (folder / "bucket-pages/d").mkdir(parents=True)
    for number in range(2005):
        (folder / f"bucket-pages/d/{number}").touch()
    found = [entry.path for entry in S3Stager(settings).list("s3://bucket-pages/d")]
    assert len(found) == 2005
    assert set(found) == {str(number) for number in range(2005)}


def test_the_kind_is_told_by_key_and_prefix(stager: S3Stager, moto: S3Settings, bucket: str) -> None:
    for key in ("d/a", "f"):
        a_client(moto).put_object(Bucket=bucket, Key=key, Body=b"")
    assert stager.kind(f"s3://{bucket}/f") is FileType.FILE
    assert stager.kind(f"s3://{bucket}/d") is FileType.DIRECTORY
    assert stager.kind(f"s3://{bucket}/d/") is FileType.DIRECTORY
    assert stager.kind(f"s3://{bucket}") is FileType.DIRECTORY
    assert stager.kind(f"s3://{bucket}/none") is None


def test_what_is_missing_is_said_precisely(stager: S3Stager, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    with pytest.raises(StagingFailed) as caught:
        stager.download(f"s3://{bucket}/none", tmp_path / "copy")
    assert caught.value.message == f"no such object (404) at s3://{bucket}/none"
    for act in (
        lambda: stager.download("s3://no-such-bucket/x", tmp_path / "copy"),
        lambda: stager.list("s3://no-such-bucket/x"),
        lambda: stager.upload(tmp_path / "source", "s3://no-such-bucket/x"),
    ):
        with pytest.raises(StagingFailed, match=r"no such bucket \(404\) at s3://no-such-bucket/x"):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///k", "s3://b/k", "s3://Evil.com%2f/k", "s3://a b/k", "s3:bucket/k", "s3://-ab/k"]
)
def test_what_is_no_bucket_is_the_callers_mistake(stager: S3Stager, url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        stager.check(url, writing=False)
    assert caught.value.remedy == "s3://BUCKET/KEY"


def test_one_object_needs_a_key(stager: S3Stager, tmp_path: Path) -> None:
    for url in ("s3://bucket", "s3://bucket/", "s3://bucket/d/"):
        with pytest.raises(InvalidRequest, match="names no object"):
            stager.download(url, tmp_path / "copy")


def test_a_name_that_is_not_utf8_cannot_be_stored(stager: S3Stager, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    with pytest.raises(StagingFailed, match="not UTF-8"):
        stager.upload(tmp_path / "source", stager.join(f"s3://{bucket}", os.fsdecode(b"\xff")))


def test_a_server_that_does_not_answer_can_be_tried_again(tmp_path: Path) -> None:
    dead = S3Settings(endpoint_url="http://127.0.0.1:1", access_key_id="k", secret_access_key=SecretStr("s"))
    with pytest.raises(Unavailable, match="no answer"):
        S3Stager(dead).list("s3://bucket/x")


def test_a_whole_task_goes_through(s3_stagers: Stagers, moto: S3Settings, bucket: str, attempt: AttemptFolder) -> None:
    client = a_client(moto)
    for number in range(60):
        client.put_object(Bucket=bucket, Key=f"in/{number % 3}/{number}", Body=str(number).encode())
    client.put_object(Bucket=bucket, Key="one", Body=b"one")
    task = Task(
        steps=(Step(image="i", command=("true",)),),
        inputs=(
            Input(path="/in", url=f"s3://{bucket}/in", type=FileType.DIRECTORY),
            Input(path="/wrong", url=f"s3://{bucket}/in/1"),
            Input(path="/deep/wrong", url=f"s3://{bucket}/in/2/"),
            Input(path="/one/one", url=f"s3://{bucket}/one", type=FileType.DIRECTORY),
        ),
        outputs=(Output(path="/out/*.txt", url=f"s3://{bucket}/out", path_prefix="/out"),),
    )
    prepared = prepare(task, attempt, s3_stagers)

    def seen(path: str) -> Path:
        found = host_path(prepared.mounts, path)
        assert found is not None
        return found

    assert all((seen("/in") / f"{n % 3}/{n}").read_text() == str(n) for n in range(60))
    assert (seen("/wrong") / "1").read_text() == "1"
    assert (seen("/deep/wrong") / "2").read_text() == "2"
    assert seen("/one/one").read_text() == "one"
    assert prepared.types == {
        "/in": FileType.DIRECTORY,
        "/wrong": FileType.DIRECTORY,
        "/deep/wrong": FileType.DIRECTORY,
        "/one/one": FileType.FILE,
    }
    for name in ("a.txt", "ü b.txt", "c.dat"):
        (seen("/out") / name).write_text(name)
    stored = collect(task, prepared.mounts, s3_stagers).stored
    assert [item.url for item in stored] == [f"s3://{bucket}/out/a.txt", f"s3://{bucket}/out/ü b.txt"]
    assert client.get_object(Bucket=bucket, Key="out/ü b.txt")["Body"].read() == "ü b.txt".encode()


@pytest.mark.parametrize("key", ["d/../../../etc/cron.d/x", "d//x", "d/./x", "d/.."])
def test_a_key_that_is_no_path_never_becomes_one(
    s3_stagers: Stagers, moto: S3Settings, bucket: str, attempt: AttemptFolder, key: str
) -> None:
    a_client(moto).put_object(Bucket=bucket, Key=key, Body=b"evil")
    item = Input(path="/in", url=f"s3://{bucket}/d", type=FileType.DIRECTORY)
    task = Task(steps=(Step(image="i", command=("true",)),), inputs=(item,))
    with pytest.raises(StagingFailed, match=r"input /in: "):
        prepare(task, attempt, s3_stagers)
    assert not any(path.is_file() for path in attempt.root.rglob("*"))


def test_keys_that_clash_as_file_and_folder_are_said(
    s3_stagers: Stagers, moto: S3Settings, bucket: str, attempt: AttemptFolder
) -> None:
    for key in ("d/x", "d/x/y"):
        a_client(moto).put_object(Bucket=bucket, Key=key, Body=b"1")
    item = Input(path="/in", url=f"s3://{bucket}/d", type=FileType.DIRECTORY)
    with pytest.raises(StagingFailed, match=r"input /in/x"):
        prepare(Task(steps=(Step(image="i", command=("true",)),), inputs=(item,)), attempt, s3_stagers)


def test_large_objects_travel_in_parts_on_a_server_with_real_disks(rclone, tmp_path: Path) -> None:
    settings, folder = rclone
    body = os.urandom((24 << 20) + 5)
    (folder / "bucket-one").mkdir(exist_ok=True)
    (tmp_path / "large").write_bytes(body)
    stager = S3Stager(settings)
    stager.upload(tmp_path / "large", "s3://bucket-one/deep/large")
    assert (folder / "bucket-one/deep/large").read_bytes() == body
    stager.download("s3://bucket-one/deep/large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == body


def test_a_transfer_that_nobody_wants_any_more_ends(rclone, tmp_path: Path) -> None:
    settings, folder = rclone
    (folder / "bucket-one").mkdir(exist_ok=True)
    (folder / "bucket-one/unwanted").write_bytes(bytes(24 << 20))
    cancelled = threading.Event()
    cancelled.set()
    with halt.heeding(cancelled), pytest.raises(halt.Halted):
        S3Stager(settings).download("s3://bucket-one/unwanted", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with halt.heeding(cancelled), pytest.raises(halt.Halted):
        S3Stager(settings).upload(folder / "bucket-one/unwanted", "s3://bucket-one/stored")
    assert not (folder / "bucket-one/stored").exists()


def test_wrong_keys_are_called_wrong(rclone, tmp_path: Path) -> None:
    settings, folder = rclone
    (folder / "bucket-two").mkdir(exist_ok=True)
    (folder / "bucket-two/x").write_text("x")
    wrong = S3Stager(settings.model_copy(update={"secret_access_key": SecretStr("other")}))
    for act in (
        lambda: wrong.download("s3://bucket-two/x", tmp_path / "copy"),
        lambda: wrong.list("s3://bucket-two/"),
        lambda: wrong.upload(folder / "bucket-two/x", "s3://bucket-two/y"),
    ):
        with pytest.raises(StagingFailed, match="access denied") as caught:
            act()
        assert "other" not in caught.value.message


def test_without_credentials_requests_are_not_signed(web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    web.answers["/public/d/x"] = lambda handler: handler.say(200, b"open to all", ETag='"e"')
    S3Stager(S3Settings(endpoint_url=web.url(""))).download("s3://public/d/x", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"open to all"
    assert all("authorization" not in headers for _, _, headers in web.seen)


def test_the_plugin_reads_the_settings_and_connects_nowhere(tmp_path: Path) -> None:
    stager = create(Settings(data=tmp_path, s3=S3Settings(endpoint_url="http://127.0.0.1:1")))
    stager.check("s3://bucket/x", writing=True)


# -- settings of buckets ----------------------------------------------------------------------------------------


def test_what_is_stored_is_encrypted_and_summed_as_the_settings_say(
    moto: S3Settings, bucket: str, tmp_path: Path
) -> None:
    wanted = {"encryption": "aws:kms", "kms_key_id": "key-1", "checksum": "SHA256"}
    stager = S3Stager(moto.model_copy(update=wanted | {"part_mb": 5}))
    (tmp_path / "small").write_bytes(b"x" * 10)
    (tmp_path / "large").write_bytes(os.urandom(11 << 20))
    for name in ("small", "large"):
        stager.upload(tmp_path / name, f"s3://{bucket}/{name}")
        head = a_client(moto).head_object(Bucket=bucket, Key=name, ChecksumMode="ENABLED")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "key-1")
        stager.download(f"s3://{bucket}/{name}", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == (tmp_path / name).read_bytes()
    assert head["ETag"].endswith('-3"'), "in three parts"


def test_a_bucket_may_have_its_own_login_and_keeps_nothing_of_the_common_one(moto: S3Settings) -> None:
    settings = S3Settings(
        endpoint_url=moto.endpoint_url,
        region="us-east-1",
        access_key_id="common",
        secret_access_key=SecretStr("common"),
        buckets={"theirs": S3Place(profile="theirs", requester_pays=True), "far": S3Place(region="eu-west-1")},
    )
    theirs, far, other = settings.place("theirs"), settings.place("far"), settings.place("other")
    assert (theirs.profile, theirs.access_key_id, theirs.secret_access_key) == ("theirs", None, None)
    assert (theirs.requester_pays, other.requester_pays) == (True, False)
    assert (far.region, far.access_key_id) == ("eu-west-1", "common")
    assert theirs.endpoint_url == other.endpoint_url == moto.endpoint_url


def test_who_pays_for_requests_says_so(moto: S3Settings, bucket: str, tmp_path: Path) -> None:
    stager = S3Stager(moto.model_copy(update={"buckets": {bucket: S3Place(requester_pays=True)}}))
    client = stager._clients.of(bucket)
    sent: list[str | None] = []
    client.s3.meta.events.register(
        "before-send.s3.*", lambda request, **_: sent.append(request.headers.get("x-amz-request-payer"))
    )
    (tmp_path / "a").write_text("a")
    stager.upload(tmp_path / "a", f"s3://{bucket}/a")
    stager.download(f"s3://{bucket}/a", tmp_path / "b")
    list(stager.list(f"s3://{bucket}"))
    stager.kind(f"s3://{bucket}/a")
    assert len(sent) >= 4
    assert {value.decode() if isinstance(value, bytes) else value for value in sent} == {"requester"}
