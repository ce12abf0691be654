"""The end of a server with streams under way: real processes, and the signals that end them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.testing import FakeModelServer
from processes import COMMAND, clean_environment
from protocol.frames import COVERED, question

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]  # several processes start, and import the SDKs each

DOCS = Path(__file__).parents[2] / "examples" / "course" / "docs"
HOST = Path(__file__).with_name("host_program.py")
READER = RequestContext(principal=Principal("local"))
PATIENCE = 90.0

SHORT = "".join(f"{number:04} " for number in range(40))
LONG = "".join(f"{number:04} " for number in range(2000))


@dataclass
class Process:
    """A server in a process group of its own."""

    popen: subprocess.Popen[str]
    address: str

    def tell(self, number: int) -> None:
        """The signal as a supervisor sends it: to the process."""
        self.popen.send_signal(number)

    def press_ctrl_c(self) -> None:
        """The signal as a terminal sends it: to every process of the group."""
        os.killpg(self.popen.pid, signal.SIGINT)

    def ends(self) -> int:
        """The exit status, once it has one."""
        return self.popen.wait(PATIENCE)


@dataclass
class Reader:
    """Somebody who reads an answer to its end."""

    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    has_text: asyncio.Event = field(default_factory=asyncio.Event)
    complete: bool = False
    """Whether the stream ended as HTTP says that it ends, and was not cut."""

    @property
    def text(self) -> str:
        return "".join(event["update"].get("delta", "") for event in self.events if "update" in event)

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == "error"]

    @property
    def done(self) -> list[dict[str, Any]]:
        return [event["item"] for event in self.events if event["type"] == "thread.item.done"]

    @property
    def thread_id(self) -> str:
        return self.events[0]["thread"]["id"]

    async def read(self, http: httpx.AsyncClient) -> None:
        async with http.stream("POST", "/", json=question(COVERED)) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    self.events.append(orjson.loads(line[6:]))
                    if self.text:
                        self.has_text.set()
        self.complete = True


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    """A model that says twenty words a second."""
    with FakeModelServer(answer=LONG, piece=5, pause=0.05) as model:
        yield model


@contextmanager
def running(command: list[str], announces: str, cwd: Path, env: dict[str, str]) -> Iterator[Process]:
    """`command`, from the line that names its address on, and while it has readers; killed if it is still there."""
    popen = subprocess.Popen(
        command,
        cwd=cwd,
        env={**clean_environment(), **env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert popen.stdout is not None
    said: list[str] = []
    try:
        found = None
        for line in popen.stdout:
            said.append(line)
            if found := re.search(announces + r"\s*(http://\S+)", line):
                break
        assert found, "".join(said)
        address = f"{found[1]}/chatkit"
        until_ready(address)
        yield Process(popen, address)
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait(PATIENCE)
        print("".join(said), popen.stdout.read())
        popen.stdout.close()


def until_ready(address: str) -> None:
    """Several workers announce themselves before they listen."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            httpx.get(f"{address}/health/ready", timeout=PATIENCE).raise_for_status()
        except httpx.TransportError:
            assert time.monotonic() < deadline
        else:
            return


Start = Callable[[str, float], Any]


@pytest.fixture
def start(tmp_path: Path, course_index_path: Path, model: FakeModelServer) -> Start:
    """Starts a server of one kind, whose threads are in `threads.db` of the test's folder."""

    def start(kind: str, drain_seconds: float) -> Any:
        if kind.startswith("serve"):
            env = {
                "CHATKIT_RAG_MODEL": "fake",
                "CHATKIT_RAG_OPENAI_API_KEY": "test",
                "CHATKIT_RAG_OPENAI_BASE_URL": model.base_url,
                "CHATKIT_RAG_SESSION_SECRET": "x" * 32,
                "CHATKIT_RAG_STREAMS_PER_READER": "0",
                "CHATKIT_RAG_DRAIN_SECONDS": str(drain_seconds),
            }
            options = ["--port", "0", "--data-dir", ".", "--workers", kind.removeprefix("serve ")]
            return running([*COMMAND, "serve", str(DOCS), *options], "Ready on", tmp_path, env)
        arguments = [str(course_index_path), "threads.db", model.base_url, str(drain_seconds), kind]
        return running([sys.executable, str(HOST), *arguments], "running on", tmp_path, {})

    return start


async def items_in(threads: Path, thread_ids: Iterable[str]) -> list[list[dict[str, Any]]]:
    """What is in the file, thread by thread, once the process is gone."""
    store = SQLiteStore(threads)
    await store.open()
    try:
        pages = [await store.load_thread_items(id_, None, 100, "asc", READER) for id_ in thread_ids]
    finally:
        await store.close()
    return [[item.model_dump(mode="json") for item in page.data] for page in pages]


def text_of(items: list[dict[str, Any]]) -> str:
    """What the assistant said."""
    return "".join(part["text"] for item in items if item["type"] == "assistant_message" for part in item["content"])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        # Where nobody minds the signal, uvicorn ends by it once everything is closed.
        ("lifespan", -signal.SIGTERM),
        ("no lifespan", -signal.SIGTERM),
        ("serve 1", 0),
        ("serve 2", 0),
    ],
)
async def test_a_terminated_server_lets_answers_end_cuts_the_rest_and_loses_nothing(
    start: Start, model: FakeModelServer, tmp_path: Path, kind: str, status: int
):
    async with asyncio.TaskGroup() as group, client() as http:
        with start(kind, 4.0) as process:
            http.base_url = process.address
            readers = [Reader() for _ in range(50)]
            reading = [group.create_task(reader.read(http)) for reader in readers[:25]]
            await asyncio.gather(*(reader.has_text.wait() for reader in readers[:25]))
            model.answer = SHORT
            reading += [group.create_task(reader.read(http)) for reader in readers[25:]]
            await asyncio.gather(*(reader.has_text.wait() for reader in readers[25:]))

            told = time.monotonic()
            process.tell(signal.SIGTERM)
            await asyncio.gather(*reading)
            ended = time.monotonic() - told

            assert await asyncio.to_thread(process.ends) == status
    print(f"{kind}: the last stream ended {ended:.1f} s after the signal")
    assert ended < 4.0 + 5.0
    assert all(reader.complete for reader in readers)
    for reader in readers[:25]:
        assert [reader.events[-1]] == reader.errors
        assert reader.errors[0]["allow_retry"] is True
        assert "restarted" in reader.errors[0]["message"]
    for reader in readers[25:]:
        # The thread's title and what to ask next may come behind it, or be cut.
        assert reader.done[-1]["type"] == "assistant_message"
        assert reader.text == SHORT
    stored = await items_in(tmp_path / "threads.db", [reader.thread_id for reader in readers])
    for reader, items in zip(readers, stored, strict=True):
        assert {item["id"] for item in reader.done} <= {item["id"] for item in items}
        assert reader.text
        assert text_of(items).startswith(reader.text)


@pytest.mark.parametrize("kind", ["lifespan", "serve 2"])
async def test_ctrl_c_lets_an_answer_end(start: Start, model: FakeModelServer, kind: str):
    model.answer = SHORT
    async with client() as http:
        with start(kind, 20.0) as process:
            http.base_url = process.address
            reader = Reader()
            reading = asyncio.ensure_future(reader.read(http))
            await reader.has_text.wait()

            process.press_ctrl_c()
            await reading

            assert await asyncio.to_thread(process.ends) == 0
    assert reader.errors == []
    assert reader.text == SHORT


async def test_ctrl_c_a_second_time_does_not_wait_and_the_partial_text_stays(start: Start, tmp_path: Path):
    async with client() as http:
        with start("serve 1", 600.0) as process:
            http.base_url = process.address
            reader = Reader()
            reading = asyncio.ensure_future(reader.read(http))
            await reader.has_text.wait()

            process.press_ctrl_c()
            await refused(http)
            process.press_ctrl_c()

            assert await asyncio.to_thread(process.ends) == 0
            await asyncio.wait({reading})
    [items] = await items_in(tmp_path / "threads.db", [reader.thread_id])
    assert reader.text
    assert text_of(items).startswith(reader.text)


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=None))


async def refused(http: httpx.AsyncClient) -> None:
    """Returns when the server has heard the signal: it takes no connections any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await http.get("/health/live", headers={"Connection": "close"})
            except httpx.TransportError:
                return
