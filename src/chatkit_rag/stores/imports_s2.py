"""`s2`, the second of the first systems: ChatKit's own JSON in one column, as ChatKit's first versions wrote it. Pure.

Its times have no offset, its models' own names stand for items' ids, and its attachments' addresses have expired.
"""

from typing import Any, cast

from chatkit.types import Attachment, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter

from chatkit_rag.stores.ids import derived_id
from chatkit_rag.stores.imports_rows import Json, Layout, SourceRow, json_of, list_of, object_of, time_of, timed

_ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
_ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)

# What the Agents SDK calls every item of a Chat Completions model: several of a thread may go by it.
_NO_NAME = "__fake_id__"


def _thread(row: SourceRow) -> tuple[str, BaseModel]:
    fields = _placed(_unwrapped(row, "thread"), row, id=row.id)
    return row.id, timed(ThreadMetadata.model_validate(fields), row)


def _item(row: SourceRow) -> tuple[str, BaseModel]:
    id_ = derived_id("msg", row.thread_id, row.id, row.created_at) if row.id == _NO_NAME else row.id
    fields = _placed(_unwrapped(row, "item"), row, id=id_, thread_id=row.thread_id)
    if "attachments" in fields:
        fields["attachments"] = [_usable(one) for one in list_of(fields["attachments"])]
    return id_, timed(_ITEM.validate_python(fields), row)


def _attachment(row: SourceRow) -> tuple[str, BaseModel]:
    return row.id, _ATTACHMENT.validate_python(_usable(_unwrapped(row, "attachment") | {"id": row.id}))


def _unwrapped(row: SourceRow, name: str) -> Json:
    """The fields of a record, which may be wrapped in the name of its kind."""
    document = object_of(json_of(row.payload), "its record")
    return object_of(document[name], "its record") if set(document) == {name} else document


def _placed(fields: Json, row: SourceRow, **known: str) -> Json:
    """The fields, with what the columns say: the old server found the row by these."""
    times = {} if fields.get("created_at") else {"created_at": time_of(row)}
    return fields | times | known


def _usable(attachment: Any) -> Any:
    """An attachment's record without where to upload it; an image that cannot be shown is a file."""
    if not isinstance(attachment, dict):
        return attachment
    fields = cast("Json", attachment) | {"upload_descriptor": None}
    if fields.get("type") == "image" and not fields.get("preview_url"):
        fields["type"] = "file"
    return fields


S2 = Layout("s2", {"thread": _thread, "item": _item, "attachment": _attachment})
