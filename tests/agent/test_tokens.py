"""How many tokens a text is, about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.agent.tokens import estimated_tokens

MEASURED = [
    ("A node is a process that does one job: it reads a sensor, moves a motor, or plans a path for the robot.", 27),
    (
        "async def main() -> None:\n    node = rclpy.create_node('talker', namespace=\"arm\")\n    rclpy.spin(node)\n",
        30,
    ),
    ('{"passages":[{"number":1,"page":"Nodes","heading":"Nodes > Spin","relevance":1.0}]}', 27),
    ("Der Roboter muss sein Gleichgewicht halten, während er geht.", 13),
    ("Le robot doit garder son équilibre pendant qu'il marche.", 11),
    ("El robot debe mantener el equilibrio mientras camina.", 10),
    ("Robot yürürken dengesini korumalıdır.", 12),
    ("Robot musi utrzymać równowagę podczas chodzenia.", 13),
    ("Робот должен сохранять равновесие во время ходьбы.", 16),
    ("Το ρομπότ πρέπει να διατηρεί την ισορροπία του καθώς περπατά.", 23),
    ("يجب أن يحافظ الروبوت على توازنه أثناء المشي.", 15),
    ("روبوٹ کو چلتے ہوئے اپنا توازن برقرار رکھنا ہوتا ہے۔", 16),
    ("רובוט חייב לשמור על שיווי המשקל בזמן ההליכה.", 16),
    ("रोबोट को चलते समय अपना संतुलन बनाए रखना होता है।", 15),
    ("หุ่นยนต์ต้องรักษาสมดุลขณะเดิน", 13),
    ("机器人在行走时必须保持平衡。", 10),
    ("ロボットは歩行中にバランスを保たなければなりません。", 21),
    ("로봇은 걷는 동안 균형을 유지해야 합니다.", 16),
]
"""Texts, and how many tokens of OpenAI's `o200k_base` they are."""


@pytest.mark.parametrize(("text", "tokens"), MEASURED)
def test_it_seldom_says_too_little_in_any_script(text: str, tokens: int):
    assert 0.9 * tokens <= estimated_tokens(text) <= 2.5 * tokens


@given(st.text())
def test_it_says_no_more_than_the_bytes_of_a_text_which_no_vocabulary_exceeds(text: str):
    assert estimated_tokens(text) <= len(text.encode())
