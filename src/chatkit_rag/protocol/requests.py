"""Bytes from a client to a request: parsed once, held to limits, and refused with a sentence that helps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
from chatkit.types import (
    ChatKitReq,
    ItemsListReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsGetByIdReq,
    ThreadsListReq,
    ThreadsRetryAfterItemReq,
    UserMessageInput,
)
from pydantic import TypeAdapter, ValidationError

from chatkit_rag.context import PageContext, Principal
from chatkit_rag.errors import Forbidden, InvalidRequest, NotJson, UnknownOperation

# Built once: building it takes a thousand times as long as using it.
_PARSER: TypeAdapter[ChatKitReq] = TypeAdapter(ChatKitReq)

SUPPORTED = (
    ThreadsCreateReq,
    ThreadsAddUserMessageReq,
    ThreadsRetryAfterItemReq,
    ThreadsGetByIdReq,
    ThreadsListReq,
    ItemsListReq,
)
_OPERATIONS = {model.model_fields["type"].default for model in SUPPORTED}

_PAGE_FIELDS = ("url", "path", "title", "description", "heading", "version", "locale")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a request may hold."""

    message_characters: int = 32_000
    depth: int = 32
    metadata_bytes: int = 8 * 1024
    metadata_keys: int = 50
    id_characters: int = 255
    page_field_characters: int = 1_000
    page_headings: int = 50


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
    if len(request.metadata) > limits.metadata_keys or len(orjson.dumps(request.metadata)) > limits.metadata_bytes:
        raise InvalidRequest(
            "the request's metadata is too large",
            details={"limit_bytes": limits.metadata_bytes, "limit_keys": limits.metadata_keys},
        )
    match request:
        case ThreadsCreateReq():
            _check_message(request.params.input, limits)
        case ThreadsAddUserMessageReq():
            _check_id(request.params.thread_id, limits)
            _check_message(request.params.input, limits)
        case ThreadsGetByIdReq():
            _check_id(request.params.thread_id, limits)
        case ThreadsRetryAfterItemReq():
            _check_id(request.params.thread_id, limits)
            _check_id(request.params.item_id, limits)
        case ItemsListReq():
            _check_id(request.params.thread_id, limits)
            _check_id(request.params.after, limits)
        case ThreadsListReq():
            _check_id(request.params.after, limits)
        case _:
            pass


def _check_id(id_: str | None, limits: RequestLimits) -> None:
    if id_ is not None and not 1 <= len(id_) <= limits.id_characters:
        raise InvalidRequest("an id has an impossible length", details={"limit": limits.id_characters})


def _check_message(message: UserMessageInput, limits: RequestLimits) -> None:
    texts = [part.text for part in message.content] + [message.quoted_text or ""]
    if not any(part.text.strip() for part in message.content):
        raise InvalidRequest("the message is empty: write a question")
    if (length := sum(map(len, texts))) > limits.message_characters:
        raise InvalidRequest("the message is too long", details={"limit": limits.message_characters, "length": length})
    if message.attachments:
        raise InvalidRequest("this server takes no attachments", details={"field": "params.input.attachments"})
