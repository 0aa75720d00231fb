"""cluster.labelling.decoding: a video that hangs, crashes or lies costs no other video."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from marked_videos import number_in, write_marked
from video_files import write_broken, write_video

from cluster.labelling import decoding
from cluster.labelling.decoding import Failure, GuardedDecoder, Request
from hojoint.config import LabellingConfig
from hojoint.errors import InputError
from hojoint.labelling import readers, video
from hojoint.labelling.video import Decoded, Limits, decode

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes


def request(path: Path, numbers: list[int] | None = None) -> Request:
    return Request(path.stem, str(path), None if numbers is None else np.array(numbers), 0)


def test_answers_keep_the_order_and_equal_a_plain_decode(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"v{n}.webm", 4 + 3 * n, seed=n) for n in range(6)]
    with closing(GuardedDecoder(children=2, ahead=3)) as decoder:
        answers = list(decoder.decode(request(path) for path in paths))
    assert [asked.video_id for asked, _ in answers] == [path.stem for path in paths]
    for path, (_, answer) in zip(paths, answers, strict=True):
        assert isinstance(answer, Decoded)
        np.testing.assert_array_equal(answer.rgb, decode(str(path)).rgb)


def test_no_more_videos_are_decoded_ahead_than_asked(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.webm", 4)
    pulled = []

    def requests():
        for n in range(10):
            pulled.append(n)
            yield request(path, [0])

    with closing(GuardedDecoder(children=1, ahead=3)) as decoder:
        answers = decoder.decode(requests())
        next(answers)
        assert len(pulled) == 3
        next(answers)
        assert len(pulled) == 4
        answers.close()


def test_bad_files_cost_one_answer_a_hanging_one_its_deadline(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.webm", seed=0)
    broken = write_broken(tmp_path, good)
    order = [good, *(tmp_path / f"{name}.webm" for name in broken), good]
    with closing(GuardedDecoder(children=1, ahead=2, deadline_s=2.0)) as decoder:
        list(decoder.decode([request(good)]))  # start the child before the clock
        began = time.monotonic()
        answers = [answer for _, answer in decoder.decode(request(path) for path in order)]
        seconds = time.monotonic() - began
    assert isinstance(answers[0], Decoded)
    assert isinstance(answers[-1], Decoded)
    kinds = {answer.video_id: answer.kind for answer in answers[1:-1] if isinstance(answer, Failure)}
    assert kinds == broken
    assert 2.0 <= seconds < 8.0


def test_a_killed_child_is_replaced_and_its_video_tried_again(tmp_path: Path, monkeypatch) -> None:
    path = write_video(tmp_path / "v.webm")
    os.mkfifo(tmp_path / "hang.webm")
    with closing(GuardedDecoder(children=1, ahead=2, deadline_s=20.0)) as decoder:
        list(decoder.decode([request(path)]))
        deaths = []

        def kill_soon(process, size, until, read=decoding._Child._read):
            if len(deaths) < 2 and size == decoding.video.HEADER.size:
                deaths.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)
            return read(process, size, until)

        monkeypatch.setattr(decoding._Child, "_read", staticmethod(kill_soon))
        [(_, failure), (_, answer)] = decoder.decode([request(tmp_path / "hang.webm"), request(path)])
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == ("crashed", 2)
    assert "SIGKILL" in failure.message
    assert len(set(deaths)) == 2
    assert isinstance(answer, Decoded)


@pytest.mark.parametrize("kind", video.KINDS)
def test_only_faults_that_may_be_the_machines_are_tried_again(kind: str, tmp_path: Path, monkeypatch) -> None:
    path = write_video(tmp_path / "v.webm", 4)
    asked, real = [], decoding._Child.ask

    def ask(child, message, deadline_s):
        asked.append(message)
        if len(asked) == 1:
            raise video.VideoError(kind, "the first time")
        return real(child, message, deadline_s)

    monkeypatch.setattr(decoding._Child, "ask", ask)
    with closing(GuardedDecoder()) as decoder:
        [(_, answer)] = decoder.decode([request(path)])
    if kind in ("crashed", "timeout", "unreachable"):
        assert isinstance(answer, Decoded)
    else:
        assert answer == Failure("v", "decode", kind, "the first time", 1)


def test_a_child_that_died_between_two_videos_is_no_videos_fault(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.webm")
    with closing(GuardedDecoder()) as decoder:
        list(decoder.decode([request(path)]))
        process = decoder._children[0]._process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        [(_, answer)] = decoder.decode([request(path)])
    assert isinstance(answer, Decoded)


def test_a_child_killed_while_it_starts_is_started_again(tmp_path: Path, monkeypatch) -> None:
    write_video(tmp_path / "a.webm", 4)
    real, started = decoding._spawn, []

    def spawn(*given):
        process = real(*given)
        if not started:
            process.kill()
        started.append(process.pid)
        return process

    monkeypatch.setattr(decoding, "_spawn", spawn)
    with closing(GuardedDecoder()) as decoder:
        [(_, answer)] = decoder.decode([request(tmp_path / "a.webm")])
    assert isinstance(answer, Decoded)
    assert len(started) == 2


def test_a_video_beyond_a_childs_memory_is_a_failure(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 200, width=1024, height=768)
    with closing(GuardedDecoder(memory_mb=300, limits=Limits(decoded_bytes=2**31))) as decoder:
        [(_, answer), (_, after)] = decoder.decode([request(path), request(path, [0])])
    assert isinstance(answer, Failure)
    assert answer.kind in ("too_large", "crashed")
    assert isinstance(after, Decoded)


def test_the_child_imports_this_project() -> None:
    assert (decoding.ROOT / "hojoint" / "labelling" / "video.py").is_file()


def test_the_child_gets_no_credentials(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    with closing(GuardedDecoder()) as decoder:
        list(decoder.decode([request(write_video(tmp_path / "v.webm"))]))
        environment = Path(f"/proc/{decoder._children[0]._process.pid}/environ").read_bytes()
    assert b"do-not-tell" not in environment


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hang.webm")
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:  # a process that has one child idle and one hanging, and is killed
        try:
            with closing(GuardedDecoder(children=2, ahead=2, deadline_s=1.0)) as decoder:
                answers = decoder.decode([request(write_video(tmp_path / "v.webm")), request(tmp_path / "hang.webm")])
                next(answers)
                pids = [child._process.pid for child in decoder._children if child._process is not None]
                os.write(writing, " ".join(map(str, pids)).encode())
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    children = [int(pid) for pid in os.read(reading, 100).split()]
    os.waitpid(parent, 0)
    assert children
    until = time.monotonic() + 10
    while any(_runs(pid) for pid in children):
        assert time.monotonic() < until, "a child outlives its parent"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_consumer_that_stops_early_can_start_again(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"v{n}.webm", 4) for n in range(4)]
    with closing(GuardedDecoder(ahead=3)) as decoder:
        first = decoder.decode(request(path) for path in paths)
        next(first)
        first.close()
        again = [answer for _, answer in decoder.decode(request(path) for path in paths)]
    assert all(isinstance(answer, Decoded) for answer in again)
    assert len(again) == 4


def test_a_video_is_fetched_first_and_given_back_afterwards(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.webm", 4)
    held: list[str] = []

    @contextmanager
    def fetch(address: str):
        if address == "s3://bucket/gone":
            raise video.VideoError("unreachable", "no answer within 120 s")
        held.append(address)
        yield str(path)
        held.remove(address)

    with closing(GuardedDecoder(fetch=fetch)) as decoder:
        requests = [Request(name, f"s3://bucket/{name}", np.array([1]), 0) for name in ("v", "gone", "w")]
        answers = {asked.video_id: answer for asked, answer in decoder.decode(requests)}
    assert isinstance(answers["v"], Decoded)
    assert isinstance(answers["w"], Decoded)
    assert answers["gone"] == Failure("gone", "decode", "unreachable", "no answer within 120 s", 1)
    assert not held


def test_a_decoder_that_does_not_load_is_refused_at_the_start(monkeypatch) -> None:
    monkeypatch.setitem(readers.MODULES, "torchcodec", "no_such_package")
    config = LabellingConfig(decoder="torchcodec")
    with pytest.raises(InputError, match=r"labelling\.decoder=torchcodec needs the package"):
        GuardedDecoder.of(config, ahead=1)


def test_few_full_hd_pictures_of_many_fit_the_default_memory(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "v.mp4", "libx264", 60, size=(1920, 1080), preset="ultrafast", bf="3")
    config = LabellingConfig()
    with closing(GuardedDecoder.of(config, ahead=1)) as decoder:
        few, all_of_them = [Request("v", str(path), np.arange(n), 60) for n in (18, 60)]
        [(_, answer), (_, more)] = decoder.decode([few, all_of_them])
    assert isinstance(answer, Decoded)
    assert answer.footage.pictures == 60
    assert isinstance(more, Decoded)
    assert [number_in(more.rgb[n]) for n in (0, 37, 59)] == [0, 37, 59]
    with closing(GuardedDecoder.of(LabellingConfig(decode_memory_mb=256), ahead=1)) as decoder:
        [(_, refused)] = decoder.decode([all_of_them])
    assert isinstance(refused, Failure)
    assert (refused.kind, "labelling.decode_memory_mb" in refused.message) == ("too_large", True)


def test_a_frame_beyond_the_end_is_left_out_and_seen_to_be(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.webm", 10)
    with closing(GuardedDecoder()) as decoder:
        [(_, answer)] = decoder.decode([Request("v", str(path), np.array([8, 9, 10]), 11)])
    assert isinstance(answer, Decoded)
    assert answer.numbers.tolist() == [8, 9]
