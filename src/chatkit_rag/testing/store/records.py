"""An item of every type that ChatKit has, with all that its types may hold."""

from typing import Any

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    CustomSummary,
    CustomTask,
    DurationSummary,
    EndOfTurnItem,
    EntitySource,
    FileAttachment,
    FileSource,
    FileTask,
    GeneratedImage,
    GeneratedImageItem,
    HiddenContextItem,
    ImageAttachment,
    ImageTask,
    InferenceOptions,
    SDKHiddenContextItem,
    SearchTask,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    Task,
    TaskItem,
    ThoughtTask,
    ThreadItem,
    ToolChoice,
    URLSource,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
)

from chatkit_rag.testing.store.part import T0, message

_PLACE: dict[str, Any] = {"thread_id": "thr_1", "created_at": T0}
_SOURCE = URLSource(title="Nodes", url="/module-1/nodes#why", description="…", group="Week 1")
_ENTITY = EntitySource(id="page-1", title="Page", data={"deep": {"list": [1, 2.5, None, True]}})
_TASKS: list[Task] = [
    SearchTask(title="Searched", queries=["nodes"], sources=[_SOURCE], status_indicator="complete"),
    ThoughtTask(content="Hm."),
    CustomTask(title="Custom", icon="book-open", content="text"),
    FileTask(sources=[FileSource(title="a", filename="a.pdf")]),
    ImageTask(title="An image"),
]
_CHOICE = StructuredInputMultipleChoice(
    id="q1",
    question="Which?",
    options=[StructuredInputMultipleChoiceOption(value="a")],
    multiple=True,
    answer=StructuredInputAnswer(values=["a", "\N{SNOWMAN}"]),
)
_WIDGET = {
    "type": "Card",
    "children": [
        {"type": "Text", "value": "Hello"},
        {
            "type": "Col",
            "padding": {"x": 4, "y": 3},
            "border": {"bottom": 1},
            "children": [{"type": "Text", "value": "Title", "weight": "medium"}],
        },
    ],
}

ITEMS: list[ThreadItem] = [
    message(
        "i01",
        content=[
            UserMessageTextContent(text="Zürich 👩‍🚀 \u2028 \u202e 'a' \"b\" -- ; %s ? :a"),
            UserMessageTagContent(id="tag_1", text="@nodes", data={"path": "/nodes"}, interactive=True),
        ],
        attachments=[
            FileAttachment(id="atc_1", name="a.pdf", mime_type="application/pdf", metadata={"pages": 3}),
            ImageAttachment.model_validate(
                {"id": "atc_2", "name": "b.png", "mime_type": "image/png", "preview_url": "https://x.test/b.png"}
            ),
        ],
        quoted_text="quoted",
        inference_options=InferenceOptions(tool_choice=ToolChoice(id="search"), model="m"),
    ),
    AssistantMessageItem(
        id="i02",
        content=[
            AssistantMessageContent(
                text="A node is a process.",
                annotations=[Annotation(source=_SOURCE, index=5), Annotation(source=_ENTITY)],
            ),
            AssistantMessageContent(text=""),
        ],
        **_PLACE,
    ),
    ClientToolCallItem(
        id="i03", call_id="c", name="get_selection", arguments={"a": [1, {"b": None}]}, output={"text": "x"}, **_PLACE
    ),
    ClientToolCallItem(id="i04", status="completed", call_id="c", name="n", arguments={}, **_PLACE),
    WidgetItem.model_validate({"id": "i05", "widget": _WIDGET, "copy_text": "Hello", **_PLACE}),
    GeneratedImageItem(id="i06", image=GeneratedImage(id="img", url="https://x.test/i.png"), **_PLACE),
    StructuredInputItem(
        id="i07",
        status="answered",
        inputs=[_CHOICE, StructuredInputFreeform(id="q2", question="Why?", description="In a word")],
        **_PLACE,
    ),
    TaskItem(id="i08", task=_TASKS[0], **_PLACE),
    WorkflowItem(
        id="i09",
        workflow=Workflow(type="custom", tasks=_TASKS, summary=CustomSummary(title="Done"), expanded=True),
        **_PLACE,
    ),
    WorkflowItem(
        id="i10", workflow=Workflow(type="reasoning", tasks=[], summary=DurationSummary(duration=3)), **_PLACE
    ),
    EndOfTurnItem(id="i11", **_PLACE),
    HiddenContextItem(id="i12", content={"why": ["hidden", 1]}, **_PLACE),
    HiddenContextItem(id="i13", content="text", **_PLACE),
    SDKHiddenContextItem(id="i14", content="text", **_PLACE),
]
