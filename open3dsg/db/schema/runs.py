"""Tables of training runs: checkpoints, what they predict, and how that is judged."""

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
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from open3dsg.db.schema.scans import instance_key, metadata, scan_id, scan_id_of_parent

_ORIGIN = "origin IN ('student', 'teacher', 'fused')"


def _encoder(name: str, comment: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, Integer, ForeignKey("encoder.encoder_id"), nullable=nullable, comment=comment)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _part_of(key: str, parent: str) -> Column[int]:
    return Column(key, Integer, ForeignKey(f"{parent}.{key}", ondelete="CASCADE"), primary_key=True)


def _term(name: str, *, nullable: bool = True, comment: str | None = None) -> Column[int]:
    return Column(name, Integer, ForeignKey("term.term_id"), nullable=nullable, comment=comment)


instance_attribute = Table(
    "instance_attribute",
    metadata,
    scan_id_of_parent(),
    Column("instance_no", Integer, primary_key=True),
    Column(
        "kind",
        Text,
        primary_key=True,
        comment="material, color, shape, state, ..., as the annotations call it",
    ),
    Column("term_id", Integer, ForeignKey("term.term_id"), primary_key=True),
    instance_key("instance_no"),
    CheckConstraint("char_length(kind) BETWEEN 1 AND 100", name="kind"),
    Index(None, "term_id"),
    comment="what annotations say of an instance beside its label",
)

run = Table(
    "run",
    metadata,
    Column("run_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column(
        "status",
        Text,
        nullable=False,
        comment="running also where its process was killed: `open3dsg runs resume` goes on",
    ),
    Column("message", Text, comment="why it stopped or failed"),
    Column("options", JSONB, nullable=False),
    _encoder("node_encoder_id", "whose features of instances it learns to give", nullable=False),
    _encoder("relation_encoder_id", "whose features or captions of pairs; null: classes are learnt"),
    _encoder(
        "words_encoder_id",
        "whose words its relations are compared with; null: they are in no space of words",
    ),
    Column(
        "targets",
        Text,
        nullable=False,
        comment="what of pairs it learns: pooled features, tokens, embedded captions, or classes",
    ),
    Column("predicates", ARRAY(Text), comment="the classes of relations, in the order of its scores"),
    Column(
        "units",
        JSONB,
        nullable=False,
        comment="what it trains and validates on: {part: {dataset/scan: [subgraph, ...]}}",
    ),
    Column(
        "manifest",
        Text,
        nullable=False,
        comment="hash of the units and of the work their samples and features came from",
    ),
    Column("code_revision", Text, nullable=False),
    Column(
        "step", Integer, nullable=False, server_default=text("0"), comment="optimizer steps that are done"
    ),
    Column("epoch", Integer, nullable=False, server_default=text("0"), comment="whole epochs that are done"),
    _now("started_at"),
    _now("updated_at"),
    CheckConstraint("char_length(name) BETWEEN 1 AND 200 AND strpos(name, ':') = 0", name="name"),
    CheckConstraint("status IN ('running', 'stopped', 'finished', 'failed')", name="status"),
    CheckConstraint("targets IN ('pooled', 'tokens', 'captions', 'classes')", name="targets"),
    CheckConstraint("(relation_encoder_id IS NULL) = (targets = 'classes')", name="relation_encoder"),
    CheckConstraint("(predicates IS NOT NULL) = (targets = 'classes')", name="predicates"),
    Index(None, "node_encoder_id"),
    Index(None, "relation_encoder_id"),
    Index(None, "words_encoder_id"),
    comment="a training run",
)

run_metric = Table(
    "run_metric",
    metadata,
    _part_of("run_id", "run"),
    Column("name", Text, primary_key=True, comment="such as train/loss, val/loss, val/relation_loss, lr"),
    Column("step", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("value", Double, nullable=False),
    comment="losses and rates of a run, by optimizer step",
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("checkpoint_id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_id", Integer, ForeignKey("run.run_id", ondelete="CASCADE"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column(
        "position",
        Integer,
        nullable=False,
        comment="units of the epoch that were trained on, over all processes",
    ),
    Column("val_loss", Double, comment="null: it was made between two validations"),
    Column("is_last", Boolean, nullable=False, comment="where `open3dsg runs resume` goes on"),
    Column("size", BigInteger, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 of the file"),
    Column("uri", Text, comment="the file; null: its bytes are in checkpoint_part"),
    _now("made_at"),
    Index(None, "run_id"),
    Index("checkpoint_one_last_idx", "run_id", unique=True, postgresql_where=text("is_last")),
    comment="the state of a run at a step, as torch saves it",
)

checkpoint_part = Table(
    "checkpoint_part",
    metadata,
    Column(
        "checkpoint_id",
        BigInteger,
        ForeignKey("checkpoint.checkpoint_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("part_no", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    comment="a checkpoint in pieces, numbered from 0",
)

prediction = Table(
    "prediction",
    metadata,
    Column("prediction_id", Integer, Identity(always=True), primary_key=True),
    Column("run_id", Integer, ForeignKey("run.run_id", ondelete="CASCADE"), nullable=False),
    Column("label", Text, nullable=False),
    Column(
        "source",
        Text,
        nullable=False,
        comment="student: from points alone; teacher: the 2D features alone; fused: both",
    ),
    Column("weight_2d", REAL, nullable=False, comment="share of the 2D features where there are any"),
    _encoder("node_words_id", "whose words the nodes are compared with", nullable=False),
    _encoder(
        "relation_words_id",
        "whose words the edges are compared with; null: they have scores of classes, or nothing to compare",
    ),
    Column("checkpoint_step", Integer),
    Column("checkpoint_digest", Text),
    Column("options", JSONB, nullable=False),
    Column("code_revision", Text, nullable=False),
    _now("made_at"),
    UniqueConstraint("run_id", "label"),
    CheckConstraint("source IN ('student', 'teacher', 'fused')", name="source"),
    CheckConstraint("weight_2d BETWEEN 0 AND 1", name="weight_2d"),
    CheckConstraint("(source = 'teacher') = (checkpoint_digest IS NULL)", name="checkpoint"),
    Index(None, "node_words_id"),
    Index(None, "relation_words_id"),
    comment="what a run says of scans, made in one way; called RUN:LABEL",
)

node_prediction = Table(
    "node_prediction",
    metadata,
    scan_id_of_parent(),
    _part_of("prediction_id", "prediction"),
    Column("instance_no", Integer, primary_key=True),
    Column(
        "embedding",
        HALFVEC(),
        nullable=False,
        comment="unit length, in the space of prediction.node_words_id",
    ),
    Column(
        "origin",
        Text,
        nullable=False,
        comment="where it came from: of fused ones student where there was no 2D feature",
    ),
    instance_key("instance_no"),
    CheckConstraint(_ORIGIN, name="origin"),
    Index(None, "prediction_id"),
    Index(None, "scan_id", "instance_no"),
    comment="the predicted embedding of an instance",
)

edge_prediction = Table(
    "edge_prediction",
    metadata,
    scan_id_of_parent(),
    _part_of("prediction_id", "prediction"),
    Column("subject_no", Integer, primary_key=True),
    Column("object_no", Integer, primary_key=True),
    Column(
        "embedding",
        HALFVEC(),
        comment="unit length, in the space of prediction.relation_words_id; null: nothing was said, or"
        " classes were learnt",
    ),
    Column("scores", ARRAY(REAL), comment="of the classes run.predicates, 0 to 1"),
    Column("caption", Text, comment="the whole of what was said, where an encoder speaks"),
    _term("phrase_id", comment="the words between the two names, a term"),
    Column("origin", Text, nullable=False),
    instance_key("subject_no"),
    instance_key("object_no"),
    CheckConstraint("subject_no <> object_no", name="not_self"),
    CheckConstraint(_ORIGIN, name="origin"),
    Index(None, "prediction_id"),
    Index(None, "phrase_id"),
    Index(None, "scan_id", "subject_no"),
    Index(None, "scan_id", "object_no"),
    comment="what is predicted of a pair in one direction",
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("evaluation_id", Integer, Identity(always=True), primary_key=True),
    Column(
        "prediction_id",
        Integer,
        ForeignKey("prediction.prediction_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("protocol", Text, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("options_hash", Text, nullable=False),
    Column(
        "vocabularies",
        JSONB,
        nullable=False,
        comment="{classes: {name, hash}, predicates: {name, hash}, ...}",
    ),
    Column("metrics", JSONB, nullable=False),
    Column("scans", Integer, nullable=False),
    Column("code_revision", Text, nullable=False),
    _now("made_at"),
    UniqueConstraint("prediction_id", "protocol", "options_hash"),
    CheckConstraint("protocol IN ('published', 'strict')", name="protocol"),
    comment="the figures of a prediction under one protocol",
)

evaluation_rank = Table(
    "evaluation_rank",
    metadata,
    scan_id(),
    _part_of("evaluation_id", "evaluation"),
    Column("item_no", Integer, primary_key=True),
    Column(
        "kind",
        Text,
        nullable=False,
        comment="object: its label; predicate: of a pair; relationship: the whole triplet; attribute: a"
        " material, a colour",
    ),
    Column("subgraph_no", Integer, comment="null: it was judged once for the whole scan"),
    Column("subject_no", Integer, nullable=False),
    Column("object_no", Integer),
    _term("subject_label_id", nullable=False),
    _term("term_id", nullable=False, comment="what is true: the label, the predicate, the attribute"),
    _term("object_label_id"),
    Column(
        "rank",
        Integer,
        comment="at which place it was predicted, from 1; null: beyond the places looked at",
    ),
    _term("predicted_id", comment="what was predicted first in its place"),
    CheckConstraint("kind IN ('object', 'predicate', 'relationship', 'attribute')", name="kind"),
    CheckConstraint("rank > 0", name="rank"),
    Index(None, "evaluation_id"),
    Index(None, "subject_label_id"),
    Index(None, "term_id"),
    Index(None, "object_label_id"),
    Index(None, "predicted_id"),
    comment="an annotation that was judged: the rows behind the figures of an evaluation",
)
