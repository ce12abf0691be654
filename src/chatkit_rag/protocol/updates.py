"""What an item becomes as its updates arrive, and whether what there is of it is worth keeping. Pure."""

from datetime import datetime
from typing import Any, cast

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    GeneratedImageItem,
    GeneratedImageUpdated,
    ThreadItem,
    ThreadItemUpdate,
    WidgetComponentUpdated,
    WidgetItem,
    WidgetRootUpdated,
    WidgetStreamingTextValueDelta,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from pydantic import BaseModel


class Growing:
    """An item that was announced and is not complete, as far as it came."""

    __slots__ = ("_index", "_item", "_texts")

    def __init__(self, item: ThreadItem) -> None:
        # What is announced is nearly always an empty message, and copying in depth takes a while.
        is_empty = isinstance(item, AssistantMessageItem) and not item.content
        self._item = item.model_copy(update={"content": []}) if is_empty else item.model_copy(deep=True)
        # Text is put together when somebody asks for it: it comes in many pieces, and nearly always in one part.
        self._texts: list[str] = []
        self._index = 0

    def update(self, update: ThreadItemUpdate) -> None:
        """Brings it in step with an update of it."""
        if type(update) is AssistantMessageContentPartTextDelta and update.content_index == self._index:
            self._texts.append(update.delta)
            return
        self._join()
        if type(update) is AssistantMessageContentPartTextDelta:
            self._index = update.content_index
            self._texts.append(update.delta)
        else:
            apply_update(self._item, update)

    @property
    def item(self) -> ThreadItem:
        """The item as it stands."""
        self._join()
        return self._item

    @item.setter
    def item(self, item: ThreadItem) -> None:
        self._texts.clear()
        self._item = item

    @property
    def created_at(self) -> datetime:
        """When it was announced."""
        return self._item.created_at

    def _join(self) -> None:
        if self._texts:
            delta = AssistantMessageContentPartTextDelta(content_index=self._index, delta="".join(self._texts))
            self._texts.clear()
            apply_update(self._item, delta)


def apply_update(item: ThreadItem, update: ThreadItemUpdate) -> None:
    """Brings `item` in step with an update of it; one that does not fit the item changes nothing."""
    match item:
        case AssistantMessageItem():
            _update_message(item, update)
        case WorkflowItem():
            _update_workflow(item, update)
        case WidgetItem():
            _update_widget(item, update)
        case GeneratedImageItem() if isinstance(update, GeneratedImageUpdated):
            item.image = update.image
        case _:
            pass


def is_worth_keeping(item: ThreadItem) -> bool:
    """Whether a reader who comes back would miss what there is of an unfinished item."""
    match item:
        case AssistantMessageItem():
            return any(part.text.strip() for part in item.content)
        case WorkflowItem():
            return bool(item.workflow.tasks)
        case GeneratedImageItem():
            return item.image is not None
        case WidgetItem():
            return True
        case _:
            return False


def _update_message(item: AssistantMessageItem, update: ThreadItemUpdate) -> None:
    match update:
        case AssistantMessageContentPartTextDelta():
            _part(item, update.content_index).text += update.delta
        case AssistantMessageContentPartAdded() | AssistantMessageContentPartDone():
            _part(item, update.content_index)
            # A list of its own, which further annotations go into; what is in it is never changed.
            kept = {"annotations": list(update.content.annotations)}
            item.content[update.content_index] = update.content.model_copy(update=kept)
        case AssistantMessageContentPartAnnotationAdded():
            _part(item, update.content_index).annotations.insert(update.annotation_index, update.annotation)
        case _:
            pass


def _part(item: AssistantMessageItem, index: int) -> AssistantMessageContent:
    while len(item.content) <= index:
        item.content.append(AssistantMessageContent(text=""))
    return item.content[index]


def _update_workflow(item: WorkflowItem, update: ThreadItemUpdate) -> None:
    tasks = item.workflow.tasks
    match update:
        # By its index: a hook that goes on filling the workflow which it announced has the task in it already.
        case WorkflowTaskAdded() | WorkflowTaskUpdated() if 0 <= update.task_index < len(tasks):
            tasks[update.task_index] = update.task
        case WorkflowTaskAdded():
            tasks.append(update.task)
        case _:
            pass


def _update_widget(item: WidgetItem, update: ThreadItemUpdate) -> None:
    match update:
        case WidgetRootUpdated():
            item.widget = update.widget
        case WidgetStreamingTextValueDelta():
            component = _component(item.widget, update.component_id)
            if component is not None:
                component.value = f"{getattr(component, 'value', None) or ''}{update.delta}"
        case WidgetComponentUpdated():
            _replace_component(item.widget, update.component_id, update.component)
        case _:
            pass


def _component(within: BaseModel, id_: str) -> Any:
    if getattr(within, "id", None) == id_:
        return within
    return next((found for child in _children(within) if (found := _component(child, id_)) is not None), None)


def _replace_component(within: BaseModel, id_: str, component: BaseModel) -> bool:
    children = _children(within)
    for place, child in enumerate(children):
        if getattr(child, "id", None) == id_:
            children[place] = component
            return True
    return any(_replace_component(child, id_, component) for child in children)


def _children(component: BaseModel) -> list[BaseModel]:
    children: Any = getattr(component, "children", None)
    return cast("list[BaseModel]", children) if isinstance(children, list) else []
