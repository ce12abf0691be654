"""Addresses that run something where a page makes links of them: none reaches a client, or the store."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageItem,
    FileSource,
    SearchTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    URLSource,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.protocol.links import is_web_address
from protocol.frames import Answer, items_of, question, stream
from threats.site import EverythingServer, as_json

pytestmark = pytest.mark.anyio

SCRIPTS = [
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    " javascript:alert(1)",
    "\tjavascript:alert(1)",
    "java\nscript:alert(1)",
    "java\tscript\r\n:alert(1)",
    "\x00javascript:alert(1)",
    "\x1fjavascript:alert(1)",
    "javascript\n://example.org/%0aalert(1)",
    "javascript://example.org/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD4=",
    "vbscript:msgbox(1)",
    "VBScript:msgbox(1)",
    "file:///etc/passwd",
    "blob:https://example.org/1",
    "view-source:https://example.org",
    "about:blank",
    "chrome://settings",
    "intent://scan/#Intent;end",
    "mailto:ada@example.org",
    "https\x00evil:alert(1)",
    ":javascript:alert(1)",
]
PAGES = [
    "https://example.org/ros2/#nodes",
    "http://localhost:3000/nodes",
    "HTTPS://EXAMPLE.ORG/",
    "//example.org/nodes",
    "/ros2/nodes#what-is-a-node",
    "nodes/intro.html",
    "./nodes?x=a:b",
    "../nodes#a:b",
    "#nodes",
    "?page=javascript:1",
    "",
    "/a page/with spaces",
]


@pytest.mark.parametrize("url", SCRIPTS, ids=ascii)
def test_what_is_no_page_is_no_web_address(url: str):
    assert not is_web_address(url)


@pytest.mark.parametrize("url", PAGES, ids=ascii)
def test_a_page_is_one(url: str):
    assert is_web_address(url)


def citing(*urls: str) -> AssistantMessageContent:
    annotations = [Annotation(source=URLSource(title="Nodes", url=url), index=1) for url in urls]
    annotations.append(Annotation(source=FileSource(title="Notes", filename="javascript:notes.txt"), index=1))
    return AssistantMessageContent(text="A node [1].", annotations=annotations)


def message(thread: ThreadMetadata, *urls: str, **fields: Any) -> AssistantMessageItem:
    place = {"id": "answer", "thread_id": thread.id, "created_at": utc_now()}
    return AssistantMessageItem(**{**place, "content": [citing(*urls)], **fields})


def search(thread: ThreadMetadata, *urls: str) -> WorkflowItem:
    workflow = Workflow(type="custom", tasks=[searched(*urls)])
    return WorkflowItem(id="work", thread_id=thread.id, created_at=utc_now(), workflow=workflow)


def searched(*urls: str) -> SearchTask:
    return SearchTask(title="Searched", sources=[URLSource(title="Nodes", url=url) for url in urls])


def added(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    return [ThreadItemAddedEvent(item=message(thread, url, PAGES[0]))]


def done(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    return [ThreadItemDoneEvent(item=message(thread, url, PAGES[0]))]


def replaced(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    return [
        ThreadItemDoneEvent(item=message(thread, PAGES[1])),
        ThreadItemReplacedEvent(item=message(thread, url, PAGES[0])),
    ]


def annotated(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    updates = [
        AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text="A node.")),
        *(
            AssistantMessageContentPartAnnotationAdded(content_index=0, annotation_index=index, annotation=annotation)
            for index, annotation in enumerate(citing(url, PAGES[0]).annotations)
        ),
    ]
    item = message(thread, content=[])
    return [
        ThreadItemAddedEvent(item=item),
        *(ThreadItemUpdatedEvent(item_id=item.id, update=update) for update in updates),
    ]


def begun(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    update = AssistantMessageContentPartAdded(content_index=0, content=citing(url, PAGES[0]))
    item = message(thread, content=[])
    return [ThreadItemAddedEvent(item=item), ThreadItemUpdatedEvent(item_id=item.id, update=update)]


def ended(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    update = AssistantMessageContentPartDone(content_index=0, content=citing(url, PAGES[0]))
    item = message(thread, content=[])
    return [ThreadItemAddedEvent(item=item), ThreadItemUpdatedEvent(item_id=item.id, update=update)]


def work(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    return [ThreadItemDoneEvent(item=search(thread, url, PAGES[0]))]


def task(thread: ThreadMetadata, url: str) -> list[ThreadStreamEvent]:
    updates = [
        WorkflowTaskAdded(task_index=0, task=searched(url, PAGES[0])),
        WorkflowTaskUpdated(task_index=0, task=searched(url, PAGES[0])),
    ]
    item = search(thread)
    return [
        ThreadItemAddedEvent(item=item.model_copy(update={"workflow": Workflow(type="custom", tasks=[])})),
        *(ThreadItemUpdatedEvent(item_id=item.id, update=update) for update in updates),
    ]


@pytest.mark.parametrize(
    "events", [added, done, replaced, annotated, begun, ended, work, task], ids=lambda events: events.__name__
)
@pytest.mark.parametrize("url", ["javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,x", "vbscript:x"])
async def test_such_a_source_is_neither_sent_nor_stored_and_the_others_are(
    server: EverythingServer, alice: httpx.AsyncClient, events: Any, url: str
):
    async def cite(thread: ThreadMetadata, context: RequestContext) -> AsyncIterator[ThreadStreamEvent]:
        for event in events(thread, url):
            yield event

    server.hook = cite
    answer: Answer = await stream(alice, question("What is a node?"))
    [_, *stored] = await items_of(alice, answer.thread_id)

    assert answer.errors == []
    for told in (as_json(answer.events), as_json(stored)):
        assert url not in told
        assert PAGES[0] in told
        if stored[0]["type"] == "assistant_message":
            assert "javascript:notes.txt" in told, "a file's name is no address"
