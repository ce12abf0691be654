"""Settings in, running app out: the only module that knows every concrete class. Constructor calls only."""

import contextlib
import os
import secrets
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from chatkit_rag.agent.context7_mcp import Context7Mcp
from chatkit_rag.agent.models import ChosenModel, choose_model
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.loopback import LoopbackOnly
from chatkit_rag.asgi.pages import ChatPage, CoursePages
from chatkit_rag.asgi.streaming import StreamOptions
from chatkit_rag.auth import Authenticate, SessionTokens, nobody
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.indexing import build_index
from chatkit_rag.protocol.engine import Quotas
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.settings import PREFIX, Settings, is_loopback
from chatkit_rag.sources.context7 import Context7
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.sources.libraries import ROBOTICS
from chatkit_rag.sources.library_docs import LibraryDocsOptions, LibraryDocsSource
from chatkit_rag.stores.attachments import FileQuota
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.attachments_s3 import S3AttachmentStore
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.imports import ImportTarget
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.postgres_imports import postgres_imports
from chatkit_rag.stores.postgres_urls import check_schema_name, read_url
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.stores.sql_imports import sqlite_imports


def build_server(settings: Settings, index: PassageIndex) -> RagChatServer:
    """The chat server over the data directory's threads and `index`."""
    return RagChatServer(
        build_store(settings),
        sources=[CourseSource(index), *build_library_docs(settings)],
        model=build_model(settings),
        models={name: build_model(settings, model) for name, model in settings.models.items()},
        sites=settings.sites or None,
        mcp_servers=settings.mcp_servers,
        attachment_store=build_attachment_store(settings),
        quotas=Quotas(threads_per_reader=settings.threads_per_reader, messages_per_thread=settings.messages_per_thread),
        titles=True,
        # By meaning, every suggestion would cost an embedding.
        follow_ups=settings.embedder == "none",
    )


def build_evaluated_server(index: PassageIndex) -> RagChatServer:
    """A server over `index` that keeps nothing and asks no language model: what answers are made of can be measured."""
    return RagChatServer(MemoryStore(), sources=[CourseSource(index)], model=ExtractiveModel())


def build_library_docs(settings: Settings) -> list[LibraryDocsSource]:
    """The documentation of libraries, where it is wanted and there is a key for it."""
    key = settings.context7_api_key.get_secret_value() if settings.context7_api_key else ""
    if not (settings.context7_enabled and key):
        return []
    over_mcp = settings.context7_url.rstrip("/").endswith("/mcp")
    service = (Context7Mcp if over_mcp else Context7)(api_key=key, url=settings.context7_url)
    options = LibraryDocsOptions(results=settings.context7_max_results, seconds=settings.library_docs_seconds)
    return [LibraryDocsSource(service, libraries=settings.libraries or ROBOTICS, options=options)]


def build_store(settings: Settings) -> SQLiteStore | PostgresStore | CachedStore:
    """What keeps the threads, with the cache of the settings before it where they are on a server.

    Raises:
        ConfigurationError: an address or the schema cannot be used, or a driver is missing.
    """
    database = build_database(settings)
    if isinstance(database, PostgresStore) and settings.redis_url and (url := settings.redis_url.get_secret_value()):
        return CachedStore(database, url, prefix=settings.redis_prefix)
    return database


def build_database(settings: Settings) -> SQLiteStore | PostgresStore:
    """What keeps the threads: the database of the settings, else a file in the data directory.

    Raises:
        ConfigurationError: the database's address or schema cannot be used, or its driver is missing.
    """
    if url := settings.server_url:
        return PostgresStore(url, schema=settings.database_schema, auto_migrate=settings.auto_migrate)
    return SQLiteStore(settings.threads_file)


def build_import_target(settings: Settings, *, dry_run: bool) -> AbstractAsyncContextManager[ImportTarget]:
    """The same database, for threads that are taken over from another system.

    Raises:
        ConfigurationError: the database's address or schema cannot be used.
    """
    if url := settings.server_url:
        schema = check_schema_name(settings.database_schema)
        return postgres_imports(read_url(url), schema, dry_run=dry_run)
    return sqlite_imports(settings.threads_file, dry_run=dry_run)


def build_attachment_store(settings: Settings) -> LocalAttachmentStore | S3AttachmentStore | None:
    """Where readers' files go; None where they are not taken.

    Raises:
        ConfigurationError: no bucket is named for them, half a key is given, or the client of S3 is missing.
    """
    if not settings.attachments:
        return None
    secret = session_secret(settings)
    quota = FileQuota(files=settings.files_per_reader, bytes=settings.file_bytes_per_reader)
    if settings.attachments != "s3":
        return LocalAttachmentStore(settings.attachments_dir, secret=secret, base_url=settings.public_url, quota=quota)
    if not settings.s3_bucket:
        raise ConfigurationError(f"readers' files are to be kept on S3: name the bucket in {PREFIX}S3_BUCKET")
    access_key, secret_key = (
        key.get_secret_value() if key else "" for key in (settings.s3_access_key, settings.s3_secret_key)
    )
    if bool(access_key) != bool(secret_key):
        raise ConfigurationError(f"a bucket's key has two parts: set {PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY")
    return S3AttachmentStore(
        settings.s3_bucket,
        secret=secret,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        prefix=settings.s3_prefix,
        path_style=settings.s3_path_style,
        access_key=access_key,
        secret_key=secret_key,
        base_url=settings.public_url,
        quota=quota,
    )


def attachment_store_to_clear(settings: Settings) -> LocalAttachmentStore | S3AttachmentStore | None:
    """Where readers' files are, also where none are taken any more; None where there are none.

    Raises ConfigurationError as `build_attachment_store`.
    """
    kept = settings.attachments or ("s3" if settings.s3_bucket else settings.attachments_dir.exists())
    return build_attachment_store(settings.model_copy(update={"attachments": kept}))


def retention_of(settings: Settings) -> timedelta | None:
    """How long after its newest message a thread is kept; None for ever."""
    return None if settings.retention_days is None else timedelta(days=settings.retention_days)


def build_model(settings: Settings, name: str = "") -> ChosenModel:
    """The model that answers, or the one of another name."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    return choose_model(name or settings.model, api_key=key, base_url=settings.openai_base_url)


def create_app(
    settings: Settings | None = None,
    *,
    authenticate: Authenticate | None = None,
    server: RagChatServer | None = None,
) -> ChatApp:
    """The chat as an ASGI app, as the settings say; also for `uvicorn --factory chatkit_rag:create_app`.

    Readers without `authenticate` are those with session tokens, which `allow_anonymous` hands to whoever asks.
    """
    settings = settings or Settings.read()
    return _app(
        settings,
        server or build_server(settings, build_index(settings)),
        authenticate or nobody,
        local=False,
    )


def create_site(settings: Settings | None = None) -> Starlette:
    """What `serve` serves: the chat's routes at the prefix and at `/chatkit`, its page at `/`, the course's pages."""
    settings = settings or Settings.read()
    local = is_loopback(settings.host)
    index = build_index(settings)
    server = build_server(settings, index)
    chat = _app(settings, server, nobody, local=local)
    prefix = "/" + settings.prefix.strip("/")
    pages = CoursePages(index, ChatPage(server, session=not local), endpoint=f"{prefix}/")
    return Starlette(
        routes=[*chat.routes(prefix), *chat.routes("/chatkit"), Route("/{path:path}", pages.show, methods=["GET"])],
        middleware=[Middleware(LoopbackOnly)] if local else [],
        lifespan=chat.lifespan,
    )


def _app(settings: Settings, server: RagChatServer, authenticate: Authenticate, *, local: bool) -> ChatApp:
    return ChatApp(
        server,
        authenticate=authenticate,
        sessions=SessionTokens(session_secret(settings)),
        options=AppOptions(
            allow_anonymous=settings.allow_anonymous or local,
            local_reader=local,
            body_bytes=settings.body_bytes,
            streams_per_reader=settings.streams_per_reader,
            drain_seconds=settings.drain_seconds,
            retention=retention_of(settings),
            streaming=StreamOptions(on_disconnect=settings.on_disconnect),
        ),
    )


def session_secret(settings: Settings) -> str:
    """The secret of the settings, else the one in the data directory, which is made at the first need.

    Raises:
        ConfigurationError: several workers have none in common, or the data directory cannot be written.
    """
    if settings.session_secret is not None:
        return settings.session_secret.get_secret_value()
    if settings.workers > 1:
        raise ConfigurationError(f"several workers need one secret to sign sessions with: set {PREFIX}SESSION_SECRET")
    place = settings.data_dir / "session-secret"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), _new_private_file(place) as file:
            file.write(secrets.token_urlsafe(48))
        return place.read_text("utf-8")
    except OSError as exc:
        raise ConfigurationError(
            f"cannot write to the data directory {settings.data_dir}: {exc.strerror}; choose another with --data-dir"
        ) from exc


def _new_private_file(path: Path) -> TextIO:
    """A file that one process only can create, and that only its owner may read from the first moment on."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
