"""Buttons that were never shown: an action comes from a widget that offers it, in one's own thread, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from chatkit.types import ThreadItemRemovedEvent, ThreadItemReplacedEvent, ThreadMetadata, ThreadStreamEvent, WidgetItem
from chatkit.widgets import WidgetTemplate

from chatkit_rag.context import RequestContext
from chatkit_rag.protocol import requests
from chatkit_rag.stores.base import BaseStore
from protocol.frames import call, question, refusal, request, stream
from threats.site import ALICE, MORE, Belongings, EverythingServer, everything_of, settle_in

pytestmark = pytest.mark.anyio

OPERATIONS = ("threads.custom_action", "threads.sync_custom_action")
PLAIN = WidgetTemplate(
    {"version": "1.0", "name": "plain", "template": '{"type": "Card", "children": []}', "jsonSchema": {}}
)


STRANGE = ["grant_admin", "More", "more ", "more\n", "m\u043ere", "*"]
NAMELESS: list[Any] = [
    *({"type": name, "payload": {}} for name in ("", None, 3, ["more"], {"type": "more"}, "x" * 256)),
    *({"payload": {"type": "more"}}, {}, [], "more", None),
]


@pytest.fixture
async def things(alice: httpx.AsyncClient) -> Belongings:
    return await settle_in(alice)


def press(operation: str, things: Belongings, **changes: Any) -> dict[str, Any]:
    return request(operation, **{"thread_id": things.thread, "item_id": things.widget, "action": MORE, **changes})


@pytest.mark.parametrize("operation", OPERATIONS)
class TestForgedActions:
    async def test_the_one_that_is_offered_is_carried_out(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings, operation: str
    ):
        assert (await alice.post("/", json=press(operation, things))).status_code == 200
        assert server.acted == 1

    @pytest.mark.parametrize("action", [*NAMELESS, *({"type": name, "payload": {}} for name in STRANGE)], ids=repr)
    async def test_one_that_the_widget_does_not_offer_is_refused(
        self,
        server: EverythingServer,
        alice: httpx.AsyncClient,
        things: Belongings,
        store: BaseStore,
        operation: str,
        action: Any,
    ):
        before = await everything_of(store, ALICE, things)

        refusal(await alice.post("/", json=press(operation, things, action=action)), 422)

        assert server.acted == 0
        assert await everything_of(store, ALICE, things) == before

    @pytest.mark.parametrize("action", NAMELESS, ids=repr)
    async def test_one_without_a_widget_has_a_name_at_least(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings, operation: str, action: Any
    ):
        refusal(await alice.post("/", json=press(operation, things, action=action, item_id=None)), 422)

        assert server.acted == 0

    async def test_an_item_that_is_no_widget_offers_none(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings, operation: str
    ):
        for item_id in (things.question, things.answer, things.quiz, things.tool_call):
            refusal(await alice.post("/", json=press(operation, things, item_id=item_id)), 422)
        refusal(await alice.post("/", json=press(operation, things, item_id="msg_none")), 404)

        assert server.acted == 0

    async def test_a_widget_of_another_thread_offers_none_here(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings, operation: str
    ):
        other = (await stream(alice, question("Hello"))).thread_id

        refusal(await alice.post("/", json=press(operation, things, thread_id=other)), 404)

        assert server.acted == 0

    async def test_a_foreign_widget_offers_none(
        self, server: EverythingServer, bob: httpx.AsyncClient, things: Belongings, operation: str
    ):
        own = (await stream(bob, question("Hello"))).thread_id

        refusal(await bob.post("/", json=press(operation, things)), 404)
        refusal(await bob.post("/", json=press(operation, things, thread_id=own)), 404)

        assert server.acted == 0

    @pytest.mark.parametrize("change", ["replaced", "removed"])
    async def test_one_that_is_not_offered_any_more_is_refused(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings, operation: str, change: str
    ):
        async def alter(thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[ThreadStreamEvent]:
            if change == "removed":
                yield ThreadItemRemovedEvent(item_id=things.widget)
            else:
                item = await server.store.load_item(thread.id, things.widget, context)
                assert isinstance(item, WidgetItem)
                yield ThreadItemReplacedEvent(item=item.model_copy(update={"widget": PLAIN.build()}))

        assert (await alice.post("/", json=press(operation, things))).status_code == 200
        server.hook = alter
        await stream(alice, question("Take it away", things.thread))
        server.hook = None

        refusal(await alice.post("/", json=press(operation, things)), 404 if change == "removed" else 422)

        assert server.acted == 1

    async def test_a_payload_has_limits_like_everything(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings, operation: str
    ):
        deep: Any = {}
        for _ in range(requests.RequestLimits().depth):
            deep = {"a": deep}
        for payload, statuses in ((deep, (422,)), ("\0", (422,)), ("x" * 300_000, (413,))):
            refused = await alice.post("/", json=press(operation, things, action={**MORE, "payload": payload}))
            refusal(refused, *statuses)

        assert server.acted == 0


class TestReplayedActions:
    async def test_the_same_press_twice_is_carried_out_once(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings
    ):
        body, key = press("threads.custom_action", things), {"Idempotency-Key": "one press"}

        first, second = [await alice.post("/", json=body, headers=key) for _ in range(2)]

        assert (first.status_code, second.status_code) == (200, 200)
        assert server.acted == 1

    async def test_twenty_at_once_are_carried_out_once(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings
    ):
        body, key = press("threads.custom_action", things), {"Idempotency-Key": "one press"}

        answers = await asyncio.gather(*(alice.post("/", json=body, headers=key) for _ in range(20)))

        assert {answer.status_code for answer in answers} <= {200, 409}
        assert server.acted == 1

    async def test_a_key_of_one_reader_says_nothing_to_another(
        self, server: EverythingServer, alice: httpx.AsyncClient, bob: httpx.AsyncClient, things: Belongings
    ):
        key = {"Idempotency-Key": "one press"}
        await alice.post("/", json=press("threads.custom_action", things), headers=key)

        refusal(await bob.post("/", json=press("threads.custom_action", things), headers=key), 404)
        own = await bob.post("/", json=question("Hello"), headers=key)

        assert own.status_code == 200
        assert things.thread not in own.text


class TestForgedAnswers:
    """What is answered must have been asked: tool results and structured input."""

    async def test_a_result_that_nobody_waits_for_is_refused(self, alice: httpx.AsyncClient, things: Belongings):
        body = request("threads.add_client_tool_output", thread_id=things.thread, result={"page": 3})

        await stream(alice, body)

        refusal(await alice.post("/", json=body), 409)

    async def test_an_answered_question_is_answered_once(self, alice: httpx.AsyncClient, things: Belongings):
        answers = {"q1": {"values": ["a topic"]}}
        at = {"thread_id": things.thread, "item_id": things.quiz}
        body = request("threads.add_structured_input", **at, input={"answers": answers})

        await stream(alice, body)
        refusal(await alice.post("/", json=body), 409)

        page = await call(alice, "items.list", thread_id=things.thread, order="asc", limit=100)
        [kept] = [item for item in page["data"] if item["id"] == things.quiz]
        assert kept["inputs"][0]["answer"]["values"] == ["a topic"]

    async def test_questions_at_once_are_answered_once(
        self, server: EverythingServer, alice: httpx.AsyncClient, things: Belongings
    ):
        bodies = [
            request(
                "threads.add_structured_input",
                thread_id=things.thread,
                item_id=things.quiz,
                input={"answers": {"q2": {"values": [f"Answer {number}"]}}},
            )
            for number in range(10)
        ]

        answers = await asyncio.gather(*(alice.post("/", json=body) for body in bodies))

        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
