"""`open3dsg correct`: what people say of labels and relations, beside what was annotated and predicted."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.store.corrections import Correction

_Command = TypeVar("_Command", bound=Callable[..., Any])


def author_option(command: _Command) -> _Command:
    """Add ``--author`` to a command."""
    return click.option("--author", metavar="NAME", help="Who says so.  [default: the system's user name]")(
        command
    )


@click.group()
def correct() -> None:
    """Correct labels and relations, list what was corrected, and take it back.

    A correction is kept beside annotations and predictions, which stay as they are. Scene graphs and searches
    take it; training and evaluation never do.
    """


@correct.command(epilog="Example: open3dsg correct label room-0001 12 armchair")
@click.argument("scan")
@click.argument("number", type=int)
@click.argument("label")
@author_option
@json_option
def label(scan: str, number: int, label: str, author: str | None, as_json: bool) -> None:
    """Say that the instance NUMBER of SCAN is a LABEL."""
    from open3dsg.store.corrections import correct_label

    with open_for_work() as store:
        made = correct_label(store.connection, scan, number, label, _author(author))
    _print_made(made, as_json)


@correct.command(epilog="Example: open3dsg correct relation room-0001 12 'standing on' 3")
@click.argument("scan")
@click.argument("subject", type=int)
@click.argument("predicate")
@click.argument("object", type=int)
@click.option("--not", "denied", is_flag=True, help="Say that it does not hold.")
@author_option
@json_option
def relation(
    scan: str,
    subject: int,
    predicate: str,
    object: int,  # noqa: A002
    denied: bool,
    author: str | None,
    as_json: bool,
) -> None:
    """Say that PREDICATE holds of the instances SUBJECT and OBJECT of SCAN, by their numbers."""
    from open3dsg.store.corrections import correct_relation

    with open_for_work() as store:
        made = correct_relation(
            store.connection, scan, subject, predicate, object, not denied, _author(author)
        )
    _print_made(made, as_json)


@correct.command("list", epilog="Example: open3dsg correct list room-0001")
@click.argument("scan", required=False)
@json_option
def list_(scan: str | None, as_json: bool) -> None:
    """List all corrections, or those of SCAN, the oldest first.

    Of several of the same thing the newest that stands is in force; the others are superseded until it is
    reverted.
    """
    from open3dsg.store.corrections import list_corrections

    with open_for_work() as store:
        found = list_corrections(store.connection, scan)
    if as_json:
        print_json(found)
        return
    if found:
        headers = ("id", "scan", "correction", "state", "author", "made")
        print_table(headers, map(_row, found), right=("id",))
    message(f"{counted(len(found), 'correction')}")


@correct.command(epilog="Example: open3dsg correct revert 3")
@click.argument("correction_id", metavar="ID", type=int)
@author_option
@json_option
def revert(correction_id: int, author: str | None, as_json: bool) -> None:
    """Take back the correction ID, as `correct list` has it; it stays listed."""
    from open3dsg.store.corrections import revert_correction

    with open_for_work() as store:
        reverted = revert_correction(store.connection, correction_id, _author(author))
    if as_json:
        print_json(reverted)
        return
    click.echo(f"reverted correction {correction_id}: {_told(reverted)}")


def _author(given: str | None) -> str:
    """Return who says so; UserError where the system does not know."""
    if given is not None:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise UserError("the system has no name for its user: say who you are with --author") from error


def _print_made(correction_id: int, as_json: bool) -> None:
    if as_json:
        print_json({"correction_id": correction_id})
        return
    click.echo(f"correction {correction_id}; `open3dsg correct revert {correction_id}` takes it back")


def _row(one: Correction) -> tuple[object, ...]:
    state = "in force" if one.in_force else "superseded"
    if one.reverted_at is not None:
        state = f"reverted by {one.reverted_by}"
    return (one.correction_id, one.scan, _told(one), state, one.author, f"{one.made_at:%Y-%m-%d %H:%M}")


def _told(one: Correction) -> str:
    """Say what a correction says."""
    if one.kind == "label":
        return f"{one.instance} {one.instance_label} is: {one.text}"
    denied = "" if one.holds else "not "
    return f"{one.instance} {one.instance_label} {denied}{one.text} {one.object} {one.object_label}"
