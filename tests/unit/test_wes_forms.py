"""Reading the body of ``POST /runs``, without a web server."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from weft.errors import InvalidRequest, TooLarge, UnsupportedMediaType, WeftError
from wes_service.attachments import Intake, Limits
from wes_service.forms import Fields, read_body

FORM = "multipart/form-data; boundary=b"


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as a slow client does."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 3, 3))


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(folder=tmp_path / "jobs" / "1" / "work", limits=Limits(part_bytes=100, total_bytes=150, parts=3))


def _read(intake: Intake, body: bytes, content_type: str = FORM, most_text: int = 1000) -> Fields:
    return read_body(content_type, io.BytesIO(body), intake, most_text=most_text)


def _part(disposition: str, content: bytes = b"x", extra: str = "") -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {disposition}\r\n{extra}\r\n".encode() + content + b"\r\n"


def _attached(file_name: str, content: bytes = b"x") -> bytes:
    return _part(f'name="workflow_attachment"; {file_name}', content)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ('filename="a/b.smk"', "a/b.smk"),
        ('filename="a;b=c.smk"', "a;b=c.smk"),
        ('filename="a \\"quoted\\" one"', 'a "quoted" one'),
        ("filename=a/b.smk", "a/b.smk"),
        ('FileName="x"', "x"),
        ("filename*=UTF-8''%c3%bc%2Fx", "ü/x"),
        ("filename*=utf-8'de'%c3%bc", "ü"),
        ("filename=\"fallback\"; filename*=UTF-8''real", "real"),
        ('filename="100%"', "100%"),
        ('filename="%20"', "%20"),
    ],
)
def test_a_file_name_is_read_exactly(intake: Intake, sent: str, name: str) -> None:
    _read(intake, _attached(sent) + b"--b--")
    assert intake.names == [name]
    assert (intake.folder / name).read_bytes() == b"x"


@pytest.mark.parametrize(
    "sent",
    [
        'filename="C:\\evil"',
        'filename="a\\..\\b"',
        'filename="a\\\\b"',
        'filename="a\\"',
        'filename="',
        'filename="a%22b"',
        'filename="a%0ab"',
        'filename="a"; filename="b"',
        'filename*0="a"; filename*1="b"',
        "filename*=UTF-8''a%5Cb",
        "filename*=UTF-8''%ff",
        "filename*=UTF-8''%00",
        "filename*=iso-8859-1''a",
        "filename*=a",
        "",
    ],
)
def test_a_file_name_that_would_be_changed_is_refused(intake: Intake, sent: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _read(intake, _attached(sent) + b"--b--")
    assert refused.value.field == "workflow_attachment"
    assert intake.names == []


def test_a_body_may_come_in_any_pieces(intake: Intake) -> None:
    content = b"\r\n--\r\n-b\r--\n\r\n-- b--\n\r"
    body = _part('name="workflow_url"', b"x") + _attached('filename="f"', content) + b"--b--\r\n"
    assert read_body(FORM, Trickle(body), intake, most_text=1000).values == {"workflow_url": "x"}
    assert (intake.folder / "f").read_bytes() == content


def test_a_text_field_may_come_as_a_file(intake: Intake) -> None:
    body = _part('name="tags"; filename="tags"', b"{}", "Content-Type: application/json\r\n") + b"--b--"
    assert _read(intake, body).values == {"tags": "{}"}


def test_an_unknown_field_is_kept_apart(intake: Intake) -> None:
    assert _read(intake, _part('name="other"') + b"--b--").unknown == ["other"]


def test_too_large_an_attachment_is_refused_while_it_comes(intake: Intake) -> None:
    with pytest.raises(TooLarge):
        _read(intake, _attached('filename="f"', b"x" * 101) + b"--b--")


def test_too_many_bytes_in_all_attachments_are_refused(intake: Intake) -> None:
    with pytest.raises(TooLarge):
        _read(intake, _attached('filename="f"', b"x" * 80) + _attached('filename="g"', b"x" * 80) + b"--b--")


def test_too_many_attachments_are_refused(intake: Intake) -> None:
    with pytest.raises(TooLarge):
        _read(intake, b"".join(_attached(f'filename="{number}"') for number in range(4)) + b"--b--")


def test_too_many_parts_are_refused(intake: Intake) -> None:
    with pytest.raises(TooLarge):
        _read(intake, b"".join(_part(f'name="x{number}"', b"") for number in range(300)) + b"--b--")


def test_too_much_text_is_refused(intake: Intake) -> None:
    for body in (_part('name="tags"', b"x" * 1001), _part('name="a"', b"x" * 600) + _part('name="b"', b"x" * 600)):
        with pytest.raises(TooLarge):
            _read(intake, body + b"--b--")
    for content_type in ("application/json", "application/x-www-form-urlencoded"):
        with pytest.raises(TooLarge):
            _read(intake, b"x" * 1001, content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b\r\n",
        b"--b\r\n\r\n\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
        _part('name="tags"', b"x"),
        _part('name="tags"', b"x") + b"--b",
        _part('name="tags"', b"\xff") + b"--b--",
        _part('name="tags"') + _part('name="tags"') + b"--b--",
        _part('name="tags"', b"eA==", "Content-Transfer-Encoding: base64\r\n") + b"--b--",
        _part('name="file"; filename="x"') + b"--b--",
        b"--b\r\nX: " + b"x" * 300_000,
        b"--b--",
    ],
)
def test_a_form_that_is_not_well_formed_is_refused(intake: Intake, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        _read(intake, body)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", f"{FORM}{'b' * 300}"]
)
def test_a_form_without_a_usable_boundary_is_refused(intake: Intake, content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        _read(intake, b"--b--", content_type)


@pytest.mark.parametrize(
    ("content_type", "error"),
    [("", InvalidRequest), ("text/plain", UnsupportedMediaType), ("multipart/mixed; boundary=b", UnsupportedMediaType)],
)
def test_other_content_types_are_refused(intake: Intake, content_type: str, error: type[WeftError]) -> None:
    with pytest.raises(error):
        _read(intake, b"x", content_type)


def test_discarding_leaves_nothing(intake: Intake) -> None:
    _read(intake, _attached('filename="a/b/c"') + b"--b--")
    intake.seal()
    assert (intake.folder / "a/b/c").is_file()
    intake.discard()
    assert not intake.folder.parent.exists()
