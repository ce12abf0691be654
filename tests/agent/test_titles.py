"""What a thread is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.agent.titles import LONGEST, title_of


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("how do i create a ros2 node?", "How do i create a ros2 node?"),
        ("Hi! How do I create a node?  Thanks.", "How do I create a node?"),
        ("## My *robot* falls over\n\nWhy?", "My robot falls over Why?"),
        ("Why does this fail?\n```python\nraise ValueError\n```", "Why does this fail?"),
        ("```python\nspin()\n```", "Python spin()"),
        ("what is https://www.example.org/a/b?c for", "What is example.org for"),
        (
            "train loss keeps going down but the loss on new pictures goes up, why?",
            "Train loss keeps going down but the loss on new…",
        ),
        ("\u202egnp.exe", "Gnp.exe"),
        ("机器人在行走时必须保持平衡" * 5, "机器人在行走时必须保持平衡" * 3 + "机器人在行走时必须保…"),
        ("🤖🦾", "🤖🦾"),
        (" \n ", ""),
    ],
)
def test_it_is_what_was_asked_first_in_a_line(question: str, title: str):
    assert title_of(question) == title


@given(st.text())
def test_it_is_never_longer_than_its_bound_and_never_more_than_a_line(question: str):
    title = title_of(question)

    assert len(title) <= LONGEST
    assert "\n" not in title
