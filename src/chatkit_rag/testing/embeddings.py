"""Embeddings without a model: hashed words, so that texts that share words are near each other. Does no IO."""

import base64
import hashlib
import math
import re
import struct
from typing import Any, cast

_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> list[float]:
    """A vector of length 1: each word of `text` counts at the place that its hash names.

    The same text has the same vector everywhere. The cosine of two vectors grows with the words that the texts have in
    common; without any it is 0, unless two words happen to share a place.
    """
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()) or [text]:
        digest = hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest()
        vector[int.from_bytes(digest, "big") % dimensions] += 1.0
    length = math.hypot(*vector)
    return [value / length for value in vector]


def embeddings(request: dict[str, Any], dimensions: int) -> dict[str, Any] | None:
    """The answer to a request, of `dimensions` where it names none; None where its input is not text."""
    texts = _texts(request.get("input"))
    if not texts:
        return None
    size = request.get("dimensions") or dimensions
    coded = request.get("encoding_format") == "base64"
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        vector = embed(text, size)
        packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if coded else vector
        data.append({"object": "embedding", "index": index, "embedding": packed})
    tokens = sum(len(_WORD.findall(text)) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.get("model", "fake"), "usage": usage}


def _texts(given: Any) -> list[str]:
    """The texts to embed; none where there is anything else, or an empty text, which OpenAI refuses too."""
    values = cast("list[Any]", given) if isinstance(given, list) else [given]
    texts = [value for value in values if isinstance(value, str) and value]
    return texts if len(texts) == len(values) else []
