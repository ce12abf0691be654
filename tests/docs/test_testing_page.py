"""The page on testing: its tests pass, its reader who leaves is noticed, and its table knows every capability."""

import importlib
import re
from pathlib import Path
from typing import get_args

import pytest

from asgi.serving import serving
from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.testing.chat_server_contract import CAPABILITIES
from chatkit_rag.testing.faults import FaultKind
from chatkit_rag.testing.store_contract import CAPABILITIES as STORE_CAPABILITIES

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
PAGE = (ROOT / "docs" / "guides" / "testing.md").read_text("utf-8")


@pytest.mark.usefixtures("anyio_backend")  # which makes the index, an async fixture, for a test that is not async
def test_its_tests_pass(pytester: pytest.Pytester, course_index_path: Path):
    pytester.mkdir(".chatkit-rag").joinpath("index").symlink_to(course_index_path)
    pytester.makepyfile((SNIPPETS / "test_chat.py").read_text("utf-8"))

    # The contract as a whole is run over our server elsewhere; here it is the page's fixtures that are tried.
    some = "cites or another_reader or new_thread or no_request"
    ran = pytester.runpytest_inprocess("-k", some, "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning")

    outcomes = ran.parseoutcomes()
    assert outcomes.keys() == {"passed", "deselected"}
    assert outcomes["passed"] >= 5


@pytest.mark.usefixtures("anyio_backend")
def test_its_tests_with_a_model_pass(pytester: pytest.Pytester, course_index_path: Path):
    pytester.mkdir(".chatkit-rag").joinpath("index").symlink_to(course_index_path)
    pytester.makepyfile((SNIPPETS / "test_model.py").read_text("utf-8"))

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_the_other_table_has_every_fault_and_no_other():
    names = re.findall(r"^\| (`.*?) \|", PAGE.partition("| fault |")[2], re.MULTILINE)

    assert re.findall(r"`(\w+)`", "".join(names)) == list(get_args(FaultKind))


@pytest.mark.anyio
async def test_a_reader_who_leaves_early_finds_the_question(chat: ChatApp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SNIPPETS))
    leave_early = importlib.import_module("leave_early").leave_early

    async with serving(chat) as site:
        found = await leave_early(f"http://127.0.0.1:{site.port}/")

    assert found[0] == "user_message"


@pytest.mark.parametrize(("subject", "capabilities"), [("servers", CAPABILITIES), ("stores", STORE_CAPABILITIES)])
def test_the_tables_have_every_capability_and_no_other(subject: str, capabilities: dict[str, str]):
    section = PAGE.partition(f"## A contract for {subject}")[2].partition("\n## ")[0]

    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(capabilities)


def test_its_store_passes(pytester: pytest.Pytester):
    pytester.makepyfile((SNIPPETS / "test_store.py").read_text("utf-8"))

    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning")

    outcomes = ran.parseoutcomes()
    assert outcomes.keys() == {"passed", "skipped"}
    assert outcomes["passed"] > 100
