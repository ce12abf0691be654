"""Pages for people: the chat, and the indexed pages of the course at their own paths, so that every link works.

Nothing on them comes from elsewhere, and what the course's pages say is shown as text: raw HTML in them is not run.
"""

import html
import re
import secrets
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from urllib.parse import urlencode

import orjson
from chatkit.server import ChatKitServer
from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from chatkit_rag.asgi.problems import problem
from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Document
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import PUBLISHED
from chatkit_rag.widget import asset_directory

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])

_DEEPEST_HEADING = 6


_SLOT = re.compile(r"\{\{(\w+)\}\}")

_TITLE = "Ask the course"
_PROMPTS = 3
_QUESTION = re.compile(r"(?:What (?:is|are)|How (?:do|does|can|to)|Why|When|Where) .+\?")
"""Headings that make sense by themselves; "How fast can one walk?" does on its page only."""


class ChatPage:
    """The chat as a full page."""

    def __init__(self, server: ChatKitServer[RequestContext], *, session: bool = False) -> None:
        """`session` is whether the page has to get a token before it may ask."""
        self._session = session
        extracts = isinstance(server, RagChatServer) and not server.chosen_model.costs_money
        self._notice = "Answers are extracts of the course: no language model is configured." if extracts else ""

    async def show(self, _request: Request) -> Response:
        """The page, for a chat whose routes lie beside it."""
        return self.render("./")

    def render(
        self,
        endpoint: str,
        *,
        home: Document | None = None,
        prompts: Sequence[str] = (),
    ) -> Response:
        """The page.

        Args:
            endpoint: where the chat's routes are, with a trailing slash.
            home: a page of the course that is shown along with the chat, and names it.
            prompts: questions that the page offers.
        """
        title = home.title if home else _TITLE
        config = {
            "endpoint": endpoint,
            "session": self._session,
            "prompts": prompts,
            "title": title,
            "notice": self._notice,
        }
        return _page(
            "page.html",
            title=html.escape(title),
            config=orjson.dumps(config).decode().replace("<", "\\u003c"),
            home=render_document(home) if home else "",
        )


class CoursePages:
    """The indexed pages at their own paths, and the chat at `/`."""

    def __init__(self, index: PassageIndex, chat: ChatPage, *, endpoint: str) -> None:
        self._index = index
        self._chat = chat
        self._endpoint = endpoint

    async def show(self, request: Request) -> Response:
        """The page at the request's path."""
        path = request.scope["path"].rstrip("/") or "/"  # not the URL's, where a `?` in a name begins the query
        document = await self._index.page(path)
        if document is not None and not _is_published(document):
            document = None
        if path == "/":
            documents = (record.document for record in await self._index.records())
            prompts = questions_among_headings(filter(_is_published, documents))
            return self._chat.render(self._endpoint, home=document, prompts=prompts)
        if document is None:
            return problem(404, "not_found", "the course has no page at this address")
        return _page(
            "course.html",
            title=html.escape(document.title),
            content=render_document(document),
            ask=html.escape("/?" + urlencode({"page": document.path})),
        )


def _is_published(document: Document) -> bool:
    return PUBLISHED.admits_page(document.metadata)


def questions_among_headings(documents: Iterable[Document]) -> list[str]:
    """The first few headings that are questions: what a course asks itself, it answers."""
    headings = (section.heading_path[-1] for document in documents for section in document.sections)
    return list(islice(dict.fromkeys(heading for heading in headings if _QUESTION.fullmatch(heading)), _PROMPTS))


def render_document(document: Document) -> str:
    """A page of the course as HTML: its headings with their ids, its text, no raw HTML of its own."""
    parts: list[str] = []
    for section in document.sections:
        level = min(len(section.heading_path), _DEEPEST_HEADING)
        anchor = f' id="{html.escape(section.anchor)}"' if section.anchor else ""
        parts.append(f"<h{level}{anchor}>{html.escape(section.heading_path[-1])}</h{level}>")
        parts += [_MARKDOWN.render(block) for block in section.blocks]
    return "\n".join(parts)


def _page(template: str, **values: str) -> Response:
    nonce = secrets.token_urlsafe(16)
    slots = {"nonce": nonce, **values}
    # In one pass: what is filled in may hold braces of its own.
    page = _SLOT.sub(lambda slot: slots[slot[1]], _template(template))
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    return HTMLResponse(page, headers=headers)


@cache
def _template(name: str) -> str:
    return (asset_directory() / name).read_text("utf-8")
