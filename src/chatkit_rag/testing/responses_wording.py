"""An answer in the words of the Responses interface. Does no IO."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from chatkit_rag.testing.wording import BROKEN, Ending, ToolCall, content_of


@dataclass(slots=True)
class ResponsesWording:
    """An answer of the Responses interface."""

    said: str | ToolCall
    number: int
    """Of the request: ids are made of it."""
    request: dict[str, Any]
    content: str = ""
    _pieces: list[str] = field(default_factory=list[str])
    _frames: int = 0

    def __post_init__(self) -> None:
        self.content = content_of(self.said)

    def opening(self) -> bytes:
        """`response.created` up to the empty item."""
        begun = self._response("in_progress", [])
        frames = [
            self._frame("response.created", response=begun),
            self._frame("response.in_progress", response=begun),
            self._frame("response.output_item.added", output_index=0, item=self._item("in_progress", "")),
        ]
        if isinstance(self.said, str):
            frames.append(self._frame("response.content_part.added", part=_part(""), **self._place))
        return b"".join(frames)

    def delta(self, piece: str) -> bytes:
        """A piece of the text, or of the arguments."""
        self._pieces.append(piece)
        if isinstance(self.said, ToolCall):
            return self._frame("response.function_call_arguments.delta", delta=piece, **self._call)
        return self._frame("response.output_text.delta", delta=piece, logprobs=[], **self._place)

    def ending(self, how: Ending) -> bytes:
        """The item as it is now, and the response; a response that failed holds none."""
        if how == "failed":
            return self._frame("response.failed", response=self._response(how, []))
        content = "".join(self._pieces)
        item = self._item(how, content)
        if isinstance(self.said, ToolCall):
            done = [
                self._frame(
                    "response.function_call_arguments.done", arguments=content, name=self.said.name, **self._call
                )
            ]
        else:
            done = [
                self._frame("response.output_text.done", text=content, logprobs=[], **self._place),
                self._frame("response.content_part.done", part=_part(content), **self._place),
            ]
        done.append(self._frame("response.output_item.done", output_index=0, item=item))
        return b"".join([*done, self._frame(f"response.{how}", response=self._response(how, [item]))])

    def complete_again(self) -> bytes:
        """`response.completed`."""
        item = self._item("completed", "".join(self._pieces))
        return self._frame("response.completed", response=self._response("completed", [item]))

    def error(self) -> bytes:
        """The `error` event."""
        return self._frame("error", code="server_error", message=BROKEN, param=None)

    def whole(self, how: Ending) -> dict[str, Any]:
        """The response."""
        return self._response(how, [] if how == "failed" else [self._item(how, self.content)])

    @property
    def _id(self) -> str:
        return f"fc_{self.number}" if isinstance(self.said, ToolCall) else f"msg_{self.number}"

    @property
    def _call(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": 0}

    @property
    def _place(self) -> dict[str, Any]:
        return {**self._call, "content_index": 0}

    def _item(self, status: str, content: str) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._id, "status": status}
        if isinstance(self.said, ToolCall):
            call = {"call_id": f"call_{self.number}", "name": self.said.name, "arguments": content}
            return {**item, "type": "function_call", **call}
        parts = [] if status == "in_progress" else [_part(content)]
        return {**item, "type": "message", "role": "assistant", "content": parts}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        }
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": 0,
            "model": self.request.get("model", "fake"),
            "status": status,
            "error": {"code": "server_error", "message": BROKEN} if status == "failed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if status in ("completed", "incomplete") else None,
        }

    def _frame(self, type_: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": type_, "sequence_number": self._frames, **fields})
        self._frames += 1
        return b"event: " + type_.encode() + b"\ndata: " + data + b"\n\n"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
