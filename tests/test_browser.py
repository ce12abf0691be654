"""The chat page in a real browser, over a real server."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from chatkit_rag.testing import FakeModelServer
from processes import Serving, serving

DOCS = Path(__file__).parent.parent / "examples" / "course" / "docs"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]

QUESTIONS = {
    "What is Physical AI?": "What is Physical AI?",
    "How do I create a ROS2 node?": "Create a ROS 2 node in Python",
    "How do I create a PyTorch tensor?": "How to create a tensor",
}
"""What is asked, and the heading that answers it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A sandbox needs rights that a container's root does not have; the pages are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Serving]:
    with serving(str(DOCS), cwd=tmp_path) as running:
        yield running


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator('article[data-role="assistant"]').last).to_have_attribute("data-state", "done", timeout=15_000)


def test_three_questions_are_answered_and_every_citation_opens_at_its_heading(browser: Browser, running: Serving):
    page = browser.new_page()
    complaints: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda message: note(message, complaints))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: foreign.append(request.url) if running.address not in request.url else None)
    page.goto(running.address)

    for question, heading in QUESTIONS.items():
        ask(page, question)
        sources = page.locator('article[data-role="assistant"]').last.locator("ol.sources a")
        expect(sources.first).to_contain_text(heading)
        links = [link.get_attribute("href") or "" for link in sources.all()]
        assert links
        for link in links:
            opens_at_its_heading(browser, running.address + link)

    suggested = page.locator("ul.follow-ups button").first
    asked = suggested.text_content()
    suggested.click()
    expect(page.locator('article[data-role="user"]').last).to_have_text(asked or "")
    expect(page.locator('article[data-role="assistant"]').last).to_have_attribute("data-state", "done", timeout=15_000)
    assert page.locator('article[data-role="assistant"]').last.locator("ol.sources a").count()

    assert not complaints
    assert not foreign
    page.close()


def test_an_answer_of_a_language_model_grows_while_it_is_written(browser: Browser, tmp_path: Path):
    page = browser.new_page()
    with FakeModelServer(answer="A robot that senses, decides and acts [1]. " * 5, pause=0.02) as model:
        env = {"OPENAI_API_KEY": "a key for a loopback server", "OPENAI_BASE_URL": model.base_url}
        with serving(str(DOCS), cwd=tmp_path, env=env) as running:
            page.goto(running.address)
            page.evaluate(
                """() => {
                    window.lengths = new Set();
                    new MutationObserver(() => {
                        const answer = document.querySelector('article[data-role="assistant"]');
                        if (answer) window.lengths.add(answer.textContent.length);
                    }).observe(document.body, {subtree: true, childList: true, characterData: true});
                }"""
            )

            ask(page, "What is Physical AI?")

            assert page.evaluate("window.lengths.size") > 5
            sources = page.locator('article[data-role="assistant"] ol.sources a')
            expect(sources).to_have_count(1)
            expect(sources).to_contain_text("What is Physical AI?")
    page.close()


def test_a_stopped_answer_keeps_its_text_and_says_so_also_after_a_reload(browser: Browser, tmp_path: Path):
    page = browser.new_page()
    with FakeModelServer(answer="A robot that senses, decides and acts [1]. " * 50, pause=0.02) as model:
        env = {"OPENAI_API_KEY": "a key for a loopback server", "OPENAI_BASE_URL": model.base_url}
        with serving(str(DOCS), cwd=tmp_path, env=env) as running:
            page.goto(running.address)
            page.get_by_label("Your question").fill("What is Physical AI?")
            page.get_by_role("button", name="Ask", exact=True).click()
            answer = page.locator('article[data-role="assistant"]')
            expect(answer).to_contain_text("senses", timeout=15_000)

            page.get_by_role("button", name="Stop").click()
            expect(answer).to_have_attribute("data-state", "stopped")
            page.reload()

            expect(answer).to_contain_text("A robot that senses")
            expect(answer).to_contain_text("Stopped")
            expect(answer).to_have_attribute("data-state", "stopped")


def test_the_conversation_is_there_after_a_restart(browser: Browser, tmp_path: Path):
    page = browser.new_page()
    with serving(str(DOCS), cwd=tmp_path) as first:
        page.goto(first.address)
        ask(page, "How do I create a ROS2 node?")
        query = page.url.partition("?")[2]
    with serving(cwd=tmp_path) as second:
        page.goto(f"{second.address}/?{query}")

        expect(page.locator('article[data-role="user"]')).to_contain_text("How do I create a ROS2 node?")
        expect(page.locator('article[data-role="assistant"] ol.sources a').first).to_contain_text("Create a ROS 2 node")
    page.close()


def test_a_question_that_the_course_does_not_answer_is_declined_without_sources(browser: Browser, running: Serving):
    page = browser.new_page()
    page.goto(running.address)

    ask(page, "Who won the world cup in 2018?")

    answer = page.locator('article[data-role="assistant"]').last
    expect(answer).to_contain_text("does not cover this")
    assert answer.locator("a").count() == 0
    page.close()


def opens_at_its_heading(browser: Browser, url: str) -> None:
    target = browser.new_page()
    response = target.goto(url)
    assert response is not None
    assert response.ok, url
    if "#" in url:
        heading = target.locator(f'[id="{url.partition("#")[2]}"]')
        expect(heading).to_have_count(1)
        expect(heading).to_be_in_viewport()
    target.close()


def note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in ("error", "warning"):
        complaints.append(message.text)


def test_a_quiz_is_answered_on_the_page_and_is_there_after_a_reload(browser: Browser, running: Serving):
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: note(message, complaints))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{running.address}/?page=/module-1/week-1/nodes")
    page.get_by_label("Your question").fill("quiz me on this page")
    page.get_by_role("button", name="Ask", exact=True).click()
    form = page.locator('article[data-role="form"]')
    expect(form.locator("fieldset").first).to_be_visible(timeout=15_000)
    for fieldset in form.locator("fieldset").all():
        fieldset.locator("label").first.click()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/quiz.png", full_page=True)

    page.get_by_role("button", name="Check").click()
    answer = page.locator('article[data-role="assistant"]').last
    expect(answer).to_have_attribute("data-state", "done", timeout=15_000)
    expect(answer.locator("ol.sources a").first).to_have_attribute("href", re.compile("/module-1/week-1/nodes#"))
    expect(page.get_by_role("button", name="Check")).to_have_count(0)
    page.reload()

    expect(form.locator("fieldset:disabled").first).to_be_visible()
    expect(form.locator("input:checked").first).to_be_attached()
    assert not complaints
    page.close()
