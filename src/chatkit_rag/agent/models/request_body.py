"""What the Responses interface is asked: the request that the Agents SDK's own model would make. Does no IO."""

from collections.abc import Iterable
from typing import Any, cast

from agents import AgentOutputSchemaBase, Handoff, ItemHelpers, ModelSettings, Tool, TResponseInputItem
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.openai_responses import Converter
from openai import Omit
from openai.types.responses.response_prompt_param import ResponsePromptParam


def request_body(
    name: str,
    system_instructions: str | None,
    input: str | list[TResponseInputItem],
    settings: ModelSettings,
    tools: list[Tool],
    output_schema: AgentOutputSchemaBase | None = None,
    handoffs: Iterable[Handoff] = (),
    *,
    previous_response_id: str | None = None,
    conversation_id: str | None = None,
    prompt: ResponsePromptParam | None = None,
) -> dict[str, Any]:
    """The request, field for field the one that `agents.OpenAIResponsesModel` makes of the same arguments.

    Raises:
        UserError: tools and settings do not fit together.
    """
    computer_model = Converter.resolve_computer_tool_model(request_model=name, tools=tools)
    choice: dict[str, Any] = {"model": computer_model, "tool_choice": settings.tool_choice}
    converted = Converter.convert_tools(
        tools, list(handoffs), allow_opaque_tool_search_surface=prompt is not None, **choice
    )
    tool_choice = Converter.convert_tool_choice(tools=tools, handoffs=list(handoffs), **choice)
    text: Any = Converter.get_response_format(output_schema)
    if settings.verbosity is not None:
        form: dict[str, Any] = {} if isinstance(text, Omit) else text
        text = {**form, "verbosity": settings.verbosity}
    include: set[str] = {*converted.includes, *(settings.response_include or ())}
    if settings.top_logprobs is not None:
        include.add("message.output_text.logprobs")
    tools_elsewhere = prompt is not None and not converted.tools
    body: dict[str, Any] = {
        "model": name,
        "instructions": system_instructions,
        "input": _sendable(ItemHelpers.input_to_new_input_list(input)),
        "include": list(include),
        "tools": None if tools_elsewhere else converted.tools,
        "tool_choice": None if tools_elsewhere and isinstance(tool_choice, dict) else tool_choice,
        "parallel_tool_calls": settings.parallel_tool_calls if prompt or converted.tools else None,
        "text": text,
        "prompt": prompt,
        "previous_response_id": previous_response_id,
        "conversation": conversation_id,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_logprobs": settings.top_logprobs,
        "truncation": settings.truncation,
        "max_output_tokens": settings.max_tokens,
        "reasoning": settings.reasoning,
        "store": settings.store,
        "metadata": settings.metadata,
        "prompt_cache_retention": settings.prompt_cache_retention,
        "prompt_cache_options": settings.prompt_cache_options,
        "context_management": settings.context_management,
        "stream": True,
    }
    given = {name: value for name, value in body.items() if value is not None and not isinstance(value, Omit)}
    return {**given, **(settings.extra_args or {}), **cast("dict[str, Any]", settings.extra_body or {})}


def _sendable(items: list[TResponseInputItem]) -> list[Any]:
    """The items without what other models and the SDK noted on them for themselves."""
    return [_without_notes(item) for item in items if not (_is(item, "reasoning") and item.get("provider_data"))]


def _is(item: Any, type_: str) -> bool:
    return isinstance(item, dict) and cast("dict[str, Any]", item).get("type") == type_


def _without_notes(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    known = cast("dict[str, Any]", item)
    return {
        key: value
        for key, value in known.items()
        if key != "provider_data" and not (key == "id" and value == FAKE_RESPONSES_ID)
    }
