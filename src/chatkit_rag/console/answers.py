"""What `search` and `ask` do."""

import asyncio
from collections.abc import AsyncIterable
from typing import Any, cast

import orjson

from chatkit_rag.console.opened import filled_index
from chatkit_rag.console.terminal import err, out, print_json
from chatkit_rag.errors import ModelFailed
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.retriever import Retrieved, Retriever
from chatkit_rag.settings import Settings
from chatkit_rag.sources.course import PUBLISHED


def search(settings: Settings, query: str, *, limit: int, site: str | None) -> None:
    """Searches the index, and prints the passages as JSON."""

    async def found() -> Retrieved:
        async with filled_index(settings) as opened:
            where = Filter(site=site) if site is not None else Filter()
            return await Retriever(opened).retrieve(query, limit=limit, where=where & PUBLISHED)

    print_json(asyncio.run(found()).to_json(query))


def ask(settings: Settings, question: str, *, thread_id: str | None, as_json: bool) -> None:
    """Answers a question as the reader `local`, in a thread that is kept, and prints the answer as it comes.

    Raises:
        ModelFailed: no answer came; what came of it is printed and kept.
        NotFound: there is no such thread.
    """
    from chatkit_rag.context import Principal, RequestContext
    from chatkit_rag.wiring import build_server

    content = [{"type": "input_text", "text": question}]
    message: dict[str, Any] = {"content": content, "attachments": [], "inference_options": {}}
    operation = "threads.add_user_message" if thread_id else "threads.create"
    params: dict[str, Any] = {"input": message} | ({"thread_id": thread_id} if thread_id else {})

    async def answered() -> dict[str, Any]:
        async with filled_index(settings) as index:
            server = build_server(settings, index)
            await server.open()
            try:
                # Both operations stream.
                context = RequestContext(principal=Principal("local"))
                result = await server.process(orjson.dumps({"type": operation, "params": params}), context)
                said = await _said(cast("AsyncIterable[bytes]", result), thread_id or "", as_it_comes=not as_json)
            finally:
                await server.close()
            return {**said, "model": server.chosen_model.label}

    answer = asyncio.run(answered())
    if as_json:
        print_json(answer)
        return
    out.print()
    for number, source in enumerate(answer["sources"], 1):
        out.print(f"{number}. {source['title']}  {source['url']}")
    err.print(f"To go on: --thread {answer['thread_id']}")


async def _said(frames: AsyncIterable[bytes], thread_id: str, *, as_it_comes: bool) -> dict[str, Any]:
    """What the events of an answer say: thread, text and sources. Raises ModelFailed for one that ends in an error."""
    pieces: list[str] = []
    sources: dict[str, dict[str, Any]] = {}
    async for frame in frames:
        event = orjson.loads(frame.removeprefix(b"data: "))
        update = event.get("update", {})
        if event["type"] == "thread.created":
            thread_id = event["thread"]["id"]
        elif event["type"] == "error":
            raise ModelFailed(event["message"])
        elif update.get("type", "").endswith(".text_delta"):
            pieces.append(update["delta"])
            if as_it_comes:
                out.print(update["delta"], end="")
        elif update.get("type", "").endswith(".annotation_added"):
            source = update["annotation"]["source"]
            sources.setdefault(source["url"], source)
    if as_it_comes:
        out.print()
    return {"thread_id": thread_id, "answer": "".join(pieces), "sources": list(sources.values())}
