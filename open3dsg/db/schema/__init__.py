"""The tables, as SQLAlchemy metadata; `migrations/` builds the same, and a test compares the two."""

from open3dsg.db.schema import edits as edits  # these tables register with the same metadata
from open3dsg.db.schema import runs as runs
from open3dsg.db.schema.scans import metadata as metadata
