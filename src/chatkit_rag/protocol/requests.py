"""Bytes from a client to a request: parsed once, held to limits, and refused with a sentence that helps."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import orjson
from chatkit.types import (
    AttachmentCreateParams,
    AttachmentsCreateReq,
    ChatKitReq,
    ItemsFeedbackReq,
    NonStreamingReq,
    StreamingReq,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsSyncCustomActionReq,
    ThreadsUpdateReq,
    UserMessageInput,
)
from pydantic import TypeAdapter, ValidationError

from chatkit_rag.context import PageContext, Principal
from chatkit_rag.errors import Forbidden, InvalidRequest, NotJson, UnknownOperation

# Built once: building it takes a thousand times as long as using it.
_PARSER: TypeAdapter[ChatKitReq] = TypeAdapter(ChatKitReq)

_OPERATIONS: frozenset[str] = frozenset(
    model.model_fields["type"].default for union in (StreamingReq, NonStreamingReq) for model in get_args(union)
)

_IDS = ("thread_id", "item_id", "after", "attachment_id")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(?:;[\w .=+-]{0,200})?")
_PAGE_FIELDS = ("url", "path", "title", "description", "heading", "version", "locale")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a request may hold."""

    message_characters: int = 32_000
    selection_characters: int = 8_000
    """Of a text that was selected on a page; what is longer is cut."""
    depth: int = 32
    metadata_bytes: int = 8 * 1024
    metadata_keys: int = 50
    id_characters: int = 255
    title_characters: int = 200
    feedback_items: int = 50
    tool_output_bytes: int = 64 * 1024
    attachments: int = 10
    attachment_bytes: int = 10 * 1024 * 1024
    page_field_characters: int = 1_000
    page_headings: int = 50
    profile_fields: tuple[str, ...] = ("name", "language", "level", "background", "goals")
    """What a client may say of its reader: nothing that names them elsewhere, such as an address."""
    profile_characters: int = 200


def read_object(body: bytes | str) -> dict[str, Any]:
    """The JSON object that `body` holds.

    Raises:
        NotJson: it is not JSON, or not an object.
    """
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise NotJson("the body is not JSON", details={"position": exc.pos}) from exc
    if not isinstance(document, dict):
        raise NotJson("the body is not a JSON object")
    return cast("dict[str, Any]", document)


def read_request(body: bytes | str, limits: RequestLimits) -> ChatKitReq:
    """The request that `body` holds.

    Raises:
        NotJson: it is not JSON, or not an object.
        UnknownOperation: its `type` is not one of this server's operations.
        InvalidRequest: a field is missing, of the wrong type, empty or over its limit.
    """
    document = read_object(body)
    _check_values(document, limits)
    _merge_metadata(document)
    operation = document.get("type")
    if not isinstance(operation, str) or operation not in _OPERATIONS:
        raise UnknownOperation(
            "the request's `type` is not an operation of this server", details={"operations": sorted(_OPERATIONS)}
        )
    try:
        request = _PARSER.validate_python(document)
    except ValidationError as exc:
        problems = [
            {"field": ".".join(str(part) for part in error["loc"][1:]), "problem": error["msg"]}
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise InvalidRequest("the request does not fit its operation", details={"problems": problems[:20]}) from exc
    _check_request(request, limits)
    return request


def page_of(metadata: Mapping[str, Any], limits: RequestLimits) -> PageContext | None:
    """The page that the client says the reader has open: known fields only, texts only, cut to their limits."""
    page: Any = metadata.get("pageContext")
    if not isinstance(page, dict):
        return None
    fields = cast("dict[str, Any]", page)
    texts = {name: _text(fields.get(name), limits) for name in _PAGE_FIELDS}
    sent: Any = fields.get("headings")
    headings = cast("list[Any]", sent)[: limits.page_headings] if isinstance(sent, list) else []
    return PageContext(**texts, headings=tuple(_text(heading, limits) for heading in headings))


def profile_of(metadata: Mapping[str, Any], limits: RequestLimits) -> dict[str, str]:
    """What the client says of the reader: the allowed fields only, texts only, cut to their limit."""
    said: Any = metadata.get("userInfo")
    if not isinstance(said, dict):
        return {}
    fields = cast("dict[str, Any]", said)
    known = {name: fields.get(name) for name in limits.profile_fields}
    return {name: value[: limits.profile_characters] for name, value in known.items() if isinstance(value, str)}


def site_of(asked: Any, principal: Principal) -> str | None:
    """The site that a request is about; None for whichever there are.

    Raises:
        InvalidRequest: it names none, and the reader may use several but not all; or it is no name.
        Forbidden: it names one that the reader may not use.
    """
    if asked is None:
        if principal.sites is None or len(principal.sites) == 1:
            return principal.sites[0] if principal.sites else None
        raise InvalidRequest("say which site you ask about", details={"field": "site", "sites": principal.sites})
    if not isinstance(asked, str) or "\0" in asked:
        raise InvalidRequest("`site` must be a site's name", details={"field": "site"})
    if principal.sites is not None and asked not in principal.sites:
        raise Forbidden("this site is not open to you", details={"site": asked})
    return asked


def _merge_metadata(document: dict[str, Any]) -> None:
    """Takes the metadata of a message (`params.input.metadata`) up to the request's own, which goes before it."""
    sent: Any = document.get("params")
    message: Any = cast("dict[str, Any]", sent).get("input") if isinstance(sent, dict) else None
    within: Any = cast("dict[str, Any]", message).get("metadata") if isinstance(message, dict) else None
    above: Any = document.get("metadata", {})
    if isinstance(within, dict) and isinstance(above, dict):
        document["metadata"] = {**within, **above}


def _text(value: Any, limits: RequestLimits) -> str:
    return value[: limits.page_field_characters] if isinstance(value, str) else ""


def _check_values(document: dict[str, Any], limits: RequestLimits) -> None:
    """Refuses what some store or model would choke on: texts with NUL, and structures nested too deeply."""
    level: list[Any] = [document]
    for _ in range(limits.depth):
        level = [value for container in level for value in _values(container)]
        if any(isinstance(value, str) and "\0" in value for value in level):
            raise InvalidRequest("the request holds a NUL character")
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return
    raise InvalidRequest("the request is nested too deeply", details={"limit": limits.depth})


def _values(container: Any) -> Iterator[Any]:
    if isinstance(container, dict):
        yield from container.keys()
        yield from container.values()
    else:
        yield from container


def _check_request(request: ChatKitReq, limits: RequestLimits) -> None:
    metadata = request.metadata
    _require(len(metadata) <= limits.metadata_keys, "the metadata has too many keys", limits.metadata_keys)
    _require(len(orjson.dumps(metadata)) <= limits.metadata_bytes, "the metadata is too large", limits.metadata_bytes)
    params: Any = request.params
    for name in _IDS:
        _check_id(getattr(params, name, None), limits)
    match request:
        case ThreadsCreateReq() | ThreadsAddUserMessageReq():
            _check_message(request.params.input, limits)
        case ThreadsUpdateReq():
            length = len(request.params.title.strip())
            _require(1 <= length <= limits.title_characters, "the title is empty or too long", limits.title_characters)
        case ItemsFeedbackReq():
            number = len(request.params.item_ids)
            _require(1 <= number <= limits.feedback_items, "name some items, not too many", limits.feedback_items)
        case ThreadsAddClientToolOutputReq():
            size = len(orjson.dumps(request.params.result))
            _require(size <= limits.tool_output_bytes, "the result is too large", limits.tool_output_bytes)
        case ThreadsAddStructuredInputReq():
            size = len(orjson.dumps(request.params.input.model_dump()))
            _require(size <= limits.message_characters, "the answers are too large", limits.message_characters)
        case ThreadsCustomActionReq() | ThreadsSyncCustomActionReq():
            # ChatKit's class takes an action without a type, which is then a type variable and no text.
            type_: Any = request.params.action.type
            well_named = isinstance(type_, str) and 1 <= len(type_) <= limits.id_characters
            _require(well_named, "the action needs a type", limits.id_characters)
        case AttachmentsCreateReq():
            _check_attachment(request.params, limits)
        case _:
            pass


def _require(holds: bool, message: str, limit: int) -> None:  # noqa: FBT001 - it reads as the condition that it is
    if not holds:
        raise InvalidRequest(message, details={"limit": limit})


def _check_attachment(attachment: AttachmentCreateParams, limits: RequestLimits) -> None:
    _require(0 < attachment.size <= limits.attachment_bytes, "the file is empty or too large", limits.attachment_bytes)
    _require(1 <= len(attachment.name) <= limits.id_characters, "the file needs a name", limits.id_characters)
    if not _MEDIA_TYPE.fullmatch(attachment.mime_type):
        raise InvalidRequest("the file needs a media type", details={"field": "mime_type"})


def _check_id(id_: str | None, limits: RequestLimits) -> None:
    if id_ is not None:
        _require(1 <= len(id_) <= limits.id_characters, "an id has an impossible length", limits.id_characters)


def _check_message(message: UserMessageInput, limits: RequestLimits) -> None:
    texts = [part.text for part in message.content]
    if not message.attachments and not any(part.text.strip() for part in message.content):
        raise InvalidRequest("the message is empty: write a question")
    longest = limits.message_characters
    _require(sum(map(len, texts)) <= longest, f"the message is too long: {longest} characters at most", longest)
    _require(len(message.attachments) <= limits.attachments, "the message has too many files", limits.attachments)
    for attachment_id in message.attachments:
        _check_id(attachment_id, limits)


def selection_of(message: UserMessageInput, limits: RequestLimits) -> str | None:
    """The text that the reader has selected; where it is long, its beginning, and a sign that there is more."""
    text = message.quoted_text
    return f"{text[: limits.selection_characters]} […]" if text and len(text) > limits.selection_characters else text
