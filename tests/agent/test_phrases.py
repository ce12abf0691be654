"""What the chat itself says."""

from collections.abc import Mapping

import pytest

from chatkit_rag.agent.phrases import NOT_COVERED, READING, SEARCHING, in_language


@pytest.mark.parametrize(
    ("languages", "language"),
    [
        (["de-CH", "en"], "de"),
        (["xx", "UR-pk"], "ur"),
        (["pt_BR"], "en"),
        (["zh-Hant-TW"], "zh"),
        ([], "en"),
        (["", "-"], "en"),
    ],
)
def test_the_first_language_that_there_is_a_phrase_in_is_taken(languages: list[str], language: str):
    assert in_language(NOT_COVERED, languages) == NOT_COVERED[language]


@pytest.mark.parametrize("phrase", [NOT_COVERED, SEARCHING, READING], ids=["declining", "searching", "reading"])
def test_every_phrase_is_there_in_the_same_languages_and_says_something_else_in_each(phrase: Mapping[str, str]):
    assert phrase.keys() == NOT_COVERED.keys()
    assert len(set(phrase.values())) == len(phrase)
