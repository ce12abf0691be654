"""What carries out ChatKit's operations: a server's hooks, its store, and the limits that hold for its clients."""

from collections.abc import Callable
from dataclasses import dataclass, field

from chatkit.server import ChatKitServer

from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.hook_store import HookStore
from chatkit_rag.protocol.requests import RequestLimits
from chatkit_rag.stores.base import ClaimsAttachments, KeepsLeases, RemembersRequests, Store
from chatkit_rag.stores.claims import InProcessClaims
from chatkit_rag.stores.coordination import InProcessCoordination
from chatkit_rag.stores.turns import BeginsTurns, StepwiseTurns


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOptions:
    """How answers follow each other in a thread, and how long they may take. All in seconds."""

    busy_seconds: float = 1.5
    """How long a message waits for the answer that is being written in its thread, before it is refused: long enough
    for a stopped answer to be stored, too short to be a queue. Make it as long as a run may take, and it is one."""
    run_seconds: float = 120.0
    """How long an answer may take."""
    lease_seconds: float = 30.0
    """How long a thread stays taken when the process that answers in it is killed."""
    remember_seconds: float = 24 * 3600.0
    """How long an idempotency key stands for its request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """How much a reader may keep; 0 for any number."""

    threads_per_reader: int = 100
    messages_per_thread: int = 1_000
    """A question and its answer are two; what else an answer leaves in the thread counts too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A ChatKit server, driven by this package instead of by ChatKit's own `process`."""

    server: ChatKitServer[RequestContext]
    """Its hooks. Its store is the view that hooks see."""
    store: Store
    """Its store, as it is."""
    leases: KeepsLeases
    requests: RemembersRequests
    claims: ClaimsAttachments
    """Which thread each attachment belongs to."""
    steps: BeginsTurns
    """How turns begin and end in the store."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    turns: TurnOptions = field(default_factory=TurnOptions)
    quotas: Quotas = field(default_factory=Quotas)
    history: int = 0
    """How many items before a reader's message its hook wants to know."""
    answers_alone: Callable[[], bool] = bool
    """Whether the hook is one behind whose `AnswerDone` nothing comes."""


def overrides(server: ChatKitServer[RequestContext], method: str) -> bool:
    """Whether the server has a `method` of its own instead of ChatKit's."""
    own = getattr(server, method)
    return getattr(own, "__func__", own) is not getattr(ChatKitServer, method)


def drive(
    server: ChatKitServer[RequestContext],
    *,
    limits: RequestLimits | None = None,
    turns: TurnOptions | None = None,
    quotas: Quotas | None = None,
    history: int = 0,
    answers_alone: Callable[[], bool] = bool,
) -> Engine:
    """The engine for `server`, whose hooks see its store through a `HookStore` from now on.

    What the store cannot do for all processes over it (leases, remembered requests, claims) is done in this one.
    """
    if not isinstance(server.store, HookStore):
        server.store = HookStore(server.store)
    store = server.store.unwrapped
    fall_back = InProcessCoordination()
    leases: KeepsLeases = store if isinstance(store, KeepsLeases) else fall_back
    requests: RemembersRequests = store if isinstance(store, RemembersRequests) else fall_back
    steps: BeginsTurns = StepwiseTurns(store, leases, requests)
    if isinstance(store, BeginsTurns) and leases is store and requests is store:
        steps = store
    return Engine(
        server=server,
        store=store,
        leases=leases,
        claims=store if isinstance(store, ClaimsAttachments) else InProcessClaims(store),
        requests=requests,
        steps=steps,
        limits=limits or RequestLimits(),
        turns=turns or TurnOptions(),
        quotas=quotas or Quotas(),
        history=history,
        answers_alone=answers_alone,
    )
