"""Measures what a streamed answer costs, against the server of ChatKit's documentation, in one run.

    python benchmarks/streaming/run.py [--quick] [--json FILE] [--only VARIANT ...]

Everything runs on this machine: the servers under test on one core, the model server and this client on another.
Rounds go through all variants in turn; a figure is the median over the rounds.
"""

# ruff: noqa: ARG002, TID251 - other people's signatures; the environment is how run.py tells its servers

import argparse
import asyncio
import http.client
import importlib.util
import json
import os
import platform
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VARIANTS = {
    "reference": ("reference:app", []),
    "ours": ("ours:create_app", ["--factory"]),
    "ours-lean": ("ours:create_app", ["--factory"]),
    "direct": ("ours:create_app", ["--factory"]),
    "proxy": ("proxy:app", []),
}
DIRECT = "chatkit_rag.agent.direct"
"""The module that drives a lean model without the runner; without it the variant is left out."""
PACKAGES = ("openai-chatkit", "openai-agents", "openai", "fastapi", "starlette", "uvicorn", "uvloop", "httptools")
PACKAGES += ("aiohttp", "orjson", "pydantic")

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
DELTA = b'"delta":"'
STAMP = re.compile(rb'"delta":" (\d{9,})"')
LAST_CHUNK = b"0\r\n\r\n"
DELTAS = 200
PACED_STREAMS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    rounds: int = 5
    starts: int = 3
    alone: int = 100
    """Responses one after the other."""
    together: int = 300
    """Responses at a concurrency of 50."""
    open_streams: int = 1000


QUICK = Plan(rounds=1, starts=1, alone=30, together=100, open_streams=100)


class Exchange(asyncio.Protocol):
    """One request over a connection of its own or one kept, and what came back, timed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()

    async def ask(self, mode: str) -> "Exchange":
        """Sends the question; `begun` and `ended` tell the rest."""
        content = [{"type": "input_text", "text": f"What is a node? mode={mode}"}]
        message = {"content": content, "attachments": [], "inference_options": {}}
        body = json.dumps({"type": "threads.create", "params": {"input": message}}).encode()
        self.begun: asyncio.Future[float] = self._loop.create_future()
        self.ended: asyncio.Future[float] = self._loop.create_future()
        self.deltas = 0
        self.latencies: list[int] = []
        self._status = b""
        self._tail = b""
        if self._transport is None or self._transport.is_closing():
            await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        self.sent = time.perf_counter()
        self._transport.write(head.encode() + body)
        return self

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.begun, self.ended):
            if not future.done():
                future.set_exception(ConnectionError(f"the server hung up: {self._status!r}"))
                future.exception()

    def data_received(self, data: bytes) -> None:
        if not self._status:
            self._status = data[:15]
            if b" 200" not in self._status:
                self._transport.close()
                return
        now = time.monotonic_ns()
        self.latencies += [now - int(stamp) for stamp in STAMP.findall(data)]
        self.deltas += data.count(DELTA)
        if self.deltas and not self.begun.done():
            self.begun.set_result(time.perf_counter() - self.sent)
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        if self._tail == LAST_CHUNK and not self.ended.done():
            self.ended.set_result(time.perf_counter() - self.sent)


class Process:
    """A process of this benchmark: pinned to a core, ended by its id."""

    def __init__(self, arguments: list[str], environment: dict[str, str], core: int) -> None:
        self._process = subprocess.Popen(
            arguments, cwd=HERE, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
        )
        self.pid = self._process.pid
        if len(CORES) > 1:
            os.sched_setaffinity(self.pid, {CORES[core]})

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads, to the nanosecond."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @property
    def rss_kb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def check(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"process {self.pid} ended with {self._process.returncode}")

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)


@dataclass(slots=True)
class Figures:
    """What was measured of one variant, a value for each round."""

    ready_s: list[float] = field(default_factory=list)
    first_request_ms: list[float] = field(default_factory=list)
    cpu_ms_alone: list[float] = field(default_factory=list)
    ttfd_ms_alone: list[float] = field(default_factory=list)
    total_ms_alone: list[float] = field(default_factory=list)
    per_second_alone: list[float] = field(default_factory=list)
    cpu_ms_together: list[float] = field(default_factory=list)
    per_second_together: list[float] = field(default_factory=list)
    paced_cpu_ms: list[float] = field(default_factory=list)
    paced_ttfd_ms: list[float] = field(default_factory=list)
    paced_p50_ms: list[float] = field(default_factory=list)
    paced_p99_ms: list[float] = field(default_factory=list)
    kb_per_stream: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in asdict(self).items() if values}


class Variant:
    """A server under test."""

    def __init__(self, name: str, model_url: str) -> None:
        self.name = name
        self.figures = Figures()
        self._model_url = model_url
        self._process: Process | None = None
        self._port = 0

    @property
    def process(self) -> Process:
        assert self._process
        return self._process

    def start(self) -> None:
        """Starts the server anew, and measures how long it takes to be there."""
        self.end()
        self._port = free_port()
        target, flags = VARIANTS[self.name]
        arguments = [sys.executable, "-m", "uvicorn", target, *flags, "--app-dir", str(HERE), "--log-level", "warning"]
        environment = {"MODEL_URL": self._model_url, "VARIANT": self.name}
        begun = time.perf_counter()
        self._process = Process([*arguments, "--port", str(self._port)], environment, core=0)
        wait_for(self._port, self._process)
        self.figures.ready_s.append(time.perf_counter() - begun)

    def end(self) -> None:
        if self._process:
            self._process.end()
            self._process = None

    async def first_request(self) -> None:
        exchange = await Exchange(self._port).ask("burst")
        self.figures.first_request_ms.append(1e3 * await within(60, exchange.begun))
        await within(60, exchange.ended)
        exchange.close()

    async def warm_up(self) -> None:
        await self._answers(10, concurrency=2)

    async def burst_alone(self, count: int) -> None:
        begun, cpu = time.perf_counter(), self.process.cpu_seconds
        waits = await self._answers(count, concurrency=1)
        self.figures.per_second_alone.append(count / (time.perf_counter() - begun))
        self.figures.cpu_ms_alone.append(1e3 * (self.process.cpu_seconds - cpu) / count)
        self.figures.ttfd_ms_alone.append(1e3 * statistics.median(first for first, _ in waits))
        self.figures.total_ms_alone.append(1e3 * statistics.median(total for _, total in waits))

    async def burst_together(self, count: int) -> None:
        begun, cpu = time.perf_counter(), self.process.cpu_seconds
        await self._answers(count, concurrency=50)
        self.figures.per_second_together.append(count / (time.perf_counter() - begun))
        self.figures.cpu_ms_together.append(1e3 * (self.process.cpu_seconds - cpu) / count)

    async def paced(self) -> None:
        cpu = self.process.cpu_seconds
        exchanges = [Exchange(self._port) for _ in range(PACED_STREAMS)]
        try:
            for exchange in exchanges:
                await exchange.ask("paced")
                await asyncio.sleep(0.4 / PACED_STREAMS)  # readers do not all ask in the same millisecond
            await within(120, asyncio.gather(*(exchange.ended for exchange in exchanges)))
        finally:
            for exchange in exchanges:
                exchange.close()
        latencies = sorted(latency / 1e6 for exchange in exchanges for latency in exchange.latencies)
        self.figures.paced_cpu_ms.append(1e3 * (self.process.cpu_seconds - cpu) / PACED_STREAMS)
        self.figures.paced_ttfd_ms.append(1e3 * statistics.median(exchange.begun.result() for exchange in exchanges))
        self.figures.paced_p50_ms.append(latencies[len(latencies) // 2])
        self.figures.paced_p99_ms.append(latencies[len(latencies) * 99 // 100])

    async def open_streams(self, count: int) -> None:
        before = self.process.rss_kb
        exchanges = [Exchange(self._port) for _ in range(count)]
        try:
            for start in range(0, count, 50):
                batch = exchanges[start : start + 50]
                await asyncio.gather(*(exchange.ask("paused") for exchange in batch))
                await within(120, asyncio.gather(*(exchange.begun for exchange in batch)))
            self.figures.kb_per_stream.append((self.process.rss_kb - before) / count)
        finally:
            for exchange in exchanges:
                exchange.close()

    async def _answers(self, count: int, *, concurrency: int) -> list[tuple[float, float]]:
        """Asks `count` questions; the times to the first delta and to the end of each answer."""
        left = iter(range(count))
        waits: list[tuple[float, float]] = []

        async def reader() -> None:
            exchange = Exchange(self._port)
            try:
                for _ in left:
                    await exchange.ask("burst")
                    total = await within(120, exchange.ended)
                    if exchange.deltas < 0.95 * DELTAS:
                        raise RuntimeError(f"{self.name} sent {exchange.deltas} deltas of {DELTAS}")
                    waits.append((exchange.begun.result(), total))
            finally:
                exchange.close()

        await asyncio.gather(*(reader() for _ in range(concurrency)))
        return waits


async def within(seconds: float, awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, seconds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: Process) -> None:
    """Returns when the process answers on the port."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        process.check()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/nowhere")
            connection.getresponse().read()
            connection.close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise TimeoutError(f"nothing answered on port {port}")


async def measure(variants: list[Variant], plan: Plan) -> None:
    for _ in range(plan.starts):
        for variant in variants:
            variant.start()
            await variant.first_request()
    for variant in variants:
        await variant.warm_up()
    for number in range(plan.rounds):
        for variant in variants:
            print(f"round {number + 1} of {plan.rounds}: {variant.name}", file=sys.stderr)
            await variant.burst_alone(plan.alone)
            await variant.burst_together(plan.together)
            await variant.paced()
    for variant in variants:
        print(f"open streams: {variant.name}", file=sys.stderr)
        variant.start()  # a server that was busy has memory to spare, and would seem to need none
        await variant.first_request()
        await variant.warm_up()
        await variant.open_streams(plan.open_streams)


ROWS = {
    "cpu_ms_alone": "CPU ms per response, c1",
    "cpu_ms_together": "CPU ms per response, c50",
    "ttfd_ms_alone": "first delta p50 ms, c1",
    "total_ms_alone": "whole answer p50 ms, c1",
    "per_second_alone": "responses/s, c1",
    "per_second_together": "responses/s, c50",
    "paced_cpu_ms": "paced: CPU ms per response",
    "paced_ttfd_ms": "paced: first delta p50 ms",
    "paced_p50_ms": "paced: delta latency p50 ms",
    "paced_p99_ms": "paced: delta latency p99 ms",
    "kb_per_stream": "KB per open stream",
    "ready_s": "ready after s",
    "first_request_ms": "first request: first delta ms",
}


def table(results: dict[str, dict[str, float]]) -> str:
    """A row for each figure; behind each value, how many times better than the reference."""
    names = list(results)
    lines = [["", *names]]
    for key, label in ROWS.items():
        cells = [label]
        for name in names:
            value, base = results[name].get(key), results.get("reference", {}).get(key)
            if value is None:
                cells.append("-")
            elif not base or not value or name == "reference":
                cells.append(f"{value:.2f}")
            else:
                better = value / base if key.startswith("per_second") else base / value
                cells.append(f"{value:.2f} ({better:.1f}x)")
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def surroundings() -> dict[str, Any]:
    versions: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0], **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what a streamed answer costs.")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help=", ".join(VARIANTS))
    options = parser.parse_args()
    names = options.only or list(VARIANTS)
    if "direct" in names and importlib.util.find_spec(DIRECT) is None:
        print(f"direct is left out: there is no {DIRECT}", file=sys.stderr)
        names.remove("direct")
    plan = QUICK if options.quick else Plan()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C: no server is left behind
    around = surroundings()
    with ExitStack() as running:
        port = free_port()
        model = Process([sys.executable, str(HERE / "model.py"), str(port)], {}, core=1)
        running.callback(model.end)
        wait_for(port, model)
        variants = [Variant(name, f"http://127.0.0.1:{port}/v1") for name in names]
        for variant in variants:
            running.callback(variant.end)
        if len(CORES) > 1:
            os.sched_setaffinity(0, {CORES[1]})
        asyncio.run(measure(variants, plan))
    results = {variant.name: variant.figures.medians() for variant in variants}
    print(table(results))
    print(", ".join(f"{name} {value}" for name, value in around.items()))
    if options.json:
        every = {variant.name: asdict(variant.figures) for variant in variants}
        options.json.write_text(json.dumps({"surroundings": around, "medians": results, "rounds": every}, indent=2))


if __name__ == "__main__":
    main()
