"""When a reader was deleted: what a request that came before would store is refused, for as long as the mark stays."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"


def upgrade(schema: str) -> None:
    """Adds an empty column, which rewrites no row; code of the version before knows nothing of it, and need not."""
    op.execute(text(f'ALTER TABLE "{schema}".owners ADD COLUMN deleted_at timestamptz'))
