"""`RagChatServer`: a ChatKit server that answers from a course's own pages."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from agents import Agent, InputGuardrail, Model, OutputGuardrail, Tool, TResponseInputItem
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.store import AttachmentStore
from chatkit.types import FeedbackKind, ThreadItem, ThreadMetadata, ThreadStreamEvent, UserMessageItem

from chatkit_rag.agent.attachments import FileReader, reads_files, stream_about_files
from chatkit_rag.agent.bounds import ToolBounds, bounded
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.fitting import FittingSearch
from chatkit_rag.agent.follow_ups import follow_ups
from chatkit_rag.agent.history import HistoryOptions, conversation, in_readers_words, message_text, written_by
from chatkit_rag.agent.instructions import INSTRUCTIONS, LIBRARIES, READING, languages_of, reader_note
from chatkit_rag.agent.manners import manners
from chatkit_rag.agent.mcp_servers import McpConnection, McpServers
from chatkit_rag.agent.message import stream_text
from chatkit_rag.agent.models import ChosenModel, choose_model
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.agent.phrases import NOT_COVERED, in_language
from chatkit_rag.agent.queries import search_query
from chatkit_rag.agent.quiz.asking import quiz_events
from chatkit_rag.agent.run import retrieval_first
from chatkit_rag.agent.searching import search_progress, takes_long, under_way
from chatkit_rag.agent.tailoring import Choices, Instructions, as_chosen, declines, exercise_of, told_besides
from chatkit_rag.agent.titles import title_of
from chatkit_rag.agent.tools import library_docs_tool, outline_tool, read_page_tool
from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.engine import Engine, Quotas, TurnOptions, drive
from chatkit_rag.protocol.hook_store import HookStore
from chatkit_rag.protocol.items import TurnItems
from chatkit_rag.protocol.process import process
from chatkit_rag.protocol.requests import RequestLimits
from chatkit_rag.protocol.warming import complete_types, rehearse
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.sites import Budget, FindSite, Site, Sites
from chatkit_rag.sources.base import Source
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.sources.library_docs import LibraryDocsSource
from chatkit_rag.sources.together import search_together
from chatkit_rag.stores.base import KeepsFeedback, Lifecycle, Store

_FIRST_ITEMS = 5
"""Where a thread's first question is looked for: a greeting or a card may stand before it."""

_FEEDBACK_CHARACTERS = 2_000


class RagChatServer(ChatKitServer[RequestContext]):
    """Answers questions from its sources, in threads that it keeps in its store.

    Override `respond` to change what an answer is, and yield from `self.answer(...)` for the part that stays.
    The hooks of ChatKit's own server keep their meaning.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Sequence[Source],
        model: str | Model | ChosenModel = "auto",
        models: Mapping[str, str | Model | ChosenModel] | None = None,
        instructions: Instructions = INSTRUCTIONS,
        tools: Sequence[Tool] = (),
        tool_choices: Collection[str] = (),
        mcp_servers: Sequence[str | McpConnection] = (),
        agent: Agent[TurnContext] | None = None,
        sites: Mapping[str, Site] | FindSite | None = None,
        input_guardrails: Sequence[InputGuardrail[TurnContext]] = (),
        output_guardrails: Sequence[OutputGuardrail[TurnContext]] = (),
        attachment_store: AttachmentStore[RequestContext] | None = None,
        limits: RequestLimits | None = None,
        turns: TurnOptions | None = None,
        history: HistoryOptions | None = None,
        quotas: Quotas | None = None,
        tool_bounds: ToolBounds | None = None,
        titles: bool = False,
        follow_ups: bool = False,
    ) -> None:
        """A server over `store` and `sources`.

        Args:
            store: where threads and items are kept.
            sources: where answers come from. They are searched before the model's first word, all at the same time;
                see `sources.together.search_together` for what the first has ahead of the others.
            model: see `agent.models.choose_model`.
            models: further models, by the names that readers may choose them by, and sites.
            instructions: what the model is told; replaces the default text.
            tools: what the model may call besides searching.
            tool_choices: the names of tools that readers may ask for.
            mcp_servers: addresses of MCP servers of the site's own, whose tools the model may call, too. One that is
                not there is left out, and tried again later. An `agent` of the site's own brings its own.
            agent: an agent of the site's own instead of one made of model, instructions, tools and guardrails.
            sites: the courses, by name, or a function that finds one; see `Site`.
            input_guardrails: what looks at a question, as the Agents SDK has it; where one trips, the answer says that
                the chat cannot help with it.
            output_guardrails: what looks at an answer; where one trips, the answer is taken back.
            attachment_store: where the bytes of files go; without one the server takes none.
            limits: what a request may hold.
            turns: how answers follow each other in a thread, and how long they may take.
            history: how much of a thread the model is told.
            quotas: how much a reader may keep.
            tool_bounds: what tools may take in one answer, those of MCP servers too; an `agent` of the site's own sees
                to its own.
            titles: whether a thread without a title is named by its first question, behind its first answer.
            follow_ups: whether the client is told, behind an answer, what else the course answers; each suggestion is
                searched, which costs an embedding where the index has them.
        """
        super().__init__(HookStore(store), attachment_store)
        if not sources:
            raise ValueError("a RagChatServer needs at least one source to answer from")
        self.sources = tuple(sources)
        self.history = history or HistoryOptions()
        self.titles = titles
        self.follow_ups = follow_ups
        self._engine = drive(
            self,
            limits=limits,
            turns=turns,
            quotas=quotas,
            history=self.history.items,
            answers_alone=self._answers_alone,
        )
        self.chosen_model = _chosen(model)
        more = {name: _chosen(one) for name, one in (models or {}).items()}
        self._choices = Choices(models=more, tools=frozenset(tool_choices))
        self._sites = Sites(sites)
        first = self.sources[0]
        reading = [read_page_tool(first), outline_tool(first)] if isinstance(first, CourseSource) else []
        looking_up = [library_docs_tool(source) for source in self.sources if isinstance(source, LibraryDocsSource)][:1]
        told = instructions
        if instructions == INSTRUCTIONS:
            told = INSTRUCTIONS + (READING if reading else "") + (LIBRARIES if looking_up else "")
        self._tool_bounds = tool_bounds or ToolBounds()
        self._mcp_servers = McpServers(() if agent else mcp_servers)
        self._search = None if agent else FittingSearch(first, self._tool_bounds)
        searching = [self._search.tool] if self._search else []
        self.agent = agent or Agent[TurnContext](
            name="Course assistant",
            instructions=told,
            model=self.chosen_model.model,
            tools=[*searching, *bounded([*reading, *looking_up, *tools], self._tool_bounds)],
            input_guardrails=list(input_guardrails),
            output_guardrails=list(output_guardrails),
        )
        self._files = FileReader(attachment_store)
        self._opened = AsyncExitStack()

    @property
    def models(self) -> Mapping[str, ChosenModel]:
        """Those that readers may choose, and sites have, by name."""
        return self._choices.models

    @property
    def engine(self) -> Engine:
        """What carries out requests over this server's hooks and store."""
        return self._engine

    async def open(self) -> None:
        """Opens the store and the sources. `ChatApp` calls it at start; without one, call it yourself.

        Raises:
            StoreUnavailable: the store cannot be opened.
            IndexError_: a source's index cannot.
        """
        complete_types()
        await rehearse()
        async with AsyncExitStack() as stack:
            store = self._engine.store
            if isinstance(store, Lifecycle):
                await store.open()
                stack.push_async_callback(store.close)
            for source in self.sources:
                await source.open()
                stack.push_async_callback(source.close)
            await self._mcp_servers.open()
            stack.push_async_callback(self._mcp_servers.close)
            for chosen in (self.chosen_model, *self._choices.models.values()):
                if isinstance(chosen.model, ResponsesModel):
                    await chosen.model.warm_up()
                if chosen.connection is not None:
                    stack.push_async_callback(chosen.connection.close)
            self._opened = stack.pop_all()

    async def close(self) -> None:
        """Closes what `open` opened, in reverse order."""
        await self._opened.aclose()

    async def process(
        self, request: str | bytes | bytearray, context: RequestContext
    ) -> StreamingResult | NonStreamingResult:
        """Carries out one ChatKit request.

        Raises:
            RequestError: it cannot be carried out; nothing was sent or stored.
            StoreUnavailable: the store does not answer.
        """
        return await process(self._engine, bytes(request) if isinstance(request, bytearray) else request, context)

    def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """What an answer is: `answer`, and nothing besides. Override it to add to that."""
        return self.answer(thread, input_user_message, context)

    async def answer(
        self,
        thread: ThreadMetadata,
        message: UserMessageItem | None,
        context: RequestContext,
        *,
        agent: Agent[TurnContext] | None = None,
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Searches, lets the model answer from what was found, and streams its text with verified citations.

        Where the search finds too little, the answer says that the course does not cover the question, and no model
        is asked. `agent` replaces the server's own; it gets the same passages first.
        """
        context, site = await self._at_site(thread, context)
        await _bound(context, site.budget)
        turn = TurnContext(thread=thread, store=self.store, request_context=context, budget=site.budget)
        history = await self._history(thread, message, context)
        asked = [item for item in history if isinstance(item, UserMessageItem)]
        answering = agent or as_chosen(self._equipped_agent(), site, asked, self._choices)
        if quiz := quiz_events(self.sources[0], answering.model, message, history, turn):
            async with aclosing(quiz) as events:
                async for event in events:
                    yield event
            self._name(thread, asked)
            return
        files = await self._files.read(message, answering.model, context)
        for notice in files.notices:
            yield notice
        question = search_query(asked) or files.query
        async with under_way(self.retrieve(question, context)) as searching:
            if await takes_long(searching):
                yield search_progress(context)
            found = await searching
        if found.weak and declines(site, answering) and not (files.are_given and reads_files(answering.model)):
            async for event in stream_text(in_language(NOT_COVERED, languages_of(context)), turn):
                yield event
            self._name(thread, asked)
            return
        talk = await self._talk(thread, history, context)
        searched = retrieval_first(question, found.hits, turn)
        wrote = bool(message and message_text(message))
        if agent is None:
            answering = await self._tailored(answering, site, context, found)
        async with aclosing(stream_about_files(files, answering, talk, turn, wrote=wrote, behind=searched)) as events:
            async for event in events:
                yield event
        self._name(thread, asked)
        async for effect in self._suggest(question, found, context):
            yield effect

    async def retrieve(self, question: str, context: RequestContext) -> Retrieved:
        """What the sources find for `question`, as far as the reader may see it."""
        return await search_together(self.sources, question, context)

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: RequestContext
    ) -> None:
        """Keeps the reader's thumbs, with the reason and text that came along, where the store can.

        The items are the assistant's, and in a thread of the reader's: that was checked.
        """
        store = self._engine.store
        if isinstance(store, KeepsFeedback):
            said = {name: context.metadata.get(name) for name in ("reason", "text")}
            texts = {name: value[:_FEEDBACK_CHARACTERS] for name, value in said.items() if isinstance(value, str)}
            await store.save_feedback(thread_id, item_ids, {"kind": feedback, **texts}, context)

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: RequestContext
    ) -> None:
        """Called once when a turn was cancelled; what was written of it is already stored. Does nothing by itself."""

    async def _suggest(
        self, question: str, found: Retrieved, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        if self.follow_ups:
            async for effect in follow_ups(self.sources[0], self.retrieve, question, found, context):
                yield effect

    async def _tailored(
        self, agent: Agent[TurnContext], site: Site, context: RequestContext, found: Retrieved
    ) -> Agent[TurnContext]:
        """The server's agent, with what it is told of the site, and the search that fits the pages."""
        told = told_besides(agent, manners(site, exercise_of(site, context, found)))
        return await self._search.fit(told, context) if self._search else told

    def _equipped_agent(self) -> Agent[TurnContext]:
        return self._mcp_servers.equip(self.agent, self._tool_bounds)

    def _answers_alone(self) -> bool:
        """Whether an answer is `answer` and nothing besides: one of the site's own may go on to give a title, say."""
        own = {getattr(method, "__func__", None) for method in (self.respond, self.answer)}
        return own == {RagChatServer.respond, RagChatServer.answer}

    async def _history(
        self, thread: ThreadMetadata, message: UserMessageItem | None, context: RequestContext
    ) -> list[ThreadItem]:
        """The newest items, newest first, from `message` on: what follows it is the answer that is tried again."""
        turn = context.turn
        if message is not None and isinstance(turn, TurnItems) and turn.history and turn.history[0].id == message.id:
            return [message, *turn.history[1:]]
        if message is None:
            page = await self._engine.store.load_thread_items(thread.id, None, self.history.items, "desc", context)
            return page.data
        before = await self._engine.store.load_thread_items(thread.id, message.id, self.history.items, "desc", context)
        return [message, *before.data]

    async def _talk(
        self, thread: ThreadMetadata, history: Sequence[ThreadItem], context: RequestContext
    ) -> list[TResponseInputItem]:
        """The conversation as the model is told it, behind what is known of the reader."""
        first = await self._first_question(thread, history, context)
        talk = conversation(history, self.history, first=first)
        note = in_readers_words(reader_note(context))
        return [{"role": "user", "content": note}, *talk] if note else talk

    async def _at_site(self, thread: ThreadMetadata, context: RequestContext) -> tuple[RequestContext, Site]:
        """The request as one about the thread's site, which it is about from its first turn on."""
        kept = thread.metadata.get("site", "")
        name, site = await self._sites.find(context, kept)
        if not name:
            return context, site
        if name != kept:
            thread.metadata = {**thread.metadata, "site": name}
        page = context.page if context.page and site.holds(context.page.url) else None
        languages = (*context.languages, site.language) if site.language else context.languages
        return replace(context, site=name, page=page, languages=languages), site

    async def _first_question(
        self, thread: ThreadMetadata, history: Sequence[ThreadItem], context: RequestContext
    ) -> UserMessageItem | None:
        """The thread's first question, where the thread is longer than `history`: it says what the talk is about."""
        if len(history) < self.history.items:
            return None
        oldest = await self._engine.store.load_thread_items(thread.id, None, _FIRST_ITEMS, "asc", context)
        first = next((item for item in oldest.data if isinstance(item, UserMessageItem)), None)
        return None if first is None or any(item.id == first.id for item in history) else first

    def _name(self, thread: ThreadMetadata, asked: Sequence[UserMessageItem]) -> None:
        """Gives the thread a title where it has none; it is stored behind the answer, and told as `thread.updated`."""
        if self.titles and not thread.title and asked:
            first = asked[-1]
            files = ", ".join(file.name for file in first.attachments)
            thread.title = title_of(written_by(first) or files) or None


async def _bound(context: RequestContext, budget: Budget) -> None:
    """Gives the turn the time of its site, where that has one of its own."""
    if budget.run_seconds is not None and isinstance(context.turn, TurnItems):
        await context.turn.may_run(budget.run_seconds)


def _chosen(model: str | Model | ChosenModel) -> ChosenModel:
    return model if isinstance(model, ChosenModel) else choose_model(model)
