"""`open3dsg scans copy`: scans from one database to another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import counted, json_option, message, print_json, progress
from open3dsg.cli.session import exit_on_failures, open_for_work, split_option
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from psycopg import Connection


@click.command(epilog="Example: open3dsg scans copy --dataset 3rscan --to postgresql://me@server/scans")
@click.argument("scans", nargs=-1, metavar="[SCAN]...")
@click.option("--to", "to", required=True, metavar="URL", help="The database to copy to, migrated.")
@click.option("--dataset", metavar="NAME", help="Scans of this dataset.")
@split_option
@click.option("--replace", is_flag=True, help="Delete a scan that is there, and copy it anew.")
@json_option
def copy(
    scans: tuple[str, ...], to: str, dataset: str | None, split: str | None, replace: bool, as_json: bool
) -> None:
    """Copy SCANs with their features, captions, graphs and corrections to another database.

    Scans that are there already stay, so that the same command goes on where it was cut off. Predictions and
    evaluations are of runs, and are not copied. Photographs are files, which stay where they are.
    """
    from open3dsg.db.connect import check_schema, connect
    from open3dsg.store.scans import select_scans
    from open3dsg.store.transfer import check_target

    if not scans and dataset is None and split is None:
        raise UserError("name the scans to copy, or say --dataset or --split")
    with open_for_work() as store, connect(to) as target:
        try:
            check_schema(target)
        except UserError as error:
            raise UserError(f"--to: {error} (OPEN3DSG_DATABASE_URL says on which database)") from error
        target.rollback()
        target.autocommit = True
        check_target(store.connection, target)
        chosen = select_scans(store.connection, dataset=dataset, split=split, scans=scans, bare=True)
        with progress("copy", len(chosen)) as advance:
            rows, there, failures = _copy_all(store.connection, target, chosen, replace, advance)
    done = len(chosen) - len(there) - len(failures)
    if as_json:
        print_json({"copied": done, "there": there, "rows": dict(rows), "failures": failures})
    else:
        click.echo(f"{counted(done, 'scan')} copied, {len(there)} there already, {len(failures)} failed")
        if rows:
            click.echo("  " + ", ".join(f"{name} {count:,}" for name, count in sorted(rows.items())))
        if there and not done:
            message("--replace copies those that are there anew")
    exit_on_failures(failures)


def _copy_all(
    source: Connection[Any],
    target: Connection[Any],
    scans: Sequence[str],
    replace: bool,
    advance: Callable[[str], None],
) -> tuple[Counter[str], list[str], dict[str, str]]:
    """Copy each scan in a transaction of its own; return rows a table, those there already, and failures."""
    from psycopg import errors

    from open3dsg.store.scans import find_scan
    from open3dsg.store.transfer import copy_scan

    rows: Counter[str] = Counter()
    there: list[str] = []
    failures: dict[str, str] = {}
    for key in scans:
        try:
            copied = copy_scan(source, target, find_scan(source, key), replace=replace)
        except UserError as error:
            failures[key] = str(error)
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
            raise UserError(f"--to: {error.diag.message_primary}: give a login that may write") from error
        else:
            if copied.rows is None:
                there.append(key)
            else:
                rows.update(copied.rows)
        advance(key)
    return rows, there, failures
