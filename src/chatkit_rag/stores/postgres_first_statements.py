"""How the first systems' tables are walked through in order, page by page; the statements. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatkit_rag.stores.imports import Kind

_LEAST = {"timestamp": "'-infinity'", "integer": "0", "bigint": "0"}
"""What stands in an order for no value, by the beginning of the type's name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of theirs."""

    name: str
    type: str
    required: bool

    def of(self, table: str) -> str:
        """The column, in a statement."""
        return f"{table}.{quoted(self.name)}"

    def key(self, table: str) -> tuple[str, str]:
        """An expression to order by, and its type; never NULL, which comes neither before nor after anything."""
        if self.required:
            return self.of(table), self.type
        for beginning, least in _LEAST.items():
            if self.type.startswith(beginning):
                return f"coalesce({self.of(table)}, {least})", self.type
        return f"coalesce(CAST({self.of(table)} AS text), '')", "text"


@dataclass(frozen=True, slots=True)
class Found:
    """The tables of a layout, and where they are."""

    layout: str
    schema: str
    tables: dict[str, dict[str, Column]]

    @property
    def threads(self) -> str:
        """The name of the table of threads."""
        return "chatkit_threads" if self.layout == "s1" else "threads"

    @property
    def items(self) -> str:
        """The name of the table of items."""
        return "chatkit_thread_items" if self.layout == "s1" else "items"

    def named(self, table: str) -> str:
        """The table, in a statement."""
        return f"{quoted(self.schema)}.{quoted(table)}"


@dataclass(frozen=True, slots=True)
class Walk:
    """The statements that read a table in order. They give the fields of a `SourceRow`, and `keys`."""

    first: str
    further: str
    """Takes the keys of the last row of the page before, as `:behind_0`, …"""


def walk_of(found: Found, kind: Kind, tenant: str) -> Walk | None:
    """How to walk through the records of a kind; None where the layout has no table for them.

    `tenant` names the column of a thread's tenant, or is empty.
    """
    match kind:
        case "thread":
            return _walk(found, found.threads, ("user_id", "created_at", "id"), tenant)
        case "item" if found.layout == "s1":
            return _walk(found, found.items, ("thread_id", "sequence_number", "id"), tenant)
        case "item":
            return _walk(found, found.items, ("thread_id", "created_at", "id", "user_id"), tenant)
        case "attachment" if found.layout == "s1":
            attachments = "source.item_type = 'attachment'"
            return _walk(found, found.items, ("thread_id", "sequence_number", "id"), tenant, only=attachments)
        case "attachment":
            return _walk(found, "attachments", ("user_id", "id"), tenant) if "attachments" in found.tables else None


def _walk(found: Found, table: str, order: Sequence[str], tenant: str, *, only: str = "true") -> Walk:
    columns = found.tables[table]
    keys = [columns[name].key("source") for name in order]
    behind = ", ".join(f"CAST(CAST(:behind_{number} AS text) AS {kind})" for number, (_, kind) in enumerate(keys))
    further = f"({', '.join(key for key, _ in keys)}) > ({behind})"
    return Walk(*(_page(found, table, keys, tenant, where=f"{only} AND {part}") for part in ("true", further)))


def _page(found: Found, table: str, keys: Sequence[tuple[str, str]], tenant: str, *, where: str) -> str:
    columns, in_thread = found.tables[table], table == found.items
    owner = "thread" if in_thread else "page"
    owners = found.tables[found.threads] if in_thread else columns
    user = columns if "user_id" in columns else owners
    numbered = ", ".join(f"{key} AS key_{number}" for number, (key, _) in enumerate(keys))
    names = [f"page.key_{number}" for number in range(len(keys))]
    # The columns are cut to a page before any is made text: sorting would carry all of them along.
    return f"""
        WITH page AS (
            SELECT source.*, {numbered} FROM {found.named(table)} AS source
            WHERE {where} ORDER BY {", ".join(key for key, _ in keys)} LIMIT :rows
        ), shown AS MATERIALIZED (
            SELECT row_number() OVER (ORDER BY {", ".join(names)}) AS place,
                ARRAY[{", ".join(f"CAST({name} AS text)" for name in names)}] AS keys,
                CAST(page.id AS text) AS id,
                {"CAST(page.thread_id AS text)" if in_thread else "''"} AS thread_id,
                coalesce(CAST({user["user_id"].of("page" if user is columns else owner)} AS text), '') AS user_id,
                {_tenant(owners, owner, tenant)} AS tenant,
                {_moment(columns, "page")} AS created_at,
                {"CAST(row_to_json(page) AS text)" if found.layout == "s1" else "CAST(page.data AS text)"} AS payload,
                {_lost(found, columns) if in_thread else "''"} AS lost
            FROM page {_its_thread(found, columns) if in_thread else ""}
        )
        SELECT * FROM (
            SELECT *, sum(octet_length(payload)) OVER (ORDER BY place) - octet_length(payload) AS before FROM shown
        ) AS measured
        WHERE before < :bytes ORDER BY place"""


def _its_thread(found: Found, columns: dict[str, Column]) -> str:
    same_user = "AND thread.user_id IS NOT DISTINCT FROM page.user_id" if "user_id" in columns else ""
    return f"LEFT JOIN {found.named(found.threads)} AS thread ON thread.id = page.thread_id {same_user}"


def _lost(found: Found, columns: dict[str, Column]) -> str:
    """What is wrong with an item's thread."""
    anybodys = f"EXISTS (SELECT FROM {found.named(found.threads)} AS other WHERE other.id = page.thread_id)"
    foreign = f"WHEN {anybodys} THEN 'its thread is another user''s'" if "user_id" in columns else ""
    return f"CASE WHEN thread.id IS NOT NULL THEN '' {foreign} ELSE 'its thread is not there' END"


def _tenant(columns: dict[str, Column], table: str, tenant: str) -> str:
    if not tenant:
        return "''"
    return f"coalesce(CAST({columns[tenant].of(table)} AS text), '')" if tenant in columns else "CAST(NULL AS text)"


def _moment(columns: dict[str, Column], table: str) -> str:
    """When a row was written, in UTC. A time without an offset is one of the database's own time zone."""
    column = columns.get("created_at")
    if column is None or not column.type.startswith("timestamp"):
        return "''"
    in_utc = f"CAST({column.of(table)} AS timestamptz) AT TIME ZONE 'UTC'"
    written = f"""to_char({in_utc}, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
    return f"CASE WHEN isfinite({column.of(table)}) THEN {written} ELSE '' END"


def quoted(name: str) -> str:
    """A name, as it may stand in statements."""
    return '"' + name.replace('"', '""') + '"'
