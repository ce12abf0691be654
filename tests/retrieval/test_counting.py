"""What is counted over all passages before the vector of one can be made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.analysis import Analyser, SparseVector, saturated
from chatkit_rag.retrieval.counting import Counts, Reading, rarity
from chatkit_rag.retrieval.phrases import phrase_place, phrases

ANALYSER = Analyser()


def passage(text: str, heading: str = "Gaits") -> Passage:
    return Passage(id="1", path="/p", anchor="a", title="Page", heading_path=("Page", heading), text=text, url="/p#a")


TEXTS = st.lists(st.sampled_from(["robot", "robots", "the", "**gait**", "双足", "ROS2", "no_grad", "a-b"]), max_size=9)
PASSAGES = st.lists(st.builds(passage, TEXTS.map(" ".join), st.sampled_from(["Gaits", "ROS 2 nodes"])), max_size=6)


class TestReading:
    @given(PASSAGES, st.floats(1, 50))
    def test_vectors_are_those_of_the_analyser(self, passages: list[Passage], average_length: float):
        def vector(one: Passage) -> SparseVector:
            text = ANALYSER.terms(one.text)
            found = ANALYSER.occurrences(one, text)
            return SparseVector(tuple(found), tuple(saturated(found.values(), len(text), average_length)))

        assert list(Reading(passages, ANALYSER).vectors(average_length)) == [vector(one) for one in passages]

    @given(PASSAGES, st.integers(0, 6))
    def test_two_parts_count_to_what_the_whole_does(self, passages: list[Passage], cut: int):
        first, second = Reading(passages[:cut], ANALYSER), Reading(passages[cut:], ANALYSER)

        assert first.counts + second.counts == Reading(passages, ANALYSER).counts

    def test_a_term_and_a_word_count_once_a_passage(self):
        counts = Reading([passage("robots and a robot"), passage("the robot")], ANALYSER).counts
        [robot] = ANALYSER.terms("robot")

        assert counts.terms[robot] == counts.words["robot"] == counts.words["gaits"] == 2
        assert counts.words["robots"] == counts.words["the"] == 1

    def test_phrases_are_counted_apart(self):
        reading = Reading([passage("double support"), passage("support"), passage("a double support")], ANALYSER)
        [phrase] = phrases(ANALYSER.terms("double support"))

        assert phrase not in reading.counts.terms
        assert reading.counts.phrases[phrase_place(phrase)] == 2
        assert reading.distinct == len(set(reading.terms))


class TestCounts:
    @pytest.mark.parametrize(
        ("texts", "length"), [([], 1), (["the"], 1), (["node topic", "a node topic service action"], 3)]
    )
    def test_the_mean_length_is_one_at_least(self, texts: list[str], length: float):
        assert Reading(map(passage, texts), ANALYSER).counts.average_length == length

    def test_nothing_adds_nothing(self):
        counts = Reading([passage("a robot")], ANALYSER).counts

        assert Counts() + counts == counts


@given(st.integers(1, 10_000).flatmap(lambda passages: st.tuples(st.just(passages), st.integers(0, passages - 1))))
def test_a_term_is_rarer_the_fewer_passages_hold_it_and_never_worth_less_than_nothing(numbers: tuple[int, int]):
    passages, frequency = numbers

    assert rarity(frequency, passages) > rarity(frequency + 1, passages) > 0
