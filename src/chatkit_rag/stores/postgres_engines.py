"""Engines over Postgres: SQLAlchemy's pool, whose connections are made by the driver as the URL says."""

from importlib.util import find_spec
from typing import Any
from uuid import uuid4

from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chatkit_rag.errors import ConfigurationError, MissingExtra
from chatkit_rag.stores.postgres_faults import POOL_SECONDS
from chatkit_rag.stores.postgres_urls import Address

CONNECT_SECONDS = 5.0
# Less than the five minutes after which hosters put an idle database to sleep, and its connections with it.
RECYCLE_SECONDS = 240


def engine_for(address: Address, *, size: int, pooled: bool) -> AsyncEngine:
    """An engine whose connections are kept, and given back as they are.

    `pooled` is for a pooler that runs each transaction on another connection: nothing is prepared for later then.

    Raises:
        MissingExtra: asyncpg is not installed.
        ConfigurationError: psycopg is not, where the URL asks for it.
    """
    _check_driver(address)
    engine = create_async_engine(
        f"postgresql+{address.driver}://",
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        # No transaction is open when a connection comes back: a ROLLBACK would be a flight for nothing.
        pool_reset_on_return=None,
    )
    _connect_to(engine, address, pooled=pooled, autocommit=True)
    return engine


def migrating_engine_for(address: Address) -> AsyncEngine:
    """An engine with transactions, which keeps no connection. Raises as `engine_for`."""
    _check_driver(address)
    engine = create_async_engine(f"postgresql+{address.driver}://", poolclass=NullPool)
    _connect_to(engine, address, pooled=True, autocommit=False)
    return engine


def _connect_to(engine: AsyncEngine, address: Address, *, pooled: bool, autocommit: bool) -> None:
    """Lets the driver read the URL itself: it knows what `sslmode` and several hosts mean."""

    def connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        arguments[:] = [address.dsn]
        if address.driver == "psycopg":
            options |= {"autocommit": autocommit, "connect_timeout": int(CONNECT_SECONDS)}
            if pooled:
                options["prepare_threshold"] = None
            return
        options["timeout"] = CONNECT_SECONDS
        if pooled:
            # A statement that is used once has no name, and runs where it was prepared. SQLAlchemy, which asks a
            # new connection for its version, gives names.
            options |= {
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                # Another client's statement of the same name may be on the connection that the pooler gives.
                "prepared_statement_name_func": lambda: f"__chatkit_rag_{uuid4().hex}__",
            }

    listen(engine.sync_engine, "do_connect", connect)


def _check_driver(address: Address) -> None:
    if find_spec(address.driver) is not None:
        return
    if address.driver == "asyncpg":
        raise MissingExtra("PostgresStore", "postgres")
    raise ConfigurationError("DATABASE_URL asks for psycopg, which is not installed: pip install 'psycopg[binary]'")
