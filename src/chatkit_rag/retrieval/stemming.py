"""Stop words and stems, as the engine has them: the same in process and on a Qdrant server."""

import re
from typing import Any

import qdrant_edge as engine

from chatkit_rag.retrieval.languages import STEMMED, STOPPED

_CARRIERS = str.maketrans("أإآؤئىۓ", "اااوييے")
"""Arabic letters that are written with their hamza or without; a stemmer sees to that itself."""
_UMLAUT_IN_ASCII = re.compile(r"([ao])e|(?<![aeiouq])ue")


class Stemmer:
    """Stop words and stems of one language.

    Accents are folded, since readers leave them out: before words are stemmed, but behind the stop words, of which the
    engine would know no "für" and no "été" otherwise.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        none = engine.StopwordsSet(languages=set(), custom=set())
        given: dict[str, Any] = {"lowercase": True, "tokenizer": engine.TokenizerType.Whitespace}
        if language in STEMMED:
            kind = getattr(engine.SnowballLanguage, language.capitalize())
            given["stemmer"] = engine.SnowballParams(kind)
        else:
            given["language"] = "hebrew"  # has no stemmer: the engine's own way to ask for none
        stopped = language.capitalize() if language in STOPPED else ""
        stop_words = getattr(engine.Language, stopped) if stopped else none
        self._stopped = engine.Bm25(engine.Bm25Config(stopwords=stop_words, **given))
        self._folding = engine.Bm25(engine.Bm25Config(stopwords=none, ascii_folding=True, **given))

    def terms(self, word: str) -> tuple[int, ...]:
        """The term of a word's stem; none for a stop word."""
        # The engine's embedding of a single word is its way to say which terms it has.
        if not self._stopped.embed_query(word).indices:
            return ()
        if self._language == "german":
            word = _UMLAUT_IN_ASCII.sub(r"\1", word)
        elif self._language not in STEMMED:
            word = word.translate(_CARRIERS)
        return self.hashed(word)

    def hashed(self, word: str) -> tuple[int, ...]:
        """The term of a word that is no stop word, whatever the language has."""
        return tuple(self._folding.embed_query(word).indices)
