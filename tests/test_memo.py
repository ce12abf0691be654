"""What a function has said before."""

from chatkit_rag.memo import Memo


def test_asks_once():
    asked: list[str] = []
    memo = Memo[str, int](lambda word: len(asked.append(word) or word), most=9)

    assert [memo["a"], memo["bb"], memo["a"]] == [1, 2, 1]
    assert asked == ["a", "bb"]


def test_is_emptied_when_it_is_full():
    memo = Memo[str, int](len, most=2)

    assert [memo[word] for word in ("a", "bb", "ccc")] == [1, 2, 3]
    assert memo == {"ccc": 3}


def test_keeps_only_what_it_is_told_to():
    memo = Memo[str, int](len, most=9, keeps=lambda word: len(word) < 3)

    assert [memo[word] for word in ("a", "bb", "ccc")] == [1, 2, 3]
    assert memo == {"a": 1, "bb": 2}
