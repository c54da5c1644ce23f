"""The tables, as SQLAlchemy metadata; `migrations/` builds the same, and a test compares the two.

Keys of everything that belongs to a scan start with ``scan_id``, and so do the foreign keys between big
tables: the same schema can be sharded by scan. ``encoder``, ``vocabulary``, ``term`` and the tables around
them are small reference tables. docs/data-model.md says what each column means; units are in the names.
"""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def scan_id() -> Column[int]:
    """Key to the scan itself, for tables that no other table of the scan stands above."""
    return Column("scan_id", BigInteger, ForeignKey("scan.scan_id", ondelete="CASCADE"), primary_key=True)


def scan_id_of_parent() -> Column[int]:
    """Part of a key to a parent table, which holds the key to the scan: one check a row less."""
    return Column("scan_id", BigInteger, primary_key=True)


def instance_key(*columns: str) -> ForeignKeyConstraint:
    """Key of a part of a scan to its instance, whose number is in `columns`."""
    return ForeignKeyConstraint(
        ["scan_id", *columns], ["instance.scan_id", "instance.instance_no"], ondelete="CASCADE"
    )


store_meta = Table(
    "store_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    comment="facts about the store itself, such as the hash of the installed sql/ folder",
)

term = Table(
    "term",
    metadata,
    Column("term_id", Integer, Identity(always=True), primary_key=True),
    Column("text", Text, nullable=False, unique=True),
    CheckConstraint("char_length(text) BETWEEN 1 AND 500", name="text"),
    comment="every word or phrase: labels, predicates and asked queries share these ids",
)

vocabulary = Table(
    "vocabulary",
    metadata,
    Column("vocabulary_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column(
        "dataset_id",
        Integer,
        ForeignKey("dataset.dataset_id", ondelete="CASCADE"),
        comment="the dataset it came with; null: someone's own",
    ),
    CheckConstraint("kind IN ('class', 'predicate', 'query')", name="kind"),
    comment="a named list of terms: classes, predicates, or the words that were asked",
)

vocabulary_term = Table(
    "vocabulary_term",
    metadata,
    Column(
        "vocabulary_id",
        Integer,
        ForeignKey("vocabulary.vocabulary_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("term_id", Integer, ForeignKey("term.term_id"), primary_key=True),
    Column("position", Integer, comment="place in the list, from 0; null where the list has no order"),
    Column(
        "stands_for",
        Integer,
        ForeignKey("term.term_id"),
        comment="the term that is meant where this one is the nearest: another wording of it; null: itself",
    ),
    CheckConstraint("stands_for <> term_id", name="stands_for"),
    Index(None, "stands_for"),
)

_VIEWS = "what it is shown: crops, pixels, tokens (it makes them of crops), boxes or text"

encoder = Table(
    "encoder",
    metadata,
    Column("encoder_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Text, nullable=False, comment="hash of the weights and options"),
    Column("dimension", Integer, nullable=False),
    Column("views", Text, nullable=False, comment=_VIEWS),
    Column("is_active", Boolean, nullable=False, comment="the revision that the bare name means"),
    Column("tokens", Integer, comment="tokens a picture; null: it gives one vector"),
    Column(
        "options",
        JSONB,
        nullable=False,
        server_default=text("'{}'"),
        comment="what it was made with, for people to read; the revision is the hash of it",
    ),
    Column(
        "is_chosen",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the name was given to it by `features activate`: dumps leave it so",
    ),
    UniqueConstraint("name", "revision"),
    Index("encoder_one_active_idx", "name", unique=True, postgresql_where=text("is_active")),
    CheckConstraint("dimension BETWEEN 1 AND 4000", name="dimension"),
    CheckConstraint("tokens > 0", name="tokens"),
    CheckConstraint("is_active OR NOT is_chosen", name="chosen"),
)

term_embedding = Table(
    "term_embedding",
    metadata,
    Column("encoder_id", Integer, ForeignKey("encoder.encoder_id", ondelete="CASCADE"), primary_key=True),
    Column("term_id", Integer, ForeignKey("term.term_id", ondelete="CASCADE"), primary_key=True),
    Column("embedding", HALFVEC(), nullable=False),
)

dataset = Table(
    "dataset",
    metadata,
    Column("dataset_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("layout", Text, nullable=False, comment="which reader: 3rscan, ..."),
    Column("root", Text, comment="folder that URIs are relative to; null where only annotations are known"),
    Column("arguments", JSONB, comment="how its reader was last opened, beside the root; null: not known"),
)

scan = Table(
    "scan",
    metadata,
    Column("scan_id", BigInteger, Identity(always=True), primary_key=True),
    Column("dataset_id", Integer, ForeignKey("dataset.dataset_id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("split", Text),
    Column("point_count", Integer, comment="null: geometry absent, only annotations are known"),
    Column("colour_source", Text, comment="texture, vertex, frames or none"),
    Column("reference_name", Text, comment="reference scan of a rescan, by name"),
    Column("t_reference_scan", ARRAY(Double), comment="4x4 row-major, maps this scan into its reference"),
    UniqueConstraint("dataset_id", "name"),
    CheckConstraint("cardinality(t_reference_scan) = 16", name="t_reference_scan"),
)

point_block = Table(
    "point_block",
    metadata,
    scan_id(),
    Column("block_no", Integer, primary_key=True),
    Column("point_count", Integer, nullable=False),
    Column("xyz_m", LargeBinary, nullable=False, comment="float32 little-endian, point by point"),
    Column("rgb", LargeBinary, nullable=False, comment="uint8"),
    Column("instance_no", LargeBinary, nullable=False, comment="int32 little-endian, -1 is background"),
    Column("normals", LargeBinary, comment="float32 little-endian"),
    CheckConstraint("octet_length(xyz_m) = 12 * point_count", name="xyz_m"),
    CheckConstraint("octet_length(rgb) = 3 * point_count", name="rgb"),
    CheckConstraint("octet_length(instance_no) = 4 * point_count", name="instance_no"),
    CheckConstraint("octet_length(normals) = 12 * point_count", name="normals"),
)

frame = Table(
    "frame",
    metadata,
    scan_id(),
    Column("frame_no", Integer, primary_key=True),
    Column("image_uri", Text, nullable=False),
    Column("image_size", ARRAY(Integer), nullable=False, comment="width, height"),
    Column("image_intrinsics", ARRAY(Double), nullable=False, comment="fx, fy, cx, cy in pixels"),
    Column("depth_uri", Text),
    Column("depth_size", ARRAY(Integer)),
    Column("depth_intrinsics", ARRAY(Double)),
    Column("depth_unit_m", Double, comment="metres a depth unit"),
    Column("t_world_camera", ARRAY(Double), nullable=False, comment="4x4 row-major, camera to world"),
    CheckConstraint("cardinality(t_world_camera) = 16", name="t_world_camera"),
    CheckConstraint(
        "depth_uri IS NULL OR (depth_size IS NOT NULL AND depth_intrinsics IS NOT NULL"
        " AND depth_unit_m IS NOT NULL)",
        name="depth",
    ),
)

instance = Table(
    "instance",
    metadata,
    scan_id(),
    Column("instance_no", Integer, primary_key=True, comment="the dataset's own number"),
    Column("label_id", Integer, ForeignKey("term.term_id"), nullable=False),
    Column("point_count", Integer, nullable=False),
    Column("centroid_m", ARRAY(Double), comment="null where nothing says where the instance is"),
    Column("aabb_min_m", ARRAY(Double)),
    Column("aabb_max_m", ARRAY(Double)),
    Column("obb_centre_m", ARRAY(Double)),
    Column("obb_axes", ARRAY(Double), comment="3x3 row-major, a unit axis a row"),
    Column("obb_lengths_m", ARRAY(Double)),
    CheckConstraint("point_count = 0 OR centroid_m IS NOT NULL", name="centroid_m"),
    Index(None, "label_id"),
)

observation = Table(
    "observation",
    metadata,
    scan_id_of_parent(),
    Column("instance_no", Integer, primary_key=True),
    Column("frame_no", Integer, primary_key=True),
    Column("visible_points", Integer, nullable=False),
    Column("unique_pixels", Integer, nullable=False),
    Column("visibility_ratio", REAL, nullable=False, comment="visible points / points of the instance"),
    Column("pixel_box", ARRAY(SmallInteger), nullable=False, comment="x0, y0, x1, y1 inclusive, depth grid"),
    Column("pixels", LargeBinary, nullable=False, comment="packed pixel ids, see docs/data-model.md"),
    instance_key("instance_no"),
    ForeignKeyConstraint(["scan_id", "frame_no"], ["frame.scan_id", "frame.frame_no"], ondelete="CASCADE"),
    Index(None, "scan_id", "frame_no"),
)

node_feature = Table(
    "node_feature",
    metadata,
    scan_id_of_parent(),
    Column("encoder_id", Integer, ForeignKey("encoder.encoder_id", ondelete="CASCADE"), primary_key=True),
    Column("instance_no", Integer, primary_key=True),
    Column("embedding", HALFVEC(), nullable=False, comment="unit length; absent row: no feature"),
    Column("frame_nos", ARRAY(Integer), nullable=False, comment="evidence: the frame of each view"),
    Column("boxes", ARRAY(SmallInteger), nullable=False, comment="x0, y0, x1, y1 a view, on the photo"),
    Column("weights", ARRAY(REAL), nullable=False, comment="weight of each view in the mean"),
    instance_key("instance_no"),
    Index(None, "encoder_id"),
)

pair_feature = Table(
    "pair_feature",
    metadata,
    scan_id_of_parent(),
    Column("encoder_id", Integer, ForeignKey("encoder.encoder_id", ondelete="CASCADE"), primary_key=True),
    Column("instance_a", Integer, primary_key=True),
    Column("instance_b", Integer, primary_key=True),
    Column(
        "embedding",
        HALFVEC(),
        nullable=False,
        comment="unit length, of tokens their mean; absent row: no feature",
    ),
    Column("frame_nos", ARRAY(Integer), nullable=False, comment="evidence: the frame of each view"),
    Column("boxes", ARRAY(SmallInteger), nullable=False, comment="x0, y0, x1, y1 a view, on the photo"),
    Column("weights", ARRAY(REAL), nullable=False, comment="weight of each view in the mean"),
    instance_key("instance_a"),
    instance_key("instance_b"),
    CheckConstraint("instance_a < instance_b", name="order"),
    Index(None, "encoder_id"),
    Index(None, "scan_id", "instance_a"),
    Index(None, "scan_id", "instance_b"),
    comment="what an encoder sees where two instances are seen together; once, whatever the direction",
)

_PAIR_FEATURE = ("scan_id", "encoder_id", "instance_a", "instance_b")

pair_tokens = Table(
    "pair_tokens",
    metadata,
    scan_id_of_parent(),
    Column("encoder_id", Integer, primary_key=True),
    Column("instance_a", Integer, primary_key=True),
    Column("instance_b", Integer, primary_key=True),
    Column(
        "layout",
        Text,
        nullable=False,
        comment="full: one token for the picture, then a square grid row by row; grid17: the grid averaged"
        " to 4 x 4",
    ),
    Column("dtype", Text, nullable=False, comment="fp16, or int8 and fp8 (e4m3) with a scale a token"),
    Column("packing", Text, nullable=False, comment="how the bytes lie in tokens"),
    Column("tokens", LargeBinary, nullable=False),
    Column("scales", LargeBinary, comment="float32 little-endian a token; null where the tokens need none"),
    ForeignKeyConstraint(
        _PAIR_FEATURE, [f"pair_feature.{column}" for column in _PAIR_FEATURE], ondelete="CASCADE"
    ),
    CheckConstraint("layout IN ('full', 'grid17')", name="layout"),
    CheckConstraint("dtype IN ('fp16', 'int8', 'fp8')", name="dtype"),
    CheckConstraint("(scales IS NULL) = (dtype = 'fp16')", name="scales"),
    comment="the mean tokens of the views of a pair, packed; see docs/data-model.md",
)

relation_caption = Table(
    "relation_caption",
    metadata,
    scan_id_of_parent(),
    Column("encoder_id", Integer, ForeignKey("encoder.encoder_id", ondelete="CASCADE"), primary_key=True),
    Column("subject_no", Integer, primary_key=True),
    Column("object_no", Integer, primary_key=True),
    Column("caption", Text, nullable=False, comment="the whole of what it said"),
    Column(
        "phrase_id",
        Integer,
        ForeignKey("term.term_id"),
        comment="the words between the two names, a term whose embedding stands in term_embedding; null:"
        " none were found",
    ),
    instance_key("subject_no"),
    instance_key("object_no"),
    CheckConstraint("subject_no <> object_no", name="not_self"),
    Index(None, "encoder_id"),
    Index(None, "phrase_id"),
    Index(None, "scan_id", "subject_no"),
    Index(None, "scan_id", "object_no"),
    comment="what an encoder says of a pair in one direction",
)

subgraph = Table(
    "subgraph",
    metadata,
    scan_id(),
    Column("subgraph_no", Integer, primary_key=True),
    Column(
        "method",
        Text,
        nullable=False,
        comment="3dssg: given by the annotations; window: of the objects around a place;"
        " full: of the whole scan, numbered -1",
    ),
    Column("centre_m", ARRAY(Double), comment="the middle of the window; null where it is none"),
    Column("max_distance_m", Double, comment="its pairs are not further apart than this; null: all pairs"),
    CheckConstraint("cardinality(centre_m) = 3", name="centre_m"),
    CheckConstraint("(subgraph_no < 0) = (method = 'full')", name="number"),
)

subgraph_member = Table(
    "subgraph_member",
    metadata,
    scan_id_of_parent(),
    Column("subgraph_no", Integer, primary_key=True),
    Column("instance_no", Integer, primary_key=True),
    Column("label_id", Integer, ForeignKey("term.term_id"), nullable=False),
    ForeignKeyConstraint(
        ["scan_id", "subgraph_no"], ["subgraph.scan_id", "subgraph.subgraph_no"], ondelete="CASCADE"
    ),
    instance_key("instance_no"),
    Index(None, "scan_id", "instance_no"),
)

relationship = Table(
    "relationship",
    metadata,
    scan_id_of_parent(),
    Column("subgraph_no", Integer, primary_key=True),
    Column("subject_no", Integer, primary_key=True),
    Column("object_no", Integer, primary_key=True),
    Column("predicate_id", Integer, ForeignKey("term.term_id"), primary_key=True),
    *(
        ForeignKeyConstraint(
            ["scan_id", "subgraph_no", end],
            [f"subgraph_member.{key}" for key in ("scan_id", "subgraph_no", "instance_no")],
            ondelete="CASCADE",
        )
        for end in ("subject_no", "object_no")
    ),
    CheckConstraint("subject_no <> object_no", name="not_self"),
    Index(None, "predicate_id"),
)

_POINT_IDS = "mod(octet_length(point_ids), 4) = 0 AND octet_length(point_ids) > 0"

instance_sample = Table(
    "instance_sample",
    metadata,
    scan_id_of_parent(),
    Column("instance_no", Integer, primary_key=True),
    Column(
        "point_ids",
        LargeBinary,
        nullable=False,
        comment="places of points in the scan, int32 little-endian; the first n are a farthest-point"
        " sample of n",
    ),
    Column("centre_m", ARRAY(Double), nullable=False, comment="mean of the sampled points"),
    Column(
        "scale_m",
        Double,
        nullable=False,
        comment="distance of the furthest sampled point from the centre",
    ),
    Column("neighbours", ARRAY(Integer), nullable=False, comment="instance numbers, ascending"),
    instance_key("instance_no"),
    CheckConstraint(_POINT_IDS, name="point_ids"),
    CheckConstraint("cardinality(centre_m) = 3", name="centre_m"),
    comment="the points of an instance that a model is shown, and the instances around it",
)

pair = Table(
    "pair",
    metadata,
    scan_id_of_parent(),
    Column("instance_a", Integer, primary_key=True),
    Column("instance_b", Integer, primary_key=True),
    Column(
        "point_ids",
        LargeBinary,
        nullable=False,
        comment="places of points in the scan, of all that lie in the box of either, int32 little-endian;"
        " the first n are a farthest-point sample of n",
    ),
    Column("union_points", Integer, nullable=False, comment="points that lie in the box of either"),
    Column("offset_m", ARRAY(Double), nullable=False, comment="centroid of b - centroid of a"),
    Column(
        "min_distance_m",
        Double,
        nullable=False,
        comment="between the points closest_a of a and closest_b of b",
    ),
    Column("closest_a", Integer, nullable=False, comment="place of a point in the scan"),
    Column("closest_b", Integer, nullable=False, comment="place of a point in the scan"),
    instance_key("instance_a"),
    instance_key("instance_b"),
    CheckConstraint("instance_a < instance_b", name="order"),
    CheckConstraint(_POINT_IDS, name="point_ids"),
    CheckConstraint("cardinality(offset_m) = 3", name="offset_m"),
    Index(None, "scan_id", "instance_b"),
    comment="two instances, once whatever the direction and however many subgraphs share them",
)

ledger = Table(
    "ledger",
    metadata,
    scan_id(),
    Column("step", Text, primary_key=True),
    Column("variant", Text, primary_key=True, comment="what of the step: an encoder's name, or empty"),
    Column("chunk", Integer, primary_key=True),
    Column("step_version", Integer, nullable=False),
    Column("options_hash", Text, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("chunks", Integer, nullable=False, comment="how many chunks the work has in all"),
    Column("counts", JSONB, nullable=False),
    Column("problems", JSONB, nullable=False, comment="what was left out: [{kind, detail}, ...]"),
    Column("finished_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column(
        "stale",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="rows of changed instances were dropped since: the step fills in what is missing",
    ),
    comment="what is done, written in the transaction of the rows it speaks of",
)
