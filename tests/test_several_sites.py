"""Several courses in one installation, each with manners of its own, over the wire."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelSettings,
    RunContextWrapper,
    input_guardrail,
    output_guardrail,
)

from agent.openai_server import INTERFACES, model_at
from chatkit_rag.agent.instructions import INSTRUCTIONS
from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Document, Section
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.protocol.engine import TurnOptions
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.server import RagChatServer
from chatkit_rag.settings import Settings
from chatkit_rag.sites import Budget, Site
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.base import RememberedRequest
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, ToolCall
from chatkit_rag.wiring import build_server
from protocol.frames import Answer, items_of, message, question, stream

pytestmark = pytest.mark.anyio

ROBOTS, BREAD = "https://example.org/robots", "https://example.org/robots/bread"
"""The second lies below the first."""
ASKED = "How long does it rise?"
SITES = {"robots": Site(url=ROBOTS), "bread": Site(url=BREAD)}

Chat = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def pages(site: str) -> list[Document]:
    def page(path: str, title: str, text: str) -> Document:
        return Document(path=path, title=title, sections=(Section(heading_path=(title,), blocks=(text,)),))

    said = f"How long does it rise? In the course on {site} it rises for an hour."
    return [page("/rise", f"Rising in {site}", said), page("/exercises/rise", "Exercise", "Let the lift rise twice.")]


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer="An hour [1].") as model:
        yield model


def reading(app: ChatApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
def chat(model: FakeModelServer) -> Chat:
    """A chat over both courses, whose server has further options."""

    @asynccontextmanager
    async def chat(reader: Principal | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        index = MemoryIndex()
        for site, url in (("robots", ROBOTS), ("bread", BREAD)):

            async def documents(site: str = site) -> AsyncIterator[Document]:
                for page in pages(site):
                    yield page

            await ingest(documents(), index, site=site, url=url)
        kind = options.pop("kind", RagChatServer)
        options = {"store": MemoryStore(), "model": model_at(model), **options}
        app = ChatApp(kind(sources=[CourseSource(index)], **options), authenticate=lambda _: reader or Principal("ada"))
        async with (
            app.lifespan(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
        ):
            yield http

    return chat


async def ask(http: httpx.AsyncClient, thread_id: str | None = None, words: str = ASKED, **sent: Any) -> Answer:
    body = question(words, thread_id)
    options = {name: sent.pop(name) for name in ("model", "tool_choice") if name in sent}
    body["params"]["input"] = message(words, inference_options=options)
    return await stream(http, {**body, "metadata": sent})


def at(address: str, path: str = "/rise") -> dict[str, Any]:
    return {"pageContext": {"url": f"{address}{path}", "path": path}}


def cited(answer: Answer) -> str:
    return answer.annotations[0]["source"]["url"]


def told(model: FakeModelServer) -> str:
    """The instructions of the newest request."""
    return model.requests[-1]["instructions"]


class TestWhichSite:
    @pytest.mark.parametrize(
        ("sent", "site"),
        [
            (at(ROBOTS), ROBOTS),
            (at(BREAD), BREAD),
            (at(ROBOTS, ""), ROBOTS),
            ({**at(ROBOTS), "site": "bread"}, BREAD),
        ],
    )
    async def test_a_new_thread_is_about_the_one_it_names_or_the_page_is_below(
        self, chat: Chat, sent: dict[str, Any], site: str
    ):
        async with chat(sites=SITES) as http:
            assert cited(await ask(http, **sent)) == f"{site}/rise"

    async def test_it_stays_whatever_page_is_open_later(self, chat: Chat, model: FakeModelServer):
        async with chat(sites=SITES) as http:
            first = await ask(http, **at(BREAD))
            later = await ask(http, first.thread_id, **at("https://elsewhere.example"))

        assert cited(later) == f"{BREAD}/rise"
        assert "open page" not in str(model.requests[-1]["input"])

    async def test_an_address_that_only_begins_alike_is_another(self, chat: Chat):
        async with chat(sites={"robots": SITES["robots"]}, reader=Principal("ada", sites=("robots",))) as http:
            assert cited(await ask(http, **at(f"{ROBOTS}-old"))) == f"{ROBOTS}/rise"  # the only one that is open

    async def test_one_that_is_not_open_to_the_reader_is_refused(self, chat: Chat):
        async def find(name: str) -> Site | None:
            return SITES.get(name)

        async with chat(sites=find, reader=Principal("ada", sites=("bread",))) as http:
            assert cited(await ask(http, **at(ROBOTS))) == f"{BREAD}/rise"
            refused = await http.post("/", json={**question(ASKED), "metadata": {"site": "robots"}})
            assert refused.status_code == 403

    async def test_an_unknown_one_has_no_pages(self, chat: Chat, model: FakeModelServer):
        async with chat(sites=SITES) as http:
            answer = await ask(http, site="nothing")

        assert "does not cover" in answer.text
        assert model.requests == []


class TestManners:
    async def test_a_site_adds_its_own_and_nothing_changes_elsewhere(self, chat: Chat, model: FakeModelServer):
        site = Site(url=BREAD, instructions="Be warm.", answer_language="French", tutor="hint", off_topic="answer")
        async with chat(sites={**SITES, "bread": site}) as http:
            await ask(http, **at(BREAD))
            with_manners = told(model)
            await ask(http, **at(ROBOTS))

        assert with_manners.startswith(told(model))
        assert told(model).startswith(INSTRUCTIONS)
        more = with_manners.removeprefix(told(model))
        assert all(words in more for words in ("Be warm.", "Answer in French", "Lead the reader", "generally known"))

    @pytest.mark.parametrize(
        ("path", "words", "policy"),
        [
            ("/exercises/rise", ASKED, "Give hints"),
            ("/rise", "What does the lift do twice in the exercise?", "Give hints"),
            ("/rise", ASKED, ""),
        ],
    )
    async def test_at_an_exercise_its_solution_is_not_given(
        self, chat: Chat, model: FakeModelServer, path: str, words: str, policy: str
    ):
        async with chat(sites={"robots": Site(exercises={"/exercises/*": "hint"})}) as http:
            await ask(http, words=words, pageContext={"path": path})

        assert ("Never write its solution" in told(model)) is bool(policy)
        assert policy in told(model)

    async def test_what_the_course_does_not_cover_may_be_answered(self, chat: Chat, model: FakeModelServer):
        model.answer = "The course does not cover that. Paris."
        async with chat(sites={"robots": Site(off_topic="answer")}) as http:
            answer = await ask(http, words="What is the capital of France?")

        assert answer.text == model.answer

    async def test_without_a_language_model_it_is_declined_all_the_same(self, chat: Chat):
        async with chat(sites={"robots": Site(off_topic="answer", language="de")}, agent=None) as http:
            assert (await ask(http)).text  # the usual one
        index = MemoryIndex()
        server = RagChatServer(
            MemoryStore(),
            sources=[CourseSource(index)],
            model="extractive",
            sites={"robots": Site(off_topic="answer", language="de")},
        )
        app = ChatApp(server, authenticate=lambda _: Principal("ada"))
        async with (
            app.lifespan(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
        ):
            answer = await ask(http, words="What is the capital of France?")

        assert "behandelt der Kurs das nicht" in answer.text

    async def test_instructions_may_be_made_for_each_run(self, chat: Chat, model: FakeModelServer):
        async def own(context: RunContextWrapper[Any], _agent: Agent[Any]) -> str:
            return f"For {context.context.principal.id}.\n"

        async with chat(instructions=own, sites={"robots": Site(instructions="Be warm.")}) as http:
            await ask(http)

        assert told(model) == "For ada.\nBe warm.\n"


class TestBudgets:
    """A site's limit cuts its own answers as the server's would, and no other site's."""

    @pytest.mark.parametrize("interface", INTERFACES)
    async def test_of_tokens(self, chat: Chat, model: FakeModelServer, interface: str):
        model.answer = "An hour [1]. " * 20
        async with chat(model=model_at(model, interface=interface), sites=with_budget(max_tokens=16)) as http:
            cut = await ask(http, **at(BREAD))
            kept = await items_of(http, cut.thread_id)
            whole = await ask(http, **at(ROBOTS))
        chosen = model_at(model, interface=interface)
        own = Agent(name="Own", model=chosen.model, model_settings=ModelSettings(max_tokens=16))
        async with chat(model=chosen, sites=SITES, agent=own) as http:
            as_the_servers = await ask(http, **at(BREAD))

        assert (cut.kinds, cut.errors) == (as_the_servers.kinds, as_the_servers.errors)
        assert "stopped before its answer was complete" in cut.errors[0]["message"]
        assert kept[-1]["status"] == "interrupted"
        assert kept[-1]["content"][0]["text"] == "".join(cut.deltas) == "".join(as_the_servers.deltas)
        assert whole.text == "An hour. " * 20

    @pytest.mark.parametrize("interface", INTERFACES)
    @pytest.mark.parametrize("turns", [1, 2, 3])
    async def test_of_turns_of_which_the_last_is_for_the_answer(
        self, chat: Chat, model: FakeModelServer, interface: str, turns: int
    ):
        model.reply = searches_while_it_may
        chosen = model_at(model, interface=interface)
        async with chat(model=chosen, sites=with_budget(max_turns=turns)) as http:
            answer = await ask(http, **at(BREAD))
            kept = await items_of(http, answer.thread_id)
            asked = len(model.requests)
            await ask(http, **at(ROBOTS))

        assert (answer.text, cited(answer), answer.errors) == ("An hour.", f"{BREAD}/rise", [])
        assert kept[-1]["content"] == answer.reply["content"]
        assert kept[-1].get("status") != "interrupted"
        assert (asked, len(model.requests) - asked) == (turns, 6)

    async def test_a_model_that_calls_a_tool_all_the_same_gives_no_answer(self, chat: Chat, model: FakeModelServer):
        model.script = [ToolCall("course_outline", {"module": None, "week": None}) for _ in range(2 + 6)]
        async with chat(sites=with_budget(max_turns=2)) as http:
            cut = await ask(http, **at(BREAD))
            asked = len(model.requests)
            as_the_servers = await ask(http, **at(ROBOTS))

        assert (asked, len(model.requests)) == (2, 2 + 6)
        assert cut.errors == as_the_servers.errors != []

    @pytest.mark.parametrize("interface", INTERFACES)
    async def test_one_that_is_handed_over_to_answers_with_the_last_and_the_question_is_looked_at_once(
        self, chat: Chat, model: FakeModelServer, interface: str
    ):
        looked = list[Any]()

        @input_guardrail
        async def look(_context: Any, _agent: Any, given: Any) -> GuardrailFunctionOutput:
            looked.append(given)
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

        chosen = model_at(model, interface=interface)
        other = Agent[Any](name="other", instructions="Other.", model=chosen.model, input_guardrails=[look])
        first = Agent[Any](
            name="first", instructions="First.", model=other.model, handoffs=[other], input_guardrails=[look]
        )
        model.script = [ToolCall("transfer_to_other", {})]
        async with chat(model=chosen, agent=first, sites=with_budget(max_turns=2)) as http:
            answer = await ask(http, **at(BREAD))

        assert "Other." in str(model.requests[-1])
        assert answer.text == "An hour."
        assert (len(model.requests), len(looked)) == (2, 1)
        assert model.requests[-1].get("tool_choice") != "none"  # servers refuse it where there are no tools

    async def test_of_seconds(self, chat: Chat, model: FakeModelServer):
        model.answer, model.pause = "An hour." * 10, 0.02  # 20 pieces, 0.4 s
        async with chat(sites=with_budget(run_seconds=0.1)) as http:
            cut = await ask(http, **at(BREAD))
            whole = await ask(http, **at(ROBOTS))
        async with chat(sites=with_budget(run_seconds=60), turns=TurnOptions(run_seconds=0.1)) as http:
            prolonged = await ask(http, **at(BREAD))
            as_the_servers = await ask(http, **at(ROBOTS))

        assert cut.errors == as_the_servers.errors != []
        assert "took too long" in cut.errors[0]["message"]
        assert whole.text == prolonged.text == model.answer

    @pytest.mark.parametrize("interface", INTERFACES)
    async def test_a_single_request_to_the_model_may_take_as_long_as_the_answer(
        self, chat: Chat, model: FakeModelServer, interface: str, monkeypatch: pytest.MonkeyPatch
    ):
        model.answer, model.pause = "An hour." * 10, 0.01  # 20 pieces, between which timers see what time it is
        loop, passed = asyncio.get_running_loop(), list[float]()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + sum(passed))

        class Slow(RagChatServer):
            async def respond(self, thread: Any, input_user_message: Any, context: RequestContext) -> Any:
                async for event in self.answer(thread, input_user_message, context):
                    if event.type == "thread.item.added":
                        passed.append(150.0)
                    yield event

        chosen = model_at(model, interface=interface, patience=1_000)
        async with chat(kind=Slow, model=chosen, sites=with_budget(run_seconds=200)) as http:
            whole = await ask(http, **at(BREAD))
            cut = await ask(http, **at(ROBOTS))

        assert passed == [150.0, 150.0]
        assert whole.text == model.answer
        assert "took too long" in cut.errors[0]["message"]

    async def test_a_request_that_may_take_longer_stays_in_flight_for_longer(self, chat: Chat):
        store, found = MemoryStore(), list[RememberedRequest | None]()

        class Looks(RagChatServer):
            async def retrieve(self, question: str, context: RequestContext) -> Retrieved:
                claimed = RememberedRequest(fingerprint="", busy_until=0.0)
                found.append(await store.claim_request("key", claimed, 60.0, context))
                return await super().retrieve(question, context)

        async with chat(store=store, kind=Looks, sites=with_budget(run_seconds=3_600)) as http:
            http.headers["idempotency-key"] = "key"
            await ask(http, **at(BREAD))

        [known] = found
        assert known is not None
        assert known.busy_until > time.time() + 3_000

    async def test_they_hold_for_an_agent_of_the_site_s_own_and_those_it_hands_over_to(
        self, chat: Chat, model: FakeModelServer
    ):
        chosen = model_at(model)
        other = Agent[Any](name="other", model=chosen.model)
        first = Agent[Any](
            name="first", model=other.model, handoffs=[other], model_settings=ModelSettings(max_tokens=99)
        )
        model.script = [ToolCall("transfer_to_other", {})]

        class Own(RagChatServer):
            def respond(self, thread: Any, input_user_message: Any, context: RequestContext) -> Any:
                return self.answer(thread, input_user_message, context, agent=first)

        async with chat(kind=Own, model=chosen, sites=with_budget(max_tokens=16)) as http:
            await ask(http, **at(BREAD))
            model.script = [ToolCall("transfer_to_other", {})]
            await ask(http, **at(ROBOTS))

        assert [sent.get("max_output_tokens") for sent in model.requests] == [16, 16, 99, None]

    async def test_the_questions_of_a_quiz_are_drafted_within_them(self, chat: Chat, model: FakeModelServer):
        async with chat(sites=with_budget(max_tokens=800)) as http:
            await ask(http, words="Quiz me on this page", **at(BREAD))
            await ask(http, words="Quiz me on this page", **at(ROBOTS))

        assert [sent.get("max_output_tokens") for sent in model.requests] == [800, None]

    @pytest.mark.parametrize(
        ("limits", "told"),
        [
            ({"max_tokens": 15}, "16 or more, not 15"),
            ({"max_turns": 0}, "1 or more, not 0"),
            ({"run_seconds": 0}, "above 0, not 0"),
            ({"run_seconds": float("nan")}, "above 0, not nan"),
        ],
    )
    def test_one_that_leaves_no_room_for_an_answer_is_refused(self, limits: dict[str, Any], told: str):
        with pytest.raises(ValueError, match=told):
            Budget(**limits)


def searches_while_it_may(body: dict[str, Any]) -> str | ToolCall:
    """What a model says that searches for as long as it has a tool for it."""
    may = body.get("tools") and body.get("tool_choice") != "none"
    return ToolCall("search_course", {"query": "rise", "only": None}) if may else "An hour [1]."


def with_budget(**limits: Any) -> dict[str, Site]:
    """Both sites, the course on bread with a budget."""
    return {**SITES, "bread": Site(url=BREAD, budget=Budget(**limits))}


class TestChoices:
    @pytest.mark.parametrize(("named", "used"), [("fast", "small"), ("gpt-99", "fake"), ("", "fake")])
    async def test_a_model_is_one_of_the_server_s(self, chat: Chat, model: FakeModelServer, named: str, used: str):
        models = {"fast": model_at(model, "small")}
        async with chat(models=models) as http:
            await ask(http, **({"model": named} if named else {}))

        assert model.requests[-1]["model"] == used

    async def test_a_site_has_one_of_them_and_a_reader_s_choice_goes_before_it(
        self, chat: Chat, model: FakeModelServer
    ):
        models = {"fast": model_at(model, "small"), "deep": model_at(model, "large")}
        async with chat(models=models, sites={"robots": Site(model="fast")}) as http:
            await ask(http)
            await ask(http, model="deep")

        assert [sent["model"] for sent in model.requests] == ["small", "large"]

    @pytest.mark.parametrize("asked", ["course_outline", "search_course", "x"])
    async def test_a_tool_is_one_of_those_that_may_be_asked_for(self, chat: Chat, model: FakeModelServer, asked: str):
        forced = asked == "course_outline"
        model.script = [ToolCall("course_outline", {"module": None, "week": None})] if forced else []
        async with chat(tool_choices=["course_outline"]) as http:
            answer = await ask(http, tool_choice={"id": asked})

        named = [sent.get("tool_choice") for sent in model.requests]
        assert named[0] == ({"type": "function", "name": "course_outline"} if forced else None)
        assert answer.text == "An hour."


class TestGuardrails:
    async def test_an_answer_that_one_stops_is_taken_back(self, chat: Chat, model: FakeModelServer):
        @output_guardrail
        async def nothing_rude(_context: Any, _agent: Any, output: Any) -> GuardrailFunctionOutput:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered="rude" in str(output))

        async with chat(output_guardrails=[nothing_rude]) as http:
            fine = await ask(http)
            model.answer = "Something rude [1]."
            stopped = await ask(http)
            kept = await items_of(http, stopped.thread_id)

        assert fine.text == "An hour."
        assert len(stopped.of("thread.item.removed")) == 1
        assert [item["type"] for item in kept] == ["user_message", "assistant_message"]
        assert "cannot help with that" in kept[-1]["content"][0]["text"]
        assert stopped.errors == []

    async def test_a_question_that_one_stops_is_declined_in_the_reader_s_language(self, chat: Chat):
        @input_guardrail
        async def only_bread(_context: Any, _agent: Any, _input: Any) -> GuardrailFunctionOutput:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

        async with chat(input_guardrails=[only_bread]) as http:
            http.headers["accept-language"] = "pt-BR"
            answer = await ask(http)
            kept = await items_of(http, answer.thread_id)

        assert [part["text"] for part in kept[-1]["content"]] == [
            "Não posso ajudar com isso aqui. Por favor, pergunte sobre o curso."
        ]
        assert answer.errors == []


def test_the_settings_name_sites_and_models(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatkit-rag.toml").write_text(
        'openai_api_key = "none"\n[models]\nfast = "small"\n[sites.bread]\nurl = "https://example.org"\n'
        'model = "fast"\nexercises = { "/exercises/*" = "hint" }\nbudget = { max_tokens = 800, run_seconds = 30 }\n'
    )
    settings = Settings.read(data_dir=tmp_path)

    assert settings.sites == {
        "bread": Site(
            url="https://example.org",
            model="fast",
            exercises={"/exercises/*": "hint"},
            budget=Budget(max_tokens=800, run_seconds=30.0),
        )
    }
    server = build_server(settings, MemoryIndex())
    assert server.models["fast"].model.name == "small"
    monkeypatch.setattr("os.environ", {})
    settings.export()
    assert Settings.read().sites == settings.sites


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("budget = { max_tokens = 5 }", r"sites\.bread\.budget: .*max_tokens is 16 or more, not 5"),
        ('budget = { max_turns = "few" }', r"sites\.bread\.budget\.max_turns: .*integer"),
        ("budget = { tokens = 500 }", r"sites\.bread\.budget\.tokens: Unexpected"),
        ("budgets = { max_tokens = 500 }", r"sites\.bread\.budgets: Unexpected"),
    ],
)
def test_a_site_that_is_written_wrongly_is_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, written: str, told: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatkit-rag.toml").write_text(f"[sites.bread]\n{written}\n")

    with pytest.raises(ConfigurationError, match=told):
        Settings.read()
