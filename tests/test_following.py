"""Following a job over HTTP that fails: nothing is lost, nothing is printed twice, and bytes are counted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

aiohttp_web = pytest.importorskip("aiohttp.web", reason="Ray's job client is not installed (pip install '.[cluster]')")
following = pytest.importorskip("cluster.following")
submission = pytest.importorskip("cluster.submission")
tails = pytest.importorskip("cluster.tails")

from ray.job_submission import JobSubmissionClient  # noqa: E402

from jobs import submit as submit_job  # noqa: E402

FAST = {"poll_s": (0.02, 0.1)}
LINES = [f"line {number}: äöü\n" for number in range(40)]
LOG = "".join(LINES)


class JobServer:
    """A job server as Ray's, whose connections can be dropped; a thread runs it."""

    def __init__(self):
        self.log, self.status, self.message = "", "RUNNING", ""
        self.tails = True  # offers the connection that stays open
        self.drop_polls = 0  # this many of the next questions
        self.drop_list = False
        self.refuse_package = False  # as a proxy does that limits the size of requests
        self.ends = True  # of logs can be asked for
        self.asked = []  # numbers of lines
        self.node = "node-1"
        self.exit_code = None
        self.cut_tail_after = None  # characters of a connection
        self.known = True
        self.polls, self.complete_logs, self.connections, self.sent = [], 0, 0, 0
        self.at_poll = lambda server: None  # what happens on the cluster meanwhile
        self.tailing = []  # requests whose connection is open

    async def version(self, request):
        return aiohttp_web.json_response(
            {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}
        )

    async def mode(self, request):
        return aiohttp_web.json_response({"authentication_mode": "disabled"})

    async def jobs(self, request):
        if self.drop_list:
            request.transport.abort()
        return aiohttp_web.json_response([])

    async def send(self, request):
        return aiohttp_web.json_response({"submission_id": (await request.json())["submission_id"], "job_id": "1"})

    async def package(self, request):
        if self.refuse_package:
            return aiohttp_web.Response(status=404 if request.method == "GET" else 413, text="<html>too large")
        return aiohttp_web.Response()

    async def end_of_log(self, request):
        if not self.ends:
            return aiohttp_web.Response(status=500)
        assert request.query["node_id"] == self.node
        lines = int(request.query["lines"])
        self.asked.append(lines)
        text = self.log if lines == -1 else "".join(self.log.splitlines(keepends=True)[-lines:])
        self.sent += len(text)
        return aiohttp_web.Response(text=text)

    def details(self, request):
        return {"type": "SUBMISSION", "status": self.status, "entrypoint": "x", "message": self.message,
                "driver_node_id": self.node, "driver_exit_code": self.exit_code}  # fmt: skip

    async def info(self, request):
        self.polls.append(time.monotonic())
        if self.drop_polls:
            self.drop_polls -= 1
            for tail in self.tailing:
                tail.transport.abort()
            request.transport.abort()
            return aiohttp_web.Response()
        self.at_poll(self)
        if not self.known:
            return aiohttp_web.Response(status=404, text=f"Job {request.match_info['name']} does not exist")
        return aiohttp_web.json_response(self.details(request))

    async def logs(self, request):
        self.complete_logs += 1
        self.sent += len(self.log)
        return aiohttp_web.json_response({"logs": self.log})

    async def tail(self, request):
        self.connections += 1
        if not self.tails:
            return aiohttp_web.Response(status=502)
        socket = aiohttp_web.WebSocketResponse()
        await socket.prepare(request)
        self.tailing.append(request)
        position, ended = 0, False
        with contextlib.suppress(ConnectionError):
            while not (ended and position == len(self.log)):
                ended = self.status != "RUNNING"
                text = self.log[position : position + 100]
                if text:
                    await socket.send_str(text)
                    position, self.sent = position + len(text), self.sent + len(text)
                else:
                    await asyncio.sleep(0.01)
                if request.transport is None or (self.cut_tail_after is not None and position >= self.cut_tail_after):
                    if request.transport is not None:
                        request.transport.abort()
                    break
        self.tailing.remove(request)
        return socket

    @contextlib.contextmanager
    def running(self):
        app = aiohttp_web.Application()
        app.router.add_get("/api/version", self.version)
        app.router.add_get("/api/authentication_mode", self.mode)
        app.router.add_get("/api/packages/{protocol}/{name}", self.package)
        app.router.add_put("/api/packages/{protocol}/{name}", self.package)
        app.router.add_get("/api/v0/logs/file", self.end_of_log)
        app.router.add_get("/api/jobs/", self.jobs)
        app.router.add_post("/api/jobs/", self.send)
        app.router.add_get("/api/jobs/{name}", self.info)
        app.router.add_get("/api/jobs/{name}/logs", self.logs)
        app.router.add_get("/api/jobs/{name}/logs/tail", self.tail)
        loop, port, stop = asyncio.new_event_loop(), [], asyncio.Event()

        async def serve():
            runner = aiohttp_web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            site = aiohttp_web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port.append(site._server.sockets[0].getsockname()[1])
            await stop.wait()
            await runner.cleanup()

        def run():
            loop.run_until_complete(serve())
            loop.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while not port:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port[0]}"
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()


@pytest.fixture
def server():
    return JobServer()


def followed(server, **limits):
    output = []
    with server.running() as address:
        result = following.follow(JobSubmissionClient(address), "job-1", output.append, **{**FAST, **limits})
    return result, "".join(output)


def works_and_ends(steps=20):
    """A job that prints its log in this many polls, and succeeds."""
    count = iter(range(10**6))

    def at_poll(server):
        share = min(1.0, next(count) / steps)
        server.log = "".join(LINES[: int(share * len(LINES))])
        if share == 1.0:
            server.status, server.message = "SUCCEEDED", "done"

    return at_poll


def test_output_comes_once_over_one_connection(server):
    server.at_poll = works_and_ends()
    assert followed(server) == ((True, "done", None), LOG)
    assert server.sent == len(LOG)
    assert (server.connections, server.complete_logs) == (1, 0)


def test_a_failed_job_returns_its_message(server):
    server.log, server.status, server.message, server.exit_code = LOG, "FAILED", "exit code 75", 75
    assert followed(server) == ((False, "exit code 75", 75), LOG)


def test_dropped_polls_in_a_row_lose_nothing(server):
    server.at_poll = works_and_ends()
    drops = iter([0, 0, 0, 0, 0, 4] + [0] * 100)
    inner = server.at_poll

    def at_poll(server):
        inner(server)
        server.drop_polls = next(drops)

    server.at_poll = at_poll
    assert followed(server) == ((True, "done", None), LOG)
    assert len(server.polls) > 20
    assert server.complete_logs == 0


def test_after_a_cut_only_the_end_of_the_log_is_read(server, monkeypatch):
    monkeypatch.setattr(tails, "LINES", 16)
    monkeypatch.setattr(tails, "ANCHOR_LINES", 3)
    server.at_poll, server.cut_tail_after = works_and_ends(), 400
    assert followed(server) == ((True, "done", None), LOG)
    assert (server.connections, server.complete_logs) == (1, 0)
    assert server.asked
    assert set(server.asked) == {16}


def test_without_the_open_connection_the_end_is_read(server, monkeypatch):
    monkeypatch.setattr(tails, "LINES", 16)
    monkeypatch.setattr(tails, "ANCHOR_LINES", 3)
    server.at_poll, server.tails = works_and_ends(), False
    assert followed(server) == ((True, "done", None), LOG)
    assert (server.connections, server.complete_logs) == (1, 0)
    assert set(server.asked[1:]) <= {-1, 16}
    assert server.asked[-1] == 16


def test_without_both_complete_logs_are_read(server):
    server.at_poll, server.tails, server.ends = works_and_ends(), False, False
    assert followed(server) == ((True, "done", None), LOG)
    assert 1 < server.complete_logs <= len(server.polls)


def test_a_job_that_was_sent_before_begins_with_its_last_lines(server, monkeypatch):
    monkeypatch.setattr(following, "SHOWN_LINES", 5)
    old = "".join(f"of yesterday {number}\n" for number in range(300))
    works = works_and_ends()

    def at_poll(server):
        works(server)
        server.log = old + server.log

    server.at_poll = at_poll
    result, output = followed(server, only_new=True)
    assert result.good
    assert output == "".join(old.splitlines(keepends=True)[-5:]) + LOG
    assert (server.connections, server.complete_logs) == (0, 0)


def test_the_status_is_asked_for_at_growing_intervals(server):
    server.at_poll = works_and_ends(steps=12)
    followed(server, poll_s=(0.01, 0.2))
    gaps = [after - before for before, after in zip(server.polls, server.polls[1:], strict=False)]
    assert min(gaps[8:11]) > 0.19


def test_a_silent_cluster_ends_in_one_message_that_says_how(server):
    server.drop_polls = 10**6
    with pytest.raises(following.FollowingStopped, match=r"has not answered for .* s .*job-1 continues .*ray job logs"):
        followed(server, patience_s=0.3)
    assert 3 < len(server.polls) < 20


def test_a_server_that_hangs_counts_as_silent(server, monkeypatch):
    monkeypatch.setattr(following, "ANSWER_S", 0.05)

    async def hang(request):
        await asyncio.sleep(30)

    server.info = hang
    with pytest.raises(following.FollowingStopped, match=r"TimeoutError: no answer within 0\.05 s"):
        followed(server, patience_s=0.2)


def test_a_job_that_the_cluster_does_not_know_is_not_waited_for(server):
    server.known = False
    with pytest.raises(following.FollowingStopped, match="does not know job-1 any more"):
        followed(server)
    assert len(server.polls) == 1


def test_a_lost_cluster_is_exit_code_75_and_no_traceback(server, capsys, monkeypatch):
    server.drop_polls = 10**6
    monkeypatch.setattr(following.follow, "__kwdefaults__", {"poll_s": (0.02, 0.1), "patience_s": 0.1})
    with server.running() as address:
        assert submit_job.main(["submit.job=status", f"cluster.address={address}", "output=s3://a/b"]) == 75
    error = capsys.readouterr().err
    assert error.startswith("failed: the cluster at")
    assert "continues on the cluster" in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def submitted(address, *more):
    return submit_job.main(["submit.job=status", f"cluster.address={address}", "output=s3://a/b", *more])


def test_a_connection_lost_while_sending_is_one_message(server, capsys):
    server.drop_list = True
    with server.running() as address:
        assert submitted(address, "cluster.patience_s=0.2") == 75
    error = capsys.readouterr().err
    assert "unreachable" in error
    assert "Is the tunnel to it still open" in error
    assert error.count("\n") == 1


def test_a_proxy_that_limits_requests_is_named(server, capsys):
    server.refuse_package = True
    with server.running() as address:
        assert submitted(address) == 2
    error = capsys.readouterr().err
    assert "status 413" in error
    assert "client_max_body_size" in error
    assert error.count("\n") == 1


def test_detached_it_returns_when_the_job_is_sent(server, capsys):
    with server.running() as address:
        assert submitted(address, "--detach") == 0
    printed = capsys.readouterr().out
    assert "runs on without this command" in printed
    assert "python -m jobs.stop hojoint-status-" in printed
    assert server.polls == []


def test_an_interrupt_says_that_the_job_runs_on(server, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "follow", interrupt)
    with server.running() as address:
        assert submitted(address) != 0
    error = capsys.readouterr().err
    assert "runs on, on the cluster" in error
    assert "python -m jobs.stop hojoint-status-" in error
    monkeypatch.setattr(submission, "submit", interrupt)
    with server.running() as address:
        assert submitted(address) != 0
    assert "the cluster may have it" in capsys.readouterr().err


def test_the_exit_code_of_the_job_is_that_of_the_command(server, capsys):
    server.status, server.message, server.exit_code = "FAILED", "failed with exit code 2, last logs:\nerror: x", 2
    with server.running() as address:
        assert submitted(address) == 2
    assert "ended with exit code 2" in capsys.readouterr().err
    server.exit_code = 75
    with server.running() as address:
        assert submitted(address) == 75
    assert "the same command resumes it" in capsys.readouterr().err
    server.exit_code = 1
    with server.running() as address:
        assert submitted(address) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
