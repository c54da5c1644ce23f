"""`open3dsg db tune`: memory settings fitted to the machine of the database."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import json_option, message, print_json, print_table
from open3dsg.errors import UserError
from open3dsg.settings import load_settings, mask_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection

    from open3dsg.db.server import EmbeddedServer
    from open3dsg.db.tuning import Machine

_RELOAD_TAKES_S = 2.0

_AS_FITTED, _AT_ONCE, _AT_START, _OVERRIDDEN = "as fitted", "at once", "at the next start", "set elsewhere"


@click.command(epilog="Example: open3dsg db tune --memory 16GB --apply")
@click.option("--memory", metavar="SIZE", help="Memory of PostgreSQL's machine, such as 16GB; or: all.")
@click.option("--apply", "apply_it", is_flag=True, help="Set what is fitted, now and at every later start.")
@json_option
def tune(memory: str | None, apply_it: bool, as_json: bool) -> None:
    """Compare PostgreSQL's memory settings with those fitted to its machine.

    The embedded server is fitted at every start, to all memory of the machine or its container, or to what
    was last given with --memory and --apply. For a server of yours the lines are printed that its
    administrator may run.
    """
    from open3dsg.db.connect import connect, database_url, embedded_server
    from open3dsg.db.tuning import fitted, sql_lines

    settings = load_settings()
    url = database_url(settings)
    server = embedded_server(settings) if settings.database_url is None else None
    machine = _machine_elsewhere(url, memory, apply_it) if server is None else _machine_here(server, memory)
    parameters, lines = fitted(machine), []
    with connect(url) as connection:
        if server is None:
            lines = sql_lines(parameters, connection.info.dbname)
        rows = (
            _apply(connection, server, machine) if server and apply_it else _compare(connection, parameters)
        )
    if as_json:
        print_json({"machine": asdict(machine), "settings": rows, "sql": lines})
    else:
        _print(rows, lines)


def _machine_elsewhere(url: str, memory: str | None, apply_it: bool) -> Machine:
    """Return the machine of a given server, whose memory must be given."""
    from open3dsg.db.tuning import Machine, parse_memory

    shown = mask_password(url)
    if apply_it:
        raise UserError(f"cannot set parameters of {shown}: leave --apply out and run the lines printed then")
    if memory is None or memory.lower() == "all":
        raise UserError(f"how much memory the machine of {shown} has is unknown: say it, as in --memory 64GB")
    return Machine(parse_memory(memory))


def _machine_here(server: EmbeddedServer, memory: str | None) -> Machine:
    """Return the machine of the embedded server, with as much memory as it shall be fitted to."""
    from open3dsg.db.tuning import parse_memory

    if memory is None:
        return server.fitted_machine()
    machine = server.machine()
    if memory.lower() == "all":
        return machine
    given = parse_memory(memory)
    if given > machine.memory_bytes:
        raise UserError(f"--memory {memory}: there are {machine.memory_bytes / 2**30:.1f} GB here: give less")
    return replace(machine, memory_bytes=given)


def _apply(connection: Connection[Any], server: EmbeddedServer, machine: Machine) -> list[dict[str, Any]]:
    """Set the parameters fitted to `machine`; return them when the server has read them."""
    from open3dsg.db.queries import execute
    from open3dsg.db.tuning import fitted

    every = machine.memory_bytes == server.machine().memory_bytes
    server.fit_memory(None if every else machine.memory_bytes)
    connection.autocommit = True  # a session takes new settings between its transactions
    execute(connection, "reload_configuration")
    deadline = time.monotonic() + _RELOAD_TAKES_S
    while True:
        rows = _compare(connection, fitted(machine), applied=True)
        if all(row["effect"] != _OVERRIDDEN for row in rows) or time.monotonic() > deadline:
            return rows
        time.sleep(0.05)


def _compare(
    connection: Connection[Any], parameters: Mapping[str, str], *, applied: bool = False
) -> list[dict[str, Any]]:
    """Return name, present value, fitted value and effect of each parameter."""
    from open3dsg.db.queries import execute

    rows = []
    found = execute(connection, "server_parameters", {"names": list(parameters)})
    for name, present, needs_start, waits_for_start in found:
        if present == parameters[name]:
            effect = _AS_FITTED
        elif waits_for_start or (needs_start and not applied):
            effect = _AT_START
        else:
            effect = _OVERRIDDEN if applied else _AT_ONCE
        rows.append({"name": name, "present": present, "fitted": parameters[name], "effect": effect})
    return rows


def _print(rows: list[dict[str, Any]], lines: list[str]) -> None:
    print_table(
        ("setting", "present", "fitted", "takes effect"),
        [(row["name"], row["present"] or "-", row["fitted"], row["effect"]) for row in rows],
    )
    for line in lines:
        click.echo(line)
    effects = {row["effect"] for row in rows}
    if _OVERRIDDEN in effects:
        message("set elsewhere: by ALTER SYSTEM, ALTER DATABASE or ALTER ROLE, whose RESET gives it free")
    if _AT_START in effects:
        way = "" if lines else ": `open3dsg db stop`, and the next command starts it"
        message(f"a server reads some settings only when it starts{way}")
