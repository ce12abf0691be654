"""`s1`, the first of the first systems: a column for each thing that an item may hold. Pure.

Its kinds of items are its own; each becomes what ChatKit has for it. Where a file's bytes are is kept, and the bytes
stay there.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from chatkit.types import Attachment, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json

from chatkit_rag.stores.imports_rows import (
    Json,
    Layout,
    NotTaken,
    SourceRow,
    json_of,
    list_of,
    object_of,
    parsed,
    time_of,
)

_ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
_ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)

_UNDER_WAY = {"pending", "running"}


def _thread(row: SourceRow) -> tuple[str, BaseModel]:
    metadata = object_of(_inner(_columns(row).get("metadata")) or {}, "its metadata")
    title = metadata.get("title")
    return row.id, ThreadMetadata(
        id=row.id,
        created_at=time_of(row),
        title=title if isinstance(title, str) else None,
        metadata=metadata,
    )


def _item(row: SourceRow) -> tuple[str, BaseModel]:
    columns = _columns(row)
    make = _MAKERS.get(str(columns.get("item_type")))
    if make is None:
        raise NotTaken("its item_type is none that is known")
    where: Json = {"id": row.id, "thread_id": row.thread_id, "created_at": time_of(row)}
    return row.id, _ITEM.validate_python(make(columns) | where)


def _attachment(row: SourceRow) -> tuple[str, BaseModel]:
    return row.id, _ATTACHMENT.validate_python(_file(_columns(row)))


def _message(columns: Json) -> Json:
    text = columns.get("content") or ""
    match columns.get("role"):
        case "user":
            return _said_by_user([{"type": "input_text", "text": text}])
        case "assistant":
            part = {"type": "output_text", "text": text, "annotations": _annotations(columns.get("metadata"))}
            return {"type": "assistant_message", "content": [part]}
        case _:  # no reader was meant to see it
            return {"type": "hidden_context_item", "content": text}


def _annotations(metadata: Any) -> list[Json]:
    """The sources of an answer; where in the text they were cited was not kept."""
    known = _inner(metadata)
    sources: list[Json] = []
    for source in list_of(cast("Json", known).get("sources")) if isinstance(known, dict) else []:
        if isinstance(source, dict):
            sources += _sources(cast("Json", source))
    return [{"type": "annotation", "source": source} for source in sources]


def _sources(source: Json) -> list[Json]:
    file, library = source.get("file"), source.get("library")
    if isinstance(file, str):
        title = ", ".join(str(source[name]) for name in ("module", "week") if source.get(name))
        return [{"type": "file", "title": title or file, "filename": file}]
    urls = [url for url in list_of(source.get("urls")) if isinstance(url, str)]
    return [{"type": "url", "title": library if isinstance(library, str) else url, "url": url} for url in urls]


def _tool_call(columns: Json) -> Json:
    return {
        "type": "client_tool_call",
        "status": "completed",
        "call_id": columns.get("tool_call_id") or columns["id"],
        "name": columns.get("tool_name"),
        "arguments": _inner(columns.get("tool_arguments")) or {},
    }


def _tool_result(columns: Json) -> Json:
    said = {"tool_call_id": columns.get("tool_result_call_id"), "tool_result": columns.get("tool_result")}
    return {"type": "hidden_context_item", "content": said}


def _task(columns: Json) -> Json:
    return {
        "type": "task",
        "task": _custom_task(*(columns.get(f"task_{name}") for name in ("name", "status", "result"))),
    }


def _workflow(columns: Json) -> Json:
    name, tasks = columns.get("workflow_name"), list[Json]()
    for step in list_of(_inner(columns.get("workflow_steps"))):
        known = cast("Json", step) if isinstance(step, dict) else {"name": step}
        tasks.append(_custom_task(known.get("name"), known.get("status"), known.get("result")))
    return {
        "type": "workflow",
        "workflow": {"type": "custom", "tasks": tasks, "summary": {"title": name} if name else None},
    }


def _custom_task(name: Any, status: Any, result: Any) -> Json:
    said = _inner(result)
    return {
        "type": "custom",
        "title": None if name is None else str(name),
        "content": said if said is None or isinstance(said, str) else to_json(said).decode(),
        "status_indicator": "loading" if status in _UNDER_WAY else "complete",
    }


def _attached(columns: Json) -> Json:
    return _said_by_user([]) | {"attachments": [_file(columns)]}


def _said_by_user(content: list[Json]) -> Json:
    return {"type": "user_message", "content": content, "inference_options": {}}


def _file(columns: Json) -> Json:
    url = str(columns.get("attachment_url") or "")
    kind = columns.get("attachment_mime_type") or "application/octet-stream"
    record: Json = {
        "type": "file",
        "id": columns["id"],
        "name": url.partition("?")[0].rstrip("/").rpartition("/")[2] or columns["id"],
        "mime_type": kind,
        "thread_id": columns.get("thread_id"),
        "metadata": {"url": url, "size": columns.get("attachment_size_bytes")},
    }
    if str(kind).startswith("image/") and url.startswith(("https://", "http://")):
        record |= {"type": "image", "preview_url": url}
    return record


_MAKERS: Mapping[str, Callable[[Json], Json]] = {
    "message": _message,
    "tool_call": _tool_call,
    "tool_result": _tool_result,
    "task": _task,
    "workflow": _workflow,
    "attachment": _attached,
}


def _columns(row: SourceRow) -> Json:
    return object_of(json_of(row.payload), "its row")


def _inner(value: Any) -> Any:
    """What a column of JSON holds, also where its type is text; a text that is no JSON is what it says."""
    if not isinstance(value, str):
        return value
    try:
        return parsed(value)
    except ValueError:
        return value


S1 = Layout("s1", {"thread": _thread, "item": _item, "attachment": _attachment})
