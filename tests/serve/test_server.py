"""The service as a process and under load."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import psutil
import pytest
import uvicorn

from longtail.errors import InputError
from longtail.serve import Limits, create_app
from longtail.serve.server import bind

from ..cli.calling import call
from .pictures import TRUNCATED, bomb, picture

REQUESTS = {  # content, status, number of requests of this kind
    "good": (picture(), 200, 80),
    "photo": (picture("JPEG", 600), 200, 20),
    "wrong": (b"this is text", 422, 30),
    "truncated": (TRUNCATED, 422, 30),
    "bomb": (bomb(), 422, 20),
    "huge": (bytes(3_000_000), 413, 20),
}


@contextmanager
def running(app):
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


async def send_all(address):
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200), trust_env=False) as client:

        async def send(content):
            answer = await client.post(f"{address}/predict", content=content, headers={"content-type": "image/png"})
            return answer.status_code, answer.json()

        kinds = [kind for kind, (_, _, count) in REQUESTS.items() for _ in range(count)]
        answers = await asyncio.gather(*(send(REQUESTS[kind][0]) for kind in kinds))
        health = await client.get(f"{address}/health")
    return list(zip(kinds, answers, strict=True)), health.json()


def test_200_concurrent_requests_are_all_answered(run):
    app = create_app(run, Limits(max_bytes=1_000_000))
    before = psutil.Process().memory_info().rss
    with running(app) as address:
        answers, health = asyncio.run(send_all(address))
    assert len(answers) == 200
    for kind, (status, content) in answers:
        assert status == REQUESTS[kind][1], content
        assert ("predictions" if status == 200 else "error") in content
    labels = {content["predictions"][0]["label"] for kind, (_, content) in answers if kind == "good"}
    assert len(labels) == 1
    assert health == {**health, "status": "ok", "waiting": 0}
    assert app.state.service.batcher.largest > 1  # concurrent requests share a batch
    assert psutil.Process().memory_info().rss - before < 400 * 2**20


def test_a_slow_request_ends(run):
    with running(create_app(run, Limits(seconds=0.2))) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nabc"
            )
            assert client.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_process_answers_and_stops_cleanly_on_sigterm(run):
    words = [sys.executable, "-m", "longtail", "serve", str(run.folder), "--port", "0", "--threads", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        lines = []
        while "Application startup complete" not in "".join(lines[-1:]):
            lines.append(process.stderr.readline())
            assert lines[-1], "".join(lines)
        address = next(line for line in lines if "serving" in line).split(" at ")[1].split(",")[0]
        answer = httpx.post(f"{address}/predict", files={"images": ("a.png", picture())}, trust_env=False)
        assert answer.json()["predictions"][0]["file"] == "a.png"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
        watchdog.cancel()
    assert (process.returncode, out) == (0, ""), err
    assert '"POST /predict HTTP/1.1" 200' in err
    assert "Traceback" not in err


def test_a_port_in_use_is_refused(run, capsys):
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert call("serve", run.folder, "--port", port) == 2
    assert f"cannot listen on 127.0.0.1, `port` {port}: Address already in use" in capsys.readouterr().err


def test_an_unknown_address_is_refused():
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 0)
