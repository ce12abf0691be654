"""What a database driver's error means for us, told by its class and SQLSTATE, and what is raised for it."""

import asyncio
import re
from enum import Enum, auto
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from chatkit_rag.errors import StoreUnavailable

POOL_SECONDS = 1.0
"""How long a statement waits for a free connection."""


class Fault(Enum):
    """What went wrong with a statement."""

    AWAY = auto()
    """The database cannot be reached, ends, or is no longer the one that writes: other connections are no better."""
    CONFLICT = auto()
    """Another transaction was in the way; the statement left nothing behind, and may be sent again."""
    BUSY = auto()
    """Every connection is in use."""
    SLOW = auto()
    REFUSED = auto()
    """User, password or database are not accepted."""
    NO_TABLES = auto()
    OLD_TABLES = auto()
    """They are of the version before, which has all but what is new in this one."""
    NO_REFERENCE = auto()
    """What the row refers to is not there."""
    NO_TEXT = auto()
    """A value is not text that the database can hold."""
    OTHER = auto()


class DatabaseAway(StoreUnavailable):
    """The database cannot be reached now; it may come back without anybody's help."""


class NoReference(Exception):
    """What a row refers to is not there."""


class NoText(Exception):
    """A value is not text that the database can hold."""


class NoFreeConnection(Exception):
    """Every connection stayed in use for as long as one waits."""


_STATES = {
    "25006": Fault.AWAY,  # read-only: what was the primary is a standby now
    "57P01": Fault.AWAY,
    "57P02": Fault.AWAY,
    "57P03": Fault.AWAY,
    "40001": Fault.CONFLICT,
    "40P01": Fault.CONFLICT,
    "57014": Fault.SLOW,
    "3D000": Fault.REFUSED,
    "42501": Fault.REFUSED,
    "3F000": Fault.NO_TABLES,
    "42P01": Fault.NO_TABLES,
    "42703": Fault.OLD_TABLES,
    "23503": Fault.NO_REFERENCE,
    "22021": Fault.NO_TEXT,
}
_CLASSES = {"08": Fault.AWAY, "28": Fault.REFUSED}
_REFUSALS = re.compile(r"FATAL:.*(authentication|pg_hba|does not exist|not permitted)")


def fault_of(exc: BaseException) -> Fault:
    """What `exc`, raised by a driver or by SQLAlchemy's pool over one, means."""
    chain = _chain(exc)
    if any(isinstance(text, UnicodeEncodeError) for link in chain for text in (link, link.__cause__)):
        return Fault.NO_TEXT
    for link in chain:
        state: str | None = getattr(link, "sqlstate", None)
        if state:
            return _STATES.get(state) or _CLASSES.get(state[:2], Fault.OTHER)
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if isinstance(exc, NoFreeConnection | PoolTimeoutError):
        return Fault.BUSY
    # libpq hands on what the server says to a log-in without its SQLSTATE.
    if _REFUSALS.search(str(chain[-1])):
        return Fault.REFUSED
    # `InterfaceError`: a connection that was closed under the statement. What psycopg notices itself has no SQLSTATE.
    if names & {"OSError", "TimeoutError", "CancelledError", "InterfaceError", "OperationalError", "EOFError"}:
        return Fault.AWAY
    return Fault.OTHER


def translated(exc: BaseException, label: str) -> Exception:
    """What to raise for an error of a driver or of the pool, about the database that is called `label`."""
    reason = reason_of(exc)
    kind: type[Exception] = StoreUnavailable
    match fault_of(exc):
        case Fault.NO_REFERENCE:
            kind, message = NoReference, reason
        case Fault.NO_TEXT:
            kind, message = NoText, "a value is not text that the database can hold"
        case Fault.AWAY:
            kind, message = DatabaseAway, f"the database {label} cannot be reached: {reason}"
        case Fault.BUSY:
            message = f"every connection to {label} has been in use for {POOL_SECONDS:g} s: raise pool_size"
        case Fault.NO_TABLES:
            message = f"the tables are not in {label}: run `chatkit-rag migrate`, or set auto_migrate ({reason})"
        case Fault.OLD_TABLES:
            message = f"the tables in {label} are too old for this: run `chatkit-rag migrate` ({reason})"
        case Fault.REFUSED:
            message = (
                f"the database {label} refuses what DATABASE_URL says: {reason}; check user, password and database"
            )
        case _:
            message = f"the database {label} failed: {reason}"
    return kind(message)


def reason_of(exc: BaseException) -> str:
    """The first line of what the driver says: neither the statement nor its values, which may be a reader's words."""
    last = _chain(exc)[-1]
    if isinstance(last, asyncio.TimeoutError):
        return "it does not answer"
    if isinstance(last, OSError):
        return last.strerror or str(last) or type(last).__name__
    return next(iter(str(last).splitlines()), "") or type(last).__name__


def _chain(exc: BaseException) -> list[BaseException]:
    """The error, and those that SQLAlchemy wrapped; the driver's own is the last."""
    chain = [exc]
    while (inner := _wrapped(chain[-1])) is not None and inner not in chain:
        chain.append(inner)
    return chain


def _wrapped(exc: BaseException) -> BaseException | None:
    wrapped: Any = getattr(exc, "orig", None)
    return wrapped if isinstance(wrapped, BaseException) else None
