"""Speaking ChatKit's protocol as a browser does: requests as JSON, streams as frames, refusals as one shape."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

COVERED = "How do I create a ROS2 node?"
"""A question that the example course answers."""
UNCOVERED = "how do i center a div"
"""One that it does not."""

Event = dict[str, Any]


def message(text: str, **fields: Any) -> dict[str, Any]:
    """What a reader sends."""
    return {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}, **fields}


def request(operation: str, **params: Any) -> dict[str, Any]:
    """A request of the protocol."""
    return {"type": operation, "params": params}


def question(text: str, thread_id: str | None = None) -> dict[str, Any]:
    """A question, in a new thread unless told which."""
    if thread_id is None:
        return request("threads.create", input=message(text))
    return request("threads.add_user_message", thread_id=thread_id, input=message(text))


def read_frames(stream: str) -> list[Event]:
    """The events of a whole stream; anything but frames and comments in it is an error."""
    *blocks, rest = stream.split("\n\n")
    assert rest == "", "a stream ends with a whole frame"
    assert all(block.startswith(("data: ", ": ")) and "\n" not in block for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks if block.startswith("data: ")]


@dataclass(frozen=True, slots=True)
class Answer:
    """The events of one streamed answer, and what they tell."""

    events: list[Event]

    @property
    def kinds(self) -> list[str]:
        """The events' types, updates by the type of the update."""
        return [event["update"]["type"] if "update" in event else event["type"] for event in self.events]

    def of(self, kind: str) -> list[Event]:
        """The events, or updates, of one type."""
        bodies = [event.get("update", event) for event in self.events]
        return [body for body, known in zip(bodies, self.kinds, strict=True) if known == kind]

    @property
    def thread_id(self) -> str:
        """The thread that was created."""
        return self.of("thread.created")[0]["thread"]["id"]

    @property
    def deltas(self) -> list[str]:
        """The text as it came."""
        return [update["delta"] for update in self.of("assistant_message.content_part.text_delta")]

    @property
    def question(self) -> Event:
        """The reader's message as it was stored."""
        return next(done["item"] for done in self.of("thread.item.done") if done["item"]["type"] == "user_message")

    @property
    def reply(self) -> Event:
        """The assistant's message as it was stored."""
        return next(done["item"] for done in self.of("thread.item.done") if done["item"]["type"] == "assistant_message")

    @property
    def text(self) -> str:
        """The reply's text."""
        return self.reply["content"][0]["text"]

    @property
    def annotations(self) -> list[Event]:
        """The reply's citations."""
        return self.reply["content"][0]["annotations"]

    @property
    def errors(self) -> list[Event]:
        """The error events."""
        return self.of("error")


async def call(client: httpx.AsyncClient, operation: str, **params: Any) -> Any:
    """The answer of an operation that does not stream."""
    response = await client.post("/", json=request(operation, **params))
    assert response.status_code == 200, response.text
    return response.json()


async def stream(client: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
    """The answer of an operation that does."""
    response = await client.post("/", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return Answer(read_frames(response.text))


async def ask(client: httpx.AsyncClient, text: str, thread_id: str | None = None) -> Answer:
    """The answer to a question."""
    return await stream(client, question(text, thread_id))


async def items_of(client: httpx.AsyncClient, thread_id: str) -> list[Event]:
    """The thread's items, oldest first."""
    page = await call(client, "items.list", thread_id=thread_id, order="asc", limit=100)
    return page["data"]


def texts(items: list[Event]) -> list[str]:
    """What the items say."""
    return [part["text"] for item in items for part in item["content"]]


def refusal(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The body of an error answer, which has one shape on every route."""
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert set(body) == {"code", "message", "details"}
    assert isinstance(body["code"], str)
    assert body["message"]
    assert isinstance(body["details"], dict)
    return body
