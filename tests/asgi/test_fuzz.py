"""Ten thousand requests that were valid before something happened to them: each is answered, and none by a 5xx.

In process, up to the ASGI interface, so that it is the app that is tested and not a client. Each seed makes the same
thousand mutants every time, up to the ids of what they are about. `nox -s soak` tries ninety seeds more.
"""

import asyncio
import copy
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore
from protocol.frames import read_frames
from threats.site import (
    AUDIO,
    NOBODYS,
    Belongings,
    EverythingServer,
    app_of,
    client_of,
    every_operation,
    files_in,
    settle_in,
)

pytestmark = pytest.mark.anyio

MUTANTS = 1_000
PER_WORLD = 25
"""Mutants between two renewals of what they are about: some of them are valid, and delete it."""
PATIENCE = 10.0


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(10, 100))])
async def test_every_mutant_is_answered_and_never_by_a_5xx(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
):
    store = SQLiteStore(tmp_path / "threads.db") if seed % 5 == 4 else MemoryStore()
    chat = app_of(EverythingServer(store, attachment_store=files_in(tmp_path / "files")))
    async with chat.lifespan():
        tally = await bombard(chat, seed, MUTANTS)

    print(f"seed {seed}, {type(store).__name__}: {tally}")
    record_property("p99_ms", tally.p99_ms)
    assert tally.mutants == MUTANTS
    assert {200, 400, 404, 409, 422} <= tally.statuses.keys()
    assert tally.carried_out == {body["type"] for body in every_operation(NOBODYS)}, "each is valid at times"
    assert tally.streams > MUTANTS / 50
    worst = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert worst == []


class Tally:
    """What became of the mutants."""

    def __init__(self) -> None:
        self.mutants = 0
        self.streams = 0
        self.statuses: Counter[int] = Counter()
        self.carried_out: set[str] = set()
        self.seconds: list[float] = []

    @property
    def p99_ms(self) -> float:
        return round(sorted(self.seconds)[int(len(self.seconds) * 0.99)] * 1000, 1)

    def __str__(self) -> str:
        return f"{self.mutants} mutants, {dict(self.statuses)}, {self.streams} streams, p99 {self.p99_ms} ms"


async def bombard(chat: ChatApp, seed: int, number: int) -> Tally:
    """Sends `number` mutants; fails at the first that is not answered as it should be, and shows it."""
    dice, tally = random.Random(seed), Tally()
    async with client_of(chat, "alice-token") as alice:
        for count in range(number):
            if count % PER_WORLD == 0:
                things = await settle_in(alice)
            original = dice.choice(every_operation(things))
            body = mutant(dice, original, things)
            begun = time.perf_counter()
            status, media_type, answer = await asyncio.wait_for(post(chat, body), PATIENCE)
            tally.seconds.append(time.perf_counter() - begun)
            tally.mutants += 1
            tally.statuses[status] += 1
            assert status in (200, 400, 404, 409, 413, 415, 422), (seed, count, body, answer)
            if status == 200:
                tally.carried_out.add(original["type"])
            if media_type == "text/event-stream":
                tally.streams += 1
                assert read_frames(answer.decode())[-1]["type"] == "thread.item.done", (seed, count, body, answer)
            else:
                told = json.loads(answer)
                assert status == 200 or set(told) == {"code", "message", "details"}, (seed, count, body, answer)
    return tally


async def post(chat: ChatApp, body: bytes) -> tuple[int, str, bytes]:
    """The answer to the bytes, read to its end: an app that returns without one has hung a stream."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    named = {b"host": b"localhost", b"content-type": b"application/json", b"authorization": b"Bearer alice-token"}
    scope = {"type": "http", "method": "POST", "scheme": "http", "path": "/", "query_string": b""}
    await chat({**scope, "headers": list(named.items())}, receive, send)
    assert not sent[-1].get("more_body", False), "the answer has an end"
    media_type = dict(sent[0]["headers"])[b"content-type"].decode().partition(";")[0]
    return sent[0]["status"], media_type, b"".join(message.get("body", b"") for message in sent[1:])


def deep(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1.5, -0.0, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 10**40),
    *(
        "",
        " ",
        "a",
        "0",
        "null",
        "NaN",
        "\0",
        "a\0b",
        "\r\n\r\n",
        "\x1b[31m",
        "data: x\n\n",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
    ),
    *("é" * 300, "🤖", "x" * 33_000, "\ufffd", "\u2028", "<script>", "../..", "' OR 1=1 --", "$.title", "{}", "%s"),
    *([], {}, [[]], [None], {"a": {"b": []}}, {"": ""}, deep(40), [0] * 2_000, {str(key): key for key in range(60)}),
    *("asc", "desc", "positive", "hidden_context_item", "application/pdf", AUDIO),
    {"type": "input_text", "text": "x"},
    {"type": "input_tag", "id": "t", "text": "T", "data": {}},
    {"type": "more", "payload": {}},
]
JUNK = [
    *(b"\xff", b"\x00", b'"', b"}", b"{", b"]", b",", b"\\", b"\\u0000", b"\\ud800", b"\\udc00x", b"\xed\xa0\x80"),
    *(b"NaN", b"Infinity", b"-", b"1e999", b"9" * 400, b"[" * 3_000, b"/**/", b"\xef\xbb\xbf", b"\n", b""),
]


def mutant(dice: random.Random, body: dict[str, Any], things: Belongings) -> bytes:
    """The request with something done to its values, to its bytes, to both, or, seldom, to neither."""
    changed: Any = copy.deepcopy(body)
    if dice.random() < 0.1:
        more = {"pageContext": {"title": strange(dice)}, "userInfo": strange(dice), "client_message_id": strange(dice)}
        changed["metadata"] = dice.choice([more, strange(dice)])
    for _ in range(dice.choice([0, 1, 1, 1, 2])):
        change_value(dice, changed, things)
    text = json.dumps(changed, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    for _ in range(dice.choice([0, 0, 0, 0, 0, 0, 1, 2])):
        text = with_changed_bytes(dice, text)
    return text


def strange(dice: random.Random) -> Any:
    return copy.deepcopy(dice.choice(STRANGE))


def change_value(dice: random.Random, document: Any, things: Belongings) -> None:
    """Drops, replaces, doubles, wraps or adds one value, or puts another thing's id where an id stands."""
    found = places(document)
    if not found:
        return
    container, key = dice.choice(found)
    match dice.randrange(8):
        case 0:
            container.pop(key)
        case 1:
            container[key] = dice.choice([[container[key]], {"type": container[key]}, [container[key]] * 12])
        case 2 if isinstance(container, dict):
            container[dice.choice(["type", "id", "params", "metadata", "limit", "after", "order", ""])] = strange(dice)
        case 3 if isinstance(container[key], str):
            container[key] = dice.choice([*things.ids.values(), *NOBODYS.ids.values()])
        case 4 if isinstance(container[key], str):
            place = dice.randrange(len(container[key]) + 1)
            container[key] = (
                container[key][:place] + dice.choice(["\0", "\ud800", "é", "\n", ""]) + container[key][place:]
            )
        case _:
            container[key] = strange(dice)


def with_changed_bytes(dice: random.Random, text: bytes) -> bytes:
    """Flips, cuts, inserts, repeats; or makes a key a double one."""
    place = dice.randrange(len(text) + 1)
    match dice.randrange(6):
        case 0 if place < len(text):
            return text[:place] + bytes([text[place] ^ (1 << dice.randrange(8))]) + text[place + 1 :]
        case 1:
            return text[:place]
        case 2:
            return text[:place] + text[place + dice.randint(1, 8) :]
        case 3:
            return text[:place] + text[max(0, place - dice.randint(1, 30)) :]
        case 4:
            return text[:1] + b'"type": "threads.list", ' + text[1:] if dice.random() < 0.5 else text + text
        case _:
            return text[:place] + dice.choice(JUNK) + text[place + dice.randint(0, 3) :]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key within a JSON value."""
    if isinstance(value, dict):
        found = [(value, key) for key in value]
        return found + [place for inner in value.values() for place in places(inner)]
    if isinstance(value, list):
        found = [(value, index) for index in range(len(value))]
        return found + [place for inner in value[:20] for place in places(inner)]
    return []
