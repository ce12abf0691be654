"""Links that a page may show: of what models and hooks name as sources, only what a browser opens as a page. Pure.

ChatKit's `URLSource` takes any text for an address, and `stream_agent_response` puts there what the model has named:
a `javascript:` of a poisoned page would run in the site's own origin, where a client makes a link of it.
"""

import re
from typing import TypeVar

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    EntitySource,
    FileSource,
    SearchTask,
    Task,
    ThreadItem,
    ThreadItemUpdatedEvent,
    URLSource,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)

_PASSED_OVER = re.compile(r"[\x00-\x20]+")
"""What browsers pass over in an address, some of it anywhere and all of it at its ends."""
_BEFORE_PATH = re.compile(r"[^/?#\\]*")

Checked = TypeVar("Checked", bound=ThreadItem)


def is_web_address(url: str) -> bool:
    """Whether a browser takes it for `http:`, `https:`, or an address relative to the page."""
    start = _BEFORE_PATH.match(_PASSED_OVER.sub("", url))
    scheme, colon, _ = start[0].partition(":") if start else ("", "", "")
    return not colon or scheme.lower() in ("http", "https")


def with_web_links(item: Checked) -> Checked:
    """The item without sources at other addresses; itself, where there are none."""
    match item:
        case AssistantMessageItem():
            parts = [_content(part) for part in item.content]
            if any(new is not old for new, old in zip(parts, item.content, strict=True)):
                return item.model_copy(update={"content": parts})
        case WorkflowItem():
            tasks = [_task(task) for task in item.workflow.tasks]
            if any(new is not old for new, old in zip(tasks, item.workflow.tasks, strict=True)):
                return item.model_copy(update={"workflow": item.workflow.model_copy(update={"tasks": tasks})})
        case _:
            pass
    return item


def update_with_web_links(event: ThreadItemUpdatedEvent) -> ThreadItemUpdatedEvent | None:
    """As `with_web_links`, for an update; None where nothing is left of it."""
    update = event.update
    match update:
        case AssistantMessageContentPartTextDelta():
            return event
        case AssistantMessageContentPartAnnotationAdded():
            return event if _is_kept(update.annotation) else None
        case AssistantMessageContentPartAdded() | AssistantMessageContentPartDone():
            if (content := _content(update.content)) is not update.content:
                return event.model_copy(update={"update": update.model_copy(update={"content": content})})
        case WorkflowTaskAdded() | WorkflowTaskUpdated():
            if (task := _task(update.task)) is not update.task:
                return event.model_copy(update={"update": update.model_copy(update={"task": task})})
        case _:
            pass
    return event


def _content(content: AssistantMessageContent) -> AssistantMessageContent:
    kept = [annotation for annotation in content.annotations if _is_kept(annotation)]
    return content if len(kept) == len(content.annotations) else content.model_copy(update={"annotations": kept})


def _task(task: Task) -> Task:
    if not isinstance(task, SearchTask):
        return task
    kept = [source for source in task.sources if is_web_address(source.url)]
    return task if len(kept) == len(task.sources) else task.model_copy(update={"sources": kept})


def _is_kept(annotation: Annotation) -> bool:
    source: URLSource | FileSource | EntitySource = annotation.source
    return not isinstance(source, URLSource) or is_web_address(source.url)
