"""Ingest of a scene graph that another program made: a scan that no other file replaces by a slip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.steps.ingest import Ingest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection


GRAPHS = "dsg"  # the layout of datasets of such scans


@dataclass(frozen=True)
class IngestGraph(Ingest):
    """`Ingest` of a graph without points; one file is one scan, by whatever name."""

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:
        """Return what is left to do, as `Ingest` does; UserError where the scan holds another graph."""
        left = super().parts(connection, scan)
        scan_id = self._scan_id(connection, scan)
        if scan_id is None or not left or self.replace:
            return left
        for entry in self.entries(scan):
            if execute(connection, "ledger_other_options", {"scan_id": scan_id, **entry.key()}).fetchone():
                raise UserError(
                    f"the scan {self.dataset}/{scan} holds another graph: --name gives this one a name of its"
                    " own, --replace puts it in the place of that one"
                )
        return left
