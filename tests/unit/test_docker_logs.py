"""Bytes between the Engine and files: frames in any pieces, files with a cap, one thread for all."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from pathlib import Path

import pytest

from executors.docker_logs import Capture, Feed, Frames, LogSink, LogStreams


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def a_sink(path: Path, cap: int | None = None) -> LogSink:
    return LogSink(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), cap)


@pytest.mark.parametrize("seed", range(20))
def test_frames_come_out_the_same_in_whatever_pieces_they_arrive(seed: int) -> None:
    dice = random.Random(seed)
    sent = [(dice.choice([1, 2]), dice.randbytes(dice.choice([0, 1, 7, 8, 9, 5000]))) for _ in range(50)]
    wire = b"".join(frame(stream, data) for stream, data in sent)
    frames, got = Frames(), {1: b"", 2: b""}
    while wire:
        size = dice.choice([1, 3, 8, 100, 10_000])
        for stream, piece in frames.feed(wire[:size]):
            got[stream] += piece
        wire = wire[size:]
    assert got == {n: b"".join(data for stream, data in sent if stream == n) for n in (1, 2)}


def test_a_frame_that_is_not_whole_yet_is_passed_on_at_once() -> None:
    assert list(Frames().feed(frame(1, b"hello")[:-2])) == [(1, b"hel")]


def test_a_sink_without_a_cap_keeps_everything(tmp_path: Path) -> None:
    sink = a_sink(tmp_path / "log")
    for _ in range(100):
        sink.write(b"0123456789")
    sink.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789" * 100


@pytest.mark.parametrize("piece", [1, 7, 99, 100, 101, 5000])
def test_a_sink_with_a_cap_keeps_the_end(tmp_path: Path, piece: int) -> None:
    sink = a_sink(tmp_path / "log", cap=100)
    data = bytes(n % 251 for n in range(10_000))
    for start in range(0, len(data), piece):
        sink.write(data[start : start + piece])
    sink.close()
    kept = (tmp_path / "log").read_bytes()
    assert 50 <= len(kept) <= 100
    assert data.endswith(kept)
    assert sink.dropped == len(data) - len(kept)


def test_a_sink_up_to_its_cap_drops_nothing(tmp_path: Path) -> None:
    sink = a_sink(tmp_path / "log", cap=100)
    sink.write(b"x" * 60)
    sink.write(b"y" * 40)
    sink.close()
    assert (tmp_path / "log").read_bytes() == b"x" * 60 + b"y" * 40
    assert not sink.dropped


def test_a_disk_error_is_remembered_and_not_raised() -> None:
    sink = LogSink(os.open("/dev/full", os.O_RDWR), None)
    sink.write(b"x")
    sink.close()
    assert sink.error is not None


@pytest.fixture
def streams():
    streams = LogStreams()
    streams.start()
    yield streams
    streams.stop()


def test_many_captures_are_read_by_one_thread(streams: LogStreams, tmp_path: Path) -> None:
    before = threading.active_count()
    engines, ended = [], []
    for number in range(50):
        engine, ours = socket.socketpair()
        done = threading.Event()
        streams.add(Capture(ours, frame(1, b"first "), {1: a_sink(tmp_path / str(number))}, done.set))
        engines.append(engine)
        ended.append(done)
    assert threading.active_count() == before
    for number, engine in enumerate(engines):
        engine.sendall(frame(1, f"line {number}".encode()))
        engine.close()
    assert all(done.wait(5) for done in ended)
    assert [(tmp_path / str(n)).read_text() for n in range(50)] == [f"first line {n}" for n in range(50)]


def test_stdin_is_sent_whole_then_closed(streams: LogStreams, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(content)
    engine, ours = socket.socketpair()
    fed = threading.Event()
    streams.add(Feed(ours, (tmp_path / "in").open("rb"), fed.set))
    got = b""
    while data := engine.recv(65536):
        got += data
    assert got == content
    assert fed.wait(5)
    engine.close()


def test_a_container_that_does_not_read_its_stdin_holds_up_nobody(streams: LogStreams, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(3_000_000))
    deaf, ours = socket.socketpair()
    fed = threading.Event()
    streams.add(Feed(ours, (tmp_path / "in").open("rb"), fed.set))
    engine, other = socket.socketpair()
    done = threading.Event()
    streams.add(Capture(other, b"", {1: a_sink(tmp_path / "out")}, done.set))
    engine.close()
    assert done.wait(5)
    deaf.close()
    assert not fed.is_set()


def test_stopping_calls_nobody_and_may_be_done_twice(tmp_path: Path) -> None:
    streams = LogStreams()
    engine, ours = socket.socketpair()
    done = threading.Event()
    streams.add(Capture(ours, b"", {1: a_sink(tmp_path / "out")}, done.set))
    streams.stop()
    streams.stop()
    assert not done.is_set()
    engine.close()
