"""What a server holds after a long time, and of many readers at once: nothing is dropped, and nothing is left.

    python benchmarks/soak/soak.py [--streams 1000] [--seconds 60] [--pace 0.25] [--cycles 5000] [--json FILE] …

One uvicorn worker in a process and on a core of its own; the model server and the readers share the other core. Exits
with 1 when a stream was dropped, when something is left, or when more memory is taken than allowed.
"""

# ruff: noqa: ARG002 - asyncio's signatures

import argparse
import asyncio
import http.client
import json
import os
import random
import resource
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "streaming"))

from run import CORES, LAST_CHUNK, Process, free_port, surroundings, wait_for, within  # noqa: E402 - see above

DELTA = b'"assistant_message.content_part.text_delta"'
DONE = b'data: {"type":"thread.item.done"'
ERROR = b'data: {"type":"error"'
GRACE = 60.0
"""Seconds that the last word of a stream may come late, and that a server has to tidy up."""


class Stream(asyncio.Protocol):
    """One question over a connection of its own, and what came back."""

    def __init__(self, port: int, reader: str) -> None:
        self._port = port
        self._reader = reader
        self._tail = b""
        self._transport: Any = None
        self.status = b""
        self.words = 0
        self.items = 0
        self.errors = 0
        self.pieces = 0
        self.stays_for = sys.maxsize
        """The number of pieces after which the reader leaves."""
        loop = asyncio.get_running_loop()
        self.first_byte: asyncio.Future[float] = loop.create_future()
        self.first_word: asyncio.Future[float] = loop.create_future()
        self.ended: asyncio.Future[bool] = loop.create_future()
        """Whether the stream was whole."""
        self.had_enough: asyncio.Future[None] = loop.create_future()

    async def ask(self, words: int, pace: float) -> None:
        text = f"What is a node? words={words} pace={pace}"
        message = {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}
        body = json.dumps({"type": "threads.create", "params": {"input": message}}).encode()
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._asked = time.perf_counter()
        self._transport.write(f"{head}X-Reader: {self._reader}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        waited = time.perf_counter() - self._asked
        self.pieces += 1
        if not self.status:
            self.status = data[9:12]
            self.first_byte.set_result(waited)
        # A mark that is cut in two by the network is counted with the next piece.
        whole = self._tail + data
        kept = whole[-40:]
        for mark, name in ((DELTA, "words"), (DONE, "items"), (ERROR, "errors")):
            setattr(self, name, getattr(self, name) + whole.count(mark) - self._tail.count(mark))
        self._tail = kept
        if self.words and not self.first_word.done():
            self.first_word.set_result(waited)
        if self.pieces >= self.stays_for and not self.had_enough.done():
            self.had_enough.set_result(None)
        if whole.endswith(LAST_CHUNK) or (self.status != b"200" and b"\r\n\r\n" in whole):
            self.ended.done() or self.ended.set_result(self.status == b"200")
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(False)
        for future in (self.first_byte, self.first_word):
            future.cancel()


@dataclass(kw_only=True)
class Held:
    """What the server's process holds."""

    tasks: int
    files: int
    rss_mb: float


class Server:
    """The server under test, and the model behind it."""

    def __init__(self, store: str, folder: Path, running: ExitStack) -> None:
        self.database = folder / "threads.db"
        model_port, self.port = free_port(), free_port()
        paths = os.pathsep.join([str(HERE), str(HERE.parent / "streaming")])
        self._model = Process([sys.executable, str(HERE / "paced.py"), str(model_port)], {"PYTHONPATH": paths}, core=1)
        running.callback(self._model.end)
        environment = {
            "PYTHONPATH": paths,
            "MODEL_URL": f"http://127.0.0.1:{model_port}/v1",
            "STORE": "memory" if store == "memory" else str(self.database),
        }
        uvicorn = [sys.executable, "-m", "uvicorn", "app:create_app", "--factory", "--log-level", "warning"]
        uvicorn += ["--backlog", "4096", "--port", str(self.port)]
        self._process = Process(uvicorn, environment, core=0)
        running.callback(self._process.end)
        wait_for(self.port, self._process)

    def held(self) -> Held:
        self._process.check()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/held")
        told = json.loads(connection.getresponse().read())
        connection.close()
        return Held(**told, rss_mb=round(self._process.rss_kb / 1024, 1))

    @property
    def rss_mb(self) -> float:
        return round(self._process.rss_kb / 1024, 1)

    @property
    def cpu_seconds(self) -> float:
        return self._process.cpu_seconds

    @property
    def model_connections(self) -> int:
        """Sockets of the model's process, the listening one not counted."""
        files = Path(f"/proc/{self._model.pid}/fd").iterdir()
        return sum(str(file.readlink()).startswith("socket:") for file in files) - 1


async def many_at_once(server: Server, plan: argparse.Namespace) -> dict[str, Any]:
    """All streams open at the same time for so many seconds."""
    words = round((plan.seconds + plan.ramp) / plan.pace)
    streams = [Stream(server.port, f"reader-{number}") for number in range(plan.streams)]
    before, cpu = server.held(), server.cpu_seconds
    peak = before.rss_mb
    begun = time.perf_counter()
    for stream in streams:
        await stream.ask(words, plan.pace)
        await asyncio.sleep(plan.ramp / plan.streams)
    asked = time.perf_counter()
    ends = asyncio.gather(*(stream.ended for stream in streams))
    deadline = asyncio.get_running_loop().time() + plan.seconds + plan.ramp + GRACE
    while not ends.done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.wait([ends], timeout=1.0)
        peak = max(peak, server.rss_mb)
    ends.cancel()
    took = time.perf_counter() - begun
    whole = [stream for stream in streams if is_whole(stream, words)]
    after = await at_rest(server, before)
    return {
        "streams": plan.streams,
        "words": words,
        "dropped": len(streams) - len(whole),
        "at_once_for_s": round(min(plan.seconds, took - (asked - begun)), 1),
        "took_s": round(took, 1),
        "should_take_s": round(words * plan.pace + (asked - begun), 1),
        "first_byte_ms": percentiles(stream.first_byte for stream in streams),
        "first_word_ms": percentiles(stream.first_word for stream in streams),
        "cpu_share": round((server.cpu_seconds - cpu) / took, 2),
        "rss_mb": {"before": before.rss_mb, "peak": peak, "after": after.rss_mb},
        "left": left(before, after),
    }


async def connect_and_drop(server: Server, plan: argparse.Namespace) -> dict[str, Any]:
    """Readers who leave after a few pieces of their answer, one after the other in a few lines."""
    dice = random.Random(plan.seed)
    print(f"seed {plan.seed}", file=sys.stderr)
    refused = 0

    async def drop(numbers: range) -> None:
        nonlocal refused
        for number in numbers:
            stream = Stream(server.port, f"dropping-{number}")
            stream.stays_for = dice.randint(0, 6)
            await stream.ask(50, 0.01)
            if stream.stays_for:
                waiting = asyncio.wait([stream.had_enough, stream.ended], return_when=asyncio.FIRST_COMPLETED)
                await within(GRACE, waiting)
                refused += stream.status != b"200"
            stream.drop()

    async def cycles(count: int, first: int) -> None:
        await asyncio.gather(*(drop(range(first + line, first + count, plan.lines)) for line in range(plan.lines)))

    await cycles(plan.cycles // 10, 0)  # what is made once, and kept, is there afterwards
    before = await at_rest(server, None)
    begun, half = time.perf_counter(), plan.cycles // 2
    await cycles(half, plan.cycles)
    middle = server.rss_mb
    await cycles(half, 2 * plan.cycles)
    took = time.perf_counter() - begun
    after = await at_rest(server, before)
    return {
        "cycles": 2 * half,
        "refused": refused,
        "per_second": round(2 * half / took, 1),
        "rss_mb": {"before": before.rss_mb, "middle": middle, "after": after.rss_mb},
        # Of the second half: an allocator takes its share once.
        "kb_per_cycle": round(1024 * (after.rss_mb - middle) / half, 2),
        "left": left(before, after),
        "model_connections": server.model_connections,
    }


def is_whole(stream: Stream, words: int) -> bool:
    """Every word came, the question and the answer were stored, and the stream had its end."""
    ended = stream.ended.done() and not stream.ended.cancelled() and stream.ended.result()
    return bool(ended) and (stream.words, stream.items, stream.errors) == (words, 2, 0)


async def at_rest(server: Server, before: Held | None) -> Held:
    """What the server holds when it has tidied up: as much as before, or for a while always the same."""
    known = [server.held()]
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        if before is not None and known[-1].tasks <= before.tasks and known[-1].files <= before.files:
            break
        if before is None and len(known) > 5 and len({(held.tasks, held.files) for held in known[-5:]}) == 1:
            break
        await asyncio.sleep(0.5)
        known.append(server.held())
    return known[-1]


def left(before: Held, after: Held) -> dict[str, int]:
    return {"tasks": after.tasks - before.tasks, "files": after.files - before.files}


def percentiles(waits: Any) -> dict[str, float]:
    known = sorted(1e3 * wait.result() for wait in waits if wait.done() and not wait.cancelled())
    if len(known) < 2:
        return {}
    cuts = statistics.quantiles(known, n=100)
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(known[-1], 1)}


def complaints(store: str, many: dict[str, Any], dropping: dict[str, Any], plan: argparse.Namespace) -> list[str]:
    """What is not as it should be."""
    found: list[tuple[bool, str]] = []
    if many:
        growth = round(many["rss_mb"]["peak"] - many["rss_mb"]["before"], 1)
        stored, expected = many.get("stored", 2 * plan.streams), 2 * plan.streams
        found += [
            (many["dropped"] > 0, f"{many['dropped']} of {plan.streams} streams were dropped"),
            (growth > plan.rss_mb, f"{plan.streams} streams take {growth} MB; {plan.rss_mb} are allowed"),
            (max(many["left"].values()) > 0, f"left after the streams: {many['left']}"),
            (stored != expected, f"{stored} items are stored of {expected}"),
        ]
    if dropping:
        grown, connections = dropping["kb_per_cycle"], dropping["model_connections"]
        found += [
            (dropping["refused"] > 0, f"{dropping['refused']} questions were refused"),
            (max(dropping["left"].values()) > 0, f"left after the readers who dropped: {dropping['left']}"),
            (connections > plan.lines, f"{connections} connections to the model are left"),
            # What is in memory stays there: each cycle is a thread.
            (store != "memory" and grown > plan.kb_per_cycle, f"each dropped answer leaves {grown} KB"),
        ]
    return [text for is_so, text in found if is_so]


def soak(store: str, plan: argparse.Namespace) -> dict[str, Any]:
    """Both runs over one kind of store, each on a server that was just started."""
    many: dict[str, Any] = {}
    dropping: dict[str, Any] = {}
    if plan.streams:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            server = Server(store, Path(folder), running)
            asyncio.run(warm_up(server))
            stored = count_items(server) if store == "sqlite" else 0
            many = asyncio.run(many_at_once(server, plan))
            if store == "sqlite":
                many["stored"] = count_items(server) - stored
    if plan.cycles:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            dropping = asyncio.run(connect_and_drop(Server(store, Path(folder), running), plan))
    return {"streams": many, "dropping": dropping, "complaints": complaints(store, many, dropping, plan)}


async def warm_up(server: Server) -> None:
    for number in range(20):
        stream = Stream(server.port, f"warm-{number}")
        await stream.ask(10, 0.001)
        await within(GRACE, stream.ended)


def count_items(server: Server) -> int:
    with closing(sqlite3.connect(server.database)) as database:
        return database.execute("SELECT count(*) FROM items").fetchone()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Many streams at once, and many readers who drop theirs.")
    parser.add_argument("--stores", nargs="+", default=["memory", "sqlite"], choices=["memory", "sqlite"])
    parser.add_argument("--streams", type=int, default=1000, help="streams at once; 0 for none")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long all of them are open")
    parser.add_argument("--ramp", type=float, default=10.0, help="seconds in which they are begun, one after the other")
    parser.add_argument("--pace", type=float, default=0.25, help="seconds between two words of a stream")
    parser.add_argument("--cycles", type=int, default=5000, help="readers who drop their answers; 0 for none")
    parser.add_argument("--lines", type=int, default=20, help="how many of those there are at a time")
    parser.add_argument("--rss-mb", type=float, default=120.0, help="memory that the streams may take at once")
    parser.add_argument("--kb-per-cycle", type=float, default=2.0, help="memory that a dropped answer may leave")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    plan = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C: no server is left behind
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[1]})
    results: dict[str, Any] = {}
    for store in plan.stores:
        print(f"{store}: about {plan.seconds + 2 * plan.ramp + plan.cycles / 40:.0f} seconds", file=sys.stderr)
        results[store] = soak(store, plan)
        print(json.dumps({store: results[store]}, indent=2))
    around = surroundings()
    print(", ".join(f"{name} {value}" for name, value in around.items()))
    if plan.json:
        plan.json.write_text(json.dumps({"surroundings": around, "results": results}, indent=2, default=asdict))
    sys.exit(any(result["complaints"] for result in results.values()))


if __name__ == "__main__":
    main()
