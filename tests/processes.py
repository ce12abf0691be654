"""Running the commands as a user does: in processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "chatkit_rag")
PATIENCE = 40.0


def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**clean_environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without keys and settings that would change what is tested."""
    ours = ("OPENAI_", "CHATKIT_RAG_", "DATABASE_URL", "REDIS_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass
class Serving:
    """A running `serve`."""

    process: subprocess.Popen[str]
    address: str
    output: list[str]

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """The end without a goodbye."""
        self.process.kill()
        self.process.wait(PATIENCE)


@contextmanager
def serving(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> Iterator[Serving]:
    """`serve` on a free port, from the line that names its address on."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *arguments],
        cwd=cwd,
        env={**clean_environment(), **(env or {}), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _when_ready(process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _when_ready(process: subprocess.Popen[str]) -> Serving:
    assert process.stdout is not None
    output: list[str] = []
    deadline = time.monotonic() + PATIENCE
    for line in process.stdout:
        output.append(line)
        if found := re.search(r"Ready on\s+(http://\S+)", line):
            return Serving(process, found[1], output)
        if time.monotonic() > deadline:
            break
    raise AssertionError(f"serve did not become ready: {''.join(output)}")
