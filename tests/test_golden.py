"""The golden questions of the example course, asked as a reader asks them: what is found, cited and declined."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from chatkit.types import (
    AssistantMessageItem,
    InferenceOptions,
    ThreadItemDoneEvent,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTextContent,
)

from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.server import RagChatServer

pytestmark = pytest.mark.anyio

COURSE = Path(__file__).parent.parent / "examples" / "course"
CONTEXT = RequestContext(principal=Principal("reader"))


@dataclass(frozen=True)
class Shares:
    """What a set of questions came to, as shares of 1."""

    page_among_hits: float
    """Of the answerable: the page is among the first five hits."""
    heading_first: float
    """Of the answerable: the answer's first citation is the right heading."""
    declined: float
    """Of the unanswerable: the answer cites nothing."""
    wrongly_declined: float
    """Of the answerable: the answer cites nothing."""


async def measure(server: RagChatServer, questions: Path) -> Shares:
    page = heading = declined = wrongly_declined = answerable = 0
    rows = [json.loads(line) for line in questions.read_text("utf-8").splitlines()]
    for row in rows:
        found = await server.retrieve(row["question"], CONTEXT)
        citations = await cited_urls(server, row["question"])
        if row["page"] is None:
            declined += not citations
            continue
        answerable += 1
        right = {
            hit.passage.url
            for hit in found.hits
            if (hit.passage.path, hit.passage.heading) == (row["page"], row["heading"])
        }
        page += row["page"] in [hit.passage.path for hit in found.hits[:5]]
        heading += bool(citations) and citations[0] in right
        wrongly_declined += not citations
    return Shares(
        page / answerable, heading / answerable, declined / (len(rows) - answerable), wrongly_declined / answerable
    )


async def cited_urls(server: RagChatServer, question: str) -> list[str]:
    thread = ThreadMetadata(id=server.store.generate_thread_id(CONTEXT), created_at=utc_now())
    message = UserMessageItem(
        id="msg_question",
        thread_id=thread.id,
        created_at=utc_now(),
        content=[UserMessageTextContent(text=question)],
        inference_options=InferenceOptions(),
    )
    await server.store.save_thread(thread, CONTEXT)
    await server.store.add_thread_item(thread.id, message, CONTEXT)
    urls: list[str] = []
    async for event in server.respond(thread, message, CONTEXT):
        if isinstance(event, ThreadItemDoneEvent) and isinstance(event.item, AssistantMessageItem):
            urls += [annotation.source.url for part in event.item.content for annotation in part.annotations]
    return urls


async def test_the_course_answers_what_it_covers_and_declines_what_it_does_not(server: RagChatServer):
    shares = await measure(server, COURSE / "golden.jsonl")
    print(shares)

    assert shares.page_among_hits >= 0.85
    assert shares.heading_first >= 0.80
    assert shares.declined >= 0.75
    assert shares.wrongly_declined <= 0.05


async def test_questions_that_share_no_word_with_the_heading_still_find_their_page(server: RagChatServer):
    # Search by words seldom finds their exact heading: what it does reach may not get worse.
    shares = await measure(server, COURSE / "golden-indirect.jsonl")
    print(shares)

    assert shares.page_among_hits >= 0.85
    assert shares.heading_first >= 0.35
    assert shares.declined >= 0.75
