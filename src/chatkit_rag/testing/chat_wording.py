"""An answer in the words of Chat Completions. Does no IO."""

from dataclasses import dataclass
from typing import Any

import orjson

from chatkit_rag.testing.faults import error_body
from chatkit_rag.testing.wording import BROKEN, Ending, ToolCall, content_of

_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@dataclass(slots=True)
class ChatWording:
    """An answer of the Chat Completions interface.

    It has no word for an answer that failed: an error stands where the answer would.
    """

    said: str | ToolCall
    number: int
    """Of the request: ids are made of it."""
    request: dict[str, Any]
    content: str = ""

    def __post_init__(self) -> None:
        self.content = content_of(self.said)

    def opening(self) -> bytes:
        """The role, with nothing said yet; with a tool call, its name."""
        if isinstance(self.said, ToolCall):
            return self._chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **self._call("")}]})
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def delta(self, piece: str) -> bytes:
        """A piece of the text, or of the arguments."""
        if isinstance(self.said, ToolCall):
            return self._chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        return self._chunk({"content": piece})

    def ending(self, how: Ending) -> bytes:
        """Why it ends, the usage where that was asked for, and `[DONE]`."""
        if how == "failed":
            return self.error()
        frames = [self._chunk({}, self._reason(how))]
        if self._counts:
            frames.append(_data(self._object("chat.completion.chunk", [], usage=_USAGE)))
        return b"".join([*frames, b"data: [DONE]\n\n"])

    def complete_again(self) -> bytes:
        """All of the ending."""
        return self.ending("completed")

    def error(self) -> bytes:
        """An error where a chunk would be."""
        return _data(error_body(BROKEN))

    def whole(self, how: Ending) -> dict[str, Any]:
        """The completion."""
        if how == "failed":
            return error_body(BROKEN)
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": None, "annotations": []}
        if isinstance(self.said, ToolCall):
            message |= {"content": None, "tool_calls": [self._call(self.content)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason(how)}
        return self._object("chat.completion", [choice], usage=_USAGE)

    @property
    def _counts(self) -> bool:
        options: dict[str, Any] = self.request.get("stream_options") or {}
        return bool(options.get("include_usage"))

    def _reason(self, how: Ending) -> str:
        if how == "incomplete":
            return "length"
        return "tool_calls" if isinstance(self.said, ToolCall) else "stop"

    def _call(self, arguments: str) -> dict[str, Any]:
        name = self.said.name if isinstance(self.said, ToolCall) else ""
        return {
            "id": f"call_{self.number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        # Where usage is asked for, every chunk has the field; only the last one's holds something.
        usage = {"usage": None} if self._counts else {}
        return _data(self._object("chat.completion.chunk", [choice], **usage))

    def _object(self, kind: str, choices: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        known = {"id": f"chatcmpl-{self.number}", "object": kind, "created": 0}
        return {**known, "model": self.request.get("model", "fake"), "choices": choices, **fields}


def _data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
