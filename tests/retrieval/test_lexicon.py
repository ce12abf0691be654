"""What the words of one corpus are worth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.analysis import Analyser, question_vector
from chatkit_rag.retrieval.counting import Reading
from chatkit_rag.retrieval.lexicon import Lexicon
from chatkit_rag.retrieval.phrases import phrases
from chatkit_rag.retrieval.segmentation import words

ANALYSER = Analyser()

TEXTS = [
    "A robot learns to walk by reinforcement learning.",
    "A quaternion describes an orientation without gimbal lock.",
    "The publisher sends messages to a topic; a subscriber receives them.",
    "Use the CPU for planning, and a robot for walking.",
    "The robot needs a battery. Inverse kinematics finds the angles of its joints.",
]


def passages(texts: list[str]) -> list[Passage]:
    return [
        Passage(id=f"{number}", path="/page", anchor="", title="Page", heading_path=("Page",), text=text, url="/page")
        for number, text in enumerate(texts)
    ]


def lexicon(texts: list[str] = TEXTS) -> Lexicon:
    made = passages(texts)
    counts = Reading(made, ANALYSER).counts
    return Lexicon(passages=counts.passages, frequencies=counts.terms, phrases=counts.phrases, words=counts.words)


def corrected(question: str) -> str:
    return corrected_by(lexicon(), question)


def corrected_by(known: Lexicon, question: str) -> str:
    return " ".join(known.corrected(question, ANALYSER))


def terms(text: str) -> list[int]:
    return ANALYSER.terms(text)


class TestTypos:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("robto", "robot"),  # swapped
            ("robat", "robot"),  # changed
            ("robott", "robot"),  # added
            ("rbot", "robot"),  # left out
            ("quaternoin", "quaternion"),
            ("quatrnoin", "quaternion"),  # two slips in a long word
            ("subscirber", "subscriber"),
            ("kinamatics", "kinematics"),
            ("wlak", "walk"),
        ],
    )
    def test_a_slip_is_mended(self, written: str, meant: str):
        assert corrected(f"what is a {written}") == f"what is a {meant}"

    @pytest.mark.parametrize(
        "word",
        [
            "robot",
            "robots",  # another form of a word that is there
            "walked",
            "gpu",  # not cpu: a short word is another word
            "gobot",  # the first letter stands
            "rabat",  # two slips in a short word
            "quetarneom",  # three in a long one
            "xylophone",
            "10",
            "the",
            "qz",
        ],
    )
    def test_what_may_be_meant_is_left_alone(self, word: str):
        assert corrected(word) == word

    @pytest.mark.parametrize(("written", "meant"), [("cup", "cpu"), ("us", "us"), ("cpuu", "cpu")])
    def test_a_word_of_three_letters_is_mended_where_letters_are_swapped_or_missing(self, written: str, meant: str):
        assert corrected(written) == meant

    def test_the_nearest_wins_then_the_commonest_then_the_first_by_alphabet(self):
        nearest = lexicon(["planner", "planners planners", "manners"])
        commonest = lexicon(["motoa", "moton", "moton"])
        first = lexicon(["motor", "moton"])

        assert corrected_by(nearest, "plannar") == "planner"
        assert corrected_by(commonest, "motox") == "moton"
        assert corrected_by(first, "motox") == "moton"

    def test_of_a_heap_of_unknown_words_only_the_first_few_are_mended(self):
        mended = corrected(" ".join(["robto"] * 50)).split()

        assert mended == ["robot"] * 20 + ["robto"] * 30
        assert corrected(" ".join(["robot"] * 50) + " quaternoin").endswith("robot quaternion")

    def test_an_empty_corpus_mends_nothing(self):
        assert corrected_by(lexicon([]), "what is a robto") == "what is a robto"

    @given(st.text(max_size=60))
    def test_no_question_breaks_it_and_no_word_is_lost(self, question: str):
        # Names of code bring words of their own behind them.
        assert len(corrected(question).split()) >= len(words(question))

    @given(st.lists(st.sampled_from(" ".join(TEXTS).lower().replace(".", "").replace(";", "").split()), max_size=8))
    def test_the_corpuss_own_words_are_never_changed(self, said: list[str]):
        question = " ".join(said).replace(",", "")

        assert corrected(question) == question


class TestRarity:
    def test_a_rarer_term_weighs_more_and_an_unknown_one_the_most(self):
        [robot], [battery], [unknown] = terms("robot"), terms("battery"), terms("zeppelin")
        counted = lexicon()

        assert 0 < counted.rarity(robot) < counted.rarity(battery) < counted.rarity(unknown)

    def test_it_is_bm25s(self):
        [robot] = terms("robot")

        assert lexicon().rarity(robot) == pytest.approx(math.log(1 + (5 - 3 + 0.5) / (3 + 0.5)))

    def test_a_term_of_every_passage_still_weighs_something(self):
        [page] = terms("page")

        assert lexicon().frequencies[page] == len(TEXTS)
        assert lexicon().rarity(page) > 0

    def test_a_phrase_is_as_rare_as_the_passages_that_hold_it_are_few(self):
        [held], [unknown] = phrases(terms("reinforcement learning")), phrases(terms("learning reinforcement"))
        counted = lexicon()

        assert counted.rarity(held) == pytest.approx(math.log(1 + (5 - 1 + 0.5) / (1 + 0.5)))
        assert counted.rarity(unknown) == counted.rarity(terms("zeppelin")[0])

    def test_a_question_brings_the_rarities_of_its_terms_and_phrases(self):
        counted = lexicon()
        plain = question_vector(terms("robot battery"))

        weighed = counted.weighed(plain)

        assert weighed.indices == plain.indices
        assert weighed.values == tuple(
            value * counted.rarity(term) for term, value in zip(plain.indices, plain.values, strict=True)
        )

    def test_a_weight_is_the_sum_over_distinct_terms(self):
        [robot], [battery] = terms("robot"), terms("battery")
        counted = lexicon()

        assert counted.weight([robot, battery, robot]) == pytest.approx(counted.rarity(robot) + counted.rarity(battery))
        assert counted.weight([]) == 0


class TestAgreement:
    def test_a_heading_that_says_what_is_asked_and_nothing_else_agrees_wholly(self):
        assert lexicon().agreement(terms("the robots walk"), terms("Walking robot")) == pytest.approx(1)

    def test_one_that_says_nothing_of_it_does_not(self):
        assert lexicon().agreement(terms("robot"), terms("battery")) == 0
        assert lexicon().agreement(terms("robot"), []) == 0
        assert lexicon().agreement([], terms("robot")) == 0

    def test_saying_more_than_is_asked_and_less_than_is_asked_both_cost(self):
        counted = lexicon()
        exact = counted.agreement(terms("robot battery"), terms("robot battery"))

        assert exact > counted.agreement(terms("robot battery"), terms("robot battery topic"))
        assert exact > counted.agreement(terms("robot battery"), terms("battery"))

    def test_a_rare_word_in_common_says_more_than_a_frequent_one(self):
        counted = lexicon()

        assert counted.agreement(terms("robot battery"), terms("battery")) > counted.agreement(
            terms("robot battery"), terms("robot")
        )

    @given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
    def test_it_is_a_share_and_the_same_both_ways(self, asked: list[int], heading: list[int]):
        counted = Lexicon(passages=9, frequencies={number: number for number in range(6)}, phrases=(), words={})

        assert -1e-9 <= counted.agreement(asked, heading) <= 1 + 1e-9
        assert counted.agreement(asked, heading) == pytest.approx(counted.agreement(heading, asked))


class TestConfidence:
    def test_one_where_a_passage_holds_all_of_it(self):
        assert lexicon().confidence(terms("robot battery"), [terms(TEXTS[4])]) == pytest.approx(1)

    def test_none_where_nothing_is_asked_or_nothing_is_held(self):
        assert lexicon().confidence([], [terms(TEXTS[0])]) == 0
        common = ["The robot walks.", "The robot runs.", "The robot stands.", "A zeppelin flies.", "Rain falls."]
        asked = terms("robot zeppelin rain falls flies")
        assert lexicon(common).confidence(asked, [terms(common[0])]) < 0.25
        assert lexicon().confidence(terms("zeppelin"), [terms(TEXTS[0])]) == 0
        assert lexicon([]).confidence(terms("robot"), []) == 0

    def test_terms_that_no_passage_holds_together_count_for_less(self):
        counted = lexicon()
        asked = terms("quaternion battery")

        apart = counted.confidence(asked, [terms(TEXTS[1]), terms(TEXTS[4])])

        assert counted.confidence(terms("quaternion zeppelin"), [terms(TEXTS[1])]) < apart < 1

    def test_a_name_that_no_passage_has_in_one_piece_is_not_known_by_its_parts(self):
        texts = ["The robot has ros2_control for its motors.", "A robot motor, mount and control.", "Rain falls."]
        counted = lexicon(texts)
        held = [[*terms(text), *phrases(terms(text))] for text in texts]

        def confidence(question: str) -> float:
            return counted.confidence(terms(question), held, names=counted.names(question, ANALYSER))

        assert confidence("ros2_control") == pytest.approx(1)
        assert confidence("ros2_contrl") < confidence("ros2_control")
        assert confidence("motor_mount") == confidence("motor mount") == pytest.approx(1)
        assert confidence("mount_motor") < 0.9 < confidence("mount motor")

    @given(st.lists(st.integers(0, 9)), st.lists(st.lists(st.integers(0, 9)), max_size=3))
    def test_it_is_a_share(self, asked: list[int], held: list[list[int]]):
        counted = Lexicon(passages=9, frequencies={number: number for number in range(6)}, phrases=(), words={})

        assert -1e-9 <= counted.confidence(asked, held) <= 1 + 1e-9


class TestOtherScripts:
    @pytest.mark.parametrize(
        ("asked", "understood"),
        [
            ("robot کیسے", "robot"),
            ("what is π", "what is π"),
            ("机器人 robot", "robot"),
            ("ếch robot", "ếch robot"),
            ("کیسے", ""),
        ],
    )
    def test_a_course_in_latin_letters_is_asked_by_the_words_that_it_can_have(self, asked: str, understood: str):
        known = lexicon(["A robot walks on circles of π."])

        assert known.understood(words(asked), ANALYSER) == understood.split()

    def test_a_course_in_another_script_is_asked_by_all(self):
        urdu = Analyser(language="urdu")

        assert lexicon().understood(["کیسے", "robot"], urdu) == ["کیسے", "robot"]


def test_a_word_is_counted_once_a_passage_wherever_it_stands():
    counted = lexicon(["robot robot", "Robots", "topic"])

    assert counted.words["robot"] == 1
    assert counted.words["page"] == 3
    assert counted.frequencies[terms("robot")[0]] == 2
    assert counted.passages == 3
