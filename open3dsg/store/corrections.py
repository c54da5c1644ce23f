"""What people say of labels and relations: kept beside what was annotated and predicted, and revertable.

Scene graphs and searches take it; what learns, predicts or judges does not. Of several corrections of one
label, or of one relation, the newest that stands is in force: reverting it brings back the one before.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from psycopg import errors

from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import check_term, term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.store.instances import check_instances, read_labels
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from psycopg import Connection

CorrectionKind = Literal["label", "relation"]

MAX_AUTHOR_LENGTH = 200


@dataclass(frozen=True)
class Correction:
    """A correction of the label of `instance`, or of how it relates to `object`."""

    correction_id: int
    dataset: str
    scan: str
    kind: CorrectionKind
    instance: int  # of a relation its subject
    instance_label: str  # as annotated
    object: int | None  # None: of a label
    object_label: str | None
    text: str  # the label, or the predicate
    holds: bool  # False: the predicate does not hold
    author: str
    made_at: datetime
    reverted_by: str | None
    reverted_at: datetime | None  # None: it stands
    in_force: bool  # it stands, and no newer one of the same thing does


def correct_label(connection: Connection[Any], scan: str, instance: int, label: str, author: str) -> int:
    """Say that an instance of a scan, `name` or `dataset/name`, is a `label`; return the correction's number.

    Raises UserError for a scan or instance that is not there, words or an author that cannot be kept, and a
    login that may only read.
    """
    return _correct(connection, scan, [instance], label, author, holds=True)


def correct_relation(
    connection: Connection[Any],
    scan: str,
    subject: int,
    predicate: str,
    object: int,  # noqa: A002
    holds: bool,
    author: str,
) -> int:
    """Say that a predicate `holds` of two instances of a scan, or does not; return the correction's number.

    Raises UserError as `correct_label` does, and where subject and object are the same.
    """
    if subject == object:
        raise UserError(f"instance {subject} cannot be subject and object of one relation")
    return _correct(connection, scan, [subject, object], predicate, author, holds=holds)


def revert_correction(connection: Connection[Any], correction_id: int, author: str) -> Correction:
    """Take a correction back; it stays listed, with who reverted it and when.

    Raises UserError where there is none of that number, where it was reverted already, and for a login that
    may only read.
    """
    reverted = {"correction_id": correction_id, "author": _check_author(author)}
    with _refusals_told():
        done = execute(connection, "correction_revert", reverted).rowcount
    found = _read(connection, None, correction_id)
    if not found:
        raise UserError(f"no correction {correction_id} in the store: `open3dsg correct list` shows them")
    if not done:
        told = f"{found[0].reverted_by} at {found[0].reverted_at:%Y-%m-%d %H:%M}"
        raise UserError(f"correction {correction_id} was reverted already, by {told}")
    return found[0]


def list_corrections(connection: Connection[Any], scan: str | None = None) -> list[Correction]:
    """Return all corrections, or those of one scan, oldest first, with those that were reverted.

    Raises UserError for a scan that is not there.
    """
    return _read(connection, None if scan is None else find_scan(connection, scan).scan_id)


def count_corrections(connection: Connection[Any], scan_id: int) -> int:
    """Count the corrections of a scan, with those that were reverted."""
    return int(fetch_value(connection, "correction_count", {"scan_id": scan_id}))


def corrections_left(connection: Connection[Any], scan_id: int, before: int) -> dict[str, int]:
    """Count for a summary what is left of `before` corrections of a scan; empty where there were none."""
    if not before:
        return {}
    kept = count_corrections(connection, scan_id)
    return {"corrections_kept": kept, "corrections_dropped": before - kept}


def drop_corrections(connection: Connection[Any], scan_id: int) -> None:
    """Delete the corrections of instances whose numbers are about to mean others.

    Those that annotations of subgraphs name stay: their numbers are never given to others.
    """
    execute(connection, "corrections_drop_unannotated", {"scan_id": scan_id})


def _read(
    connection: Connection[Any], scan_id: int | None, correction_id: int | None = None
) -> list[Correction]:
    wanted = {"scan_id": scan_id, "correction_id": correction_id}
    return [Correction(*row) for row in execute(connection, "corrections", wanted)]


def _correct(
    connection: Connection[Any], scan: str, numbers: Sequence[int], text: str, author: str, *, holds: bool
) -> int:
    """Write the correction of a label, or with two numbers of a relation."""
    is_label = len(numbers) == 1
    text = check_term(text.strip(), "the label" if is_label else "the predicate")
    author = _check_author(author)
    stored = find_scan(connection, scan)
    check_instances(stored, read_labels(connection, stored), numbers)
    with _refusals_told(), terms_in_use(connection), connection.transaction():
        (term_id,) = term_ids(connection, [text]).values()
        row = {
            "scan_id": stored.scan_id,
            "kind": "label" if is_label else "relation",
            "instance": numbers[0],
            "object": None if is_label else numbers[1],
            "term_id": term_id,
            "holds": holds,
            "author": author,
        }
        made = fetch_value(connection, "correction_add", row)
    if made is None:
        raise UserError(f"an instance of scan {stored.key} was dropped meanwhile: run the same command again")
    return int(made)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Raise UserError where the database lets us read and not write."""
    try:
        yield
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise UserError(
            f"this login may not correct anything ({error.diag.message_primary}): OPEN3DSG_DATABASE_URL names"
            " it; one of open3dsg_writer may"
        ) from error


def _check_author(author: str) -> str:
    """Return the name of an author as it is kept; UserError for one that cannot be."""
    author = check_term(author.strip(), "the author")
    if len(author) > MAX_AUTHOR_LENGTH:
        raise UserError(f"the author has {len(author)} characters; at most {MAX_AUTHOR_LENGTH} are allowed")
    return author
