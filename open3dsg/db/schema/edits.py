"""Tables of what people say of a scene graph, and of what changed in a room between two visits."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from open3dsg.db.schema.scans import instance_key, metadata, scan_id, scan_id_of_parent

correction = Table(
    "correction",
    metadata,
    scan_id_of_parent(),
    Column("correction_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("instance_no", Integer, nullable=False, comment="the instance; of a relation its subject"),
    Column("object_no", Integer),
    Column(
        "term_id", Integer, ForeignKey("term.term_id"), nullable=False, comment="the label, or the predicate"
    ),
    Column(
        "holds",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="false: the predicate does not hold",
    ),
    Column("author", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("reverted_by", Text),
    Column("reverted_at", DateTime(timezone=True), comment="null: it stands"),
    instance_key("instance_no"),
    instance_key("object_no"),
    CheckConstraint("kind IN ('label', 'relation')", name="kind"),
    CheckConstraint("(kind = 'relation') = (object_no IS NOT NULL)", name="object_no"),
    CheckConstraint("object_no <> instance_no", name="not_self"),
    CheckConstraint("holds OR kind = 'relation'", name="holds"),
    CheckConstraint("char_length(author) BETWEEN 1 AND 200", name="author"),
    CheckConstraint("(reverted_by IS NULL) = (reverted_at IS NULL)", name="reverted"),
    Index(None, "scan_id", "instance_no"),
    Index(None, "scan_id", "object_no"),
    Index(None, "term_id"),
    comment="what a person says of a label or a relation; of several that stand, the newest counts",
)

rescan_object = Table(
    "rescan_object",
    metadata,
    scan_id(),
    Column("reference_no", Integer, primary_key=True, comment="number of the instance in the reference scan"),
    Column(
        "change",
        Text,
        primary_key=True,
        comment="moved: rigidly; changed: not rigidly, as a curtain does; removed: no longer there",
    ),
    Column(
        "instance_no",
        Integer,
        comment="its number in this scan; null where it was removed or not told",
    ),
    Column(
        "t_rescan_reference",
        ARRAY(Double),
        comment="4x4 row-major, maps the object as it stood in the reference scan to where it stands in"
        " this one",
    ),
    Column(
        "symmetry",
        SmallInteger,
        comment="as the dataset numbers it: 0 none, 1 by a half, 2 by a quarter turn, 3 any",
    ),
    CheckConstraint("change IN ('moved', 'changed', 'removed')", name="change"),
    CheckConstraint("cardinality(t_rescan_reference) = 16", name="t_rescan_reference"),
    comment="what the annotations of a rescan say of objects of its reference scan",
)
