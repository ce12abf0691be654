"""URLs of databases, as hosters hand them out and as people mistype them."""

import traceback

import pytest

from chatkit_rag.errors import ConfigurationError, MissingExtra
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.postgres_urls import check_schema_name, read_url

NEON = "postgresql://me:s3cr3t@ep-cool-1.eu.aws.neon.tech/shop?sslmode=require&channel_binding=require"


@pytest.mark.parametrize(
    ("url", "driver", "dsn"),
    [
        ("postgres://h/d", "asyncpg", "postgresql://h/d"),
        ("postgresql://me:pw@h:5433/d", "asyncpg", "postgresql://me:pw@h:5433/d"),
        ("postgresql+asyncpg://h/d?ssl=require", "asyncpg", "postgresql://h/d?sslmode=require"),
        ("postgresql+psycopg://h/d?connect_timeout=3", "psycopg", "postgresql://h/d?connect_timeout=3"),
        ("POSTGRES://h/d", "asyncpg", "postgresql://h/d"),
        (NEON, "asyncpg", "postgresql://me:s3cr3t@ep-cool-1.eu.aws.neon.tech/shop?sslmode=require"),
        (NEON.replace("ql:", "ql+psycopg:"), "psycopg", NEON),
        ("postgresql:///d?host=/run/pg", "asyncpg", "postgresql:///d?host=%2Frun%2Fpg"),
        ("postgresql://a:1,b:2/d?target_session_attrs=read-write", "asyncpg", None),
        ("postgresql://[::1]:5432/d", "asyncpg", None),
        ("postgresql://me:p%40w%2F@h/d", "asyncpg", None),
        ("  postgresql://h/d\n", "asyncpg", "postgresql://h/d"),
    ],
)
def test_a_url_is_made_into_what_its_driver_reads(url: str, driver: str, dsn: str | None):
    address = read_url(url)

    assert (address.driver, address.dsn) == (driver, dsn or url)


@pytest.mark.parametrize(
    ("url", "pooled"),
    [
        (NEON, False),
        (NEON.replace("-1.", "-1-pooler."), True),
        ("postgresql://me:pw@aws-0.pooler.supabase.com:6543/postgres", True),
        ("postgresql://h/d?pgbouncer=true&connection_limit=1", True),
        ("postgresql://h/d?pgbouncer=false", False),
        ("postgresql://my-pooler.user:pw@h/d", False),
    ],
)
def test_a_transaction_pooler_is_known_by_its_address(url: str, *, pooled: bool):
    address = read_url(url)

    assert address.pooled is pooled
    assert "connection_limit" not in address.dsn


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cr3t@h/d",
        "me:s3cr3t@h/d",
        "",
        "postgresql+pg8000://me:s3cr3t@h/d",
        "postgresql://me:s3cr3t@h:port/d",
        "postgresql://me:s3cr3t#x@h/d",
        "postgresql://me:1/s3cr3t@h/d",
        "postgresql://me:s3cr3t@[h/d",
        "postgresql://me:1?s3cr3t@h/d",
    ],
)
def test_one_that_cannot_be_read_is_refused_without_repeating_its_password(url: str):
    with pytest.raises(ConfigurationError) as refused:
        read_url(url)

    assert "DATABASE_URL" in str(refused.value)
    assert "s3cr3t" not in "".join(traceback.format_exception(refused.value))


def test_the_address_is_told_without_user_and_password():
    address = read_url(NEON)

    assert address.label == "ep-cool-1.eu.aws.neon.tech/shop"
    assert "s3cr3t" not in repr(address)


@pytest.mark.parametrize("name", ["", "1a", "a-b", 'a"b', "a.b", "Ä", "A", "pg_own", "a" * 64, "a;drop", "a\n", "a b"])
def test_a_schemas_name_is_a_plain_name(name: str):
    with pytest.raises(ConfigurationError):
        PostgresStore("postgresql://h/d", schema=name)


@pytest.mark.parametrize("name", ["chatkit_rag", "a", "_x1", "a" * 63])
def test_plain_names_are_taken(name: str):
    assert check_schema_name(name) == name


def test_a_missing_driver_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chatkit_rag.stores.postgres_engines.find_spec", lambda _name: None)

    with pytest.raises(MissingExtra, match=r"pip install 'chatkit-rag\[postgres\]'"):
        PostgresStore("postgresql://h/d")
    with pytest.raises(ConfigurationError, match=r"pip install 'psycopg\[binary\]'"):
        PostgresStore("postgresql+psycopg://h/d")
