"""Settings, from arguments, the environment, `.env` and `chatkit-rag.toml`: the only reader of the environment."""

import os
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from chatkit_rag.errors import ConfigurationError
from chatkit_rag.sites import Site

PREFIX = "CHATKIT_RAG_"
FILE = "chatkit-rag.toml"

_SQLITE = "sqlite:///"
_LIBRARY_ID = r"^(/[^/\s]+/[^/\s]+([/@][^/\s]+)?)?$"
"""As Context7 has them: `/owner/name`, perhaps with a version; or nothing."""


def _common(name: str, *, old: str = "") -> AliasChoices:
    """Our own name first, then the one that other tools use as well, or the `old` one."""
    return AliasChoices(f"{PREFIX}{name}", old or name, name.lower())


class Settings(BaseSettings):
    """Everything that can be set: by argument, else environment, else `.env`, else `chatkit-rag.toml`, else default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", toml_file=FILE, extra="ignore", populate_by_name=True
    )

    host: str = "127.0.0.1"
    """The address that `serve` listens on. On a loopback address whoever can reach it is the reader `local`."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port that `serve` listens on; 0 for any free one."""
    prefix: str = "/api/chatkit"
    """Where `serve` mounts the chat's routes."""
    workers: int = Field(default=1, ge=1)
    """How many processes `serve` runs."""
    data_dir: Path = Path(".chatkit-rag")
    """Where threads, the index and the session secret are kept."""
    site: str = "default"
    """The name that the pages are searched under."""
    url: str = ""
    """The course's public address; citations are relative without it."""
    language: str = "english"
    """The language of the course, by its English name or its code: `urdu`, `ur`."""
    model: str = "auto"
    """`auto`, `extractive`, an OpenAI model, `chat:NAME`, or `litellm/MAKER/NAME`."""
    models: dict[str, str] = {}
    """Further models, by the names that readers may choose them by, and sites."""
    sites: dict[str, Site] = {}
    """The courses by name, each with an address and manners of its own."""
    embedder: str = "none"
    """`none`, `openai:NAME`, `fastembed:NAME` or `cohere:NAME`: what search by meaning needs besides."""
    openai_api_key: SecretStr | None = Field(default=None, validation_alias=_common("OPENAI_API_KEY"))
    """The key for the model, and for an `openai:` embedder; `auto` takes an OpenAI model where it is set."""
    openai_base_url: str | None = Field(default=None, validation_alias=_common("OPENAI_BASE_URL"))
    """The address of an OpenAI-compatible server."""
    cohere_api_key: SecretStr | None = Field(default=None, validation_alias=_common("COHERE_API_KEY"))
    """The key for an embedder of Cohere's."""
    qdrant_url: str | None = Field(default=None, validation_alias=_common("QDRANT_URL"))
    """The Qdrant server that the index is kept on; without it, it is in the data directory."""
    qdrant_api_key: SecretStr | None = Field(default=None, validation_alias=_common("QDRANT_API_KEY"))
    """The key for that server."""
    qdrant_collection: str = Field(default="courses", pattern=r"^[\w.-]+$")
    """What the index is called there."""
    index: str = ""
    """A file that `index --output` wrote, or its address: `serve` then serves that, and indexes nothing."""
    refresh: str = Field(default="10m", pattern=r"^\d+[smhd]$")
    """How often the file or address is looked at again: seconds, minutes, hours or days (`30s`, `10m`, `1h`, `1d`)."""
    database_url: SecretStr | None = Field(default=None, validation_alias=_common("DATABASE_URL"))
    """The database of threads: `postgresql://…` or `sqlite:///FILE`; without it, a file in the data directory."""
    database_schema: str = "chatkit_rag"
    """The Postgres schema that the tables are in."""
    auto_migrate: bool = False
    """Whether the tables in Postgres are made and renewed at start, instead of by `chatkit-rag migrate`."""
    redis_url: SecretStr | None = Field(default=None, validation_alias=_common("REDIS_URL"))
    """A Redis that answers the most frequent reads of threads, where these are in a database server."""
    redis_prefix: str = "chatkit-rag"
    """What all keys in Redis begin with; another one for every database over the same Redis."""
    session_secret: SecretStr | None = None
    """Signs the tokens of anonymous readers: 32 bytes or more. Without it, the data directory gets one of its own."""
    allow_anonymous: bool = False
    """Whether readers may ask without signing in; on a loopback address they always may."""
    attachments: Literal["local", "s3"] | bool = False
    """Whether readers may attach files; they are kept in the data directory (`local`, or `true`), or on S3."""
    files_per_reader: int = Field(default=200, ge=0)
    """How many files one reader may have; 0 for any number."""
    file_bytes_per_reader: int = Field(default=500 * 1024 * 1024, ge=0)
    """How many bytes one reader's files may have together; 0 for any number."""
    s3_bucket: str = ""
    """The bucket for readers' files."""
    s3_endpoint: str = ""
    """The address of the S3 service; AWS without it."""
    s3_region: str = "us-east-1"
    """The bucket's region; `auto` for R2."""
    s3_prefix: str = ""
    """The folder in the bucket that readers' files go below."""
    s3_path_style: bool = True
    """Whether the bucket is named in the address's path, instead of its host."""
    s3_access_key: SecretStr | None = None
    """The id of the key to the bucket; without it, what the AWS client finds by itself."""
    s3_secret_key: SecretStr | None = None
    """The key to the bucket."""
    context7_enabled: bool = Field(default=True, validation_alias=_common("CONTEXT7_ENABLED"))
    """Whether the documentation of libraries is looked into, where there is a key for it."""
    context7_api_key: SecretStr | None = Field(default=None, validation_alias=_common("CONTEXT7_API_KEY"))
    """The key for Context7; without it, it is not asked."""
    context7_max_results: int = Field(default=2, ge=1, le=10, validation_alias=_common("CONTEXT7_MAX_RESULTS"))
    """How many passages of a library's documentation an answer gets."""
    context7_url: str = "https://context7.com/api"
    """Where Context7 is asked: its HTTP interface, or its MCP server, whose address ends with `/mcp`."""
    library_docs_seconds: float = Field(default=3.0, gt=0, le=30)
    """How long an answer waits for them."""
    libraries: dict[str, Annotated[str, Field(pattern=_LIBRARY_ID)]] = {}
    """The libraries that the course uses, by name, each with its id at Context7, or with an empty one."""
    mcp_servers: list[str] = []
    """Addresses of MCP servers whose tools the model may call."""
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """How many days after its newest message a thread is kept, with its files; without it, for ever."""
    public_url: str = ""
    """Where browsers reach the chat's routes; without it, where their requests say that they came to."""
    on_disconnect: Literal["cancel", "finish"] = "cancel"
    """What becomes of an answer whose reader leaves."""
    threads_per_reader: int = Field(
        default=100, ge=0, validation_alias=_common("THREADS_PER_READER", old="CHATKIT_MAX_THREADS_PER_USER")
    )
    """How many threads one reader may keep; 0 for any number."""
    messages_per_thread: int = Field(default=1_000, ge=0)
    """How many messages one thread may hold, questions and answers; 0 for any number."""
    body_bytes: int = Field(default=256 * 1024, ge=1024)
    """The largest request body."""
    streams_per_reader: int = Field(default=3, ge=0)
    """How many answers one reader may have under way in each process; 0 for any number."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """How long answers under way may take to end when the server stops."""

    @field_validator("public_url", "s3_endpoint", "context7_url", "openai_base_url")
    @classmethod
    def _is_whole_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("an address begins with https:// or http://")
        return value

    @field_validator("openai_base_url", "qdrant_url", "index")
    @classmethod
    def _can_be_read(cls, value: str | None) -> str | None:
        if value and "://" in value:
            _ = urlsplit(value).port  # raises ValueError where it is none
        return value

    @field_validator("mcp_servers")
    @classmethod
    def _are_whole_addresses(cls, values: list[str]) -> list[str]:
        return [cls._is_whole_address(value) for value in values]

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://", "/")):
            raise ValueError("an address begins with https://, http:// or /")
        return value

    @property
    def refresh_seconds(self) -> float:
        """`refresh`, in seconds; at least one."""
        return max(1.0, float(self.refresh[:-1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[self.refresh[-1]])

    @property
    def index_dir(self) -> Path:
        """Where the index is kept."""
        return self.data_dir / "index"

    @property
    def attachments_dir(self) -> Path:
        """Where readers' files are kept."""
        return self.data_dir / "attachments"

    @property
    def threads_file(self) -> Path:
        """The database of threads, where they are kept in a file."""
        url = self.database_url.get_secret_value() if self.database_url else ""
        if url.startswith(_SQLITE):
            return Path(url.removeprefix(_SQLITE))
        return self.data_dir / "threads.db"

    @property
    def server_url(self) -> str | None:
        """The database of threads, where they are kept on a server; holds its password."""
        url = self.database_url.get_secret_value() if self.database_url else ""
        return url if url and not url.startswith(_SQLITE) else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no such files are read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order in which sources are asked."""
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def read(cls, *, config: Path | None = None, **arguments: Any) -> "Settings":
        """The settings, with `arguments` that are not None on top, from the file `config` instead of the usual one.

        Raises:
            ConfigurationError: a value is not what its setting takes, or the file cannot be read.
        """
        if config is not None and not config.is_file():
            raise ConfigurationError(f"there is no file {config}: --config names the settings to read")
        # Where the file is, pydantic-settings asks the class.
        settings = cls if config is None else type(cls.__name__, (cls,), {"model_config": {"toml_file": config}})
        try:
            return settings(**{name: value for name, value in arguments.items() if value is not None})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
            raise ConfigurationError(f"{config or FILE} cannot be read as TOML: {exc}") from exc
        except SettingsError as exc:
            raise ConfigurationError(f"{exc}: it is JSON") from exc
        except ValidationError as exc:
            lines = [f"  {'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()]
            raise ConfigurationError("a setting has a value that it cannot take:\n" + "\n".join(lines)) from exc

    def export(self) -> None:
        """Puts the settings into the environment, for worker processes that read them anew."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
            else:
                text = orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)
            os.environ[f"{PREFIX}{name.upper()}"] = text  # noqa: TID251 - this is the module that may


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
