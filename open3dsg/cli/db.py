"""`open3dsg db`: the embedded server, and the database whichever server it is on."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from open3dsg.cli.db_roles import roles, user
from open3dsg.cli.db_tune import tune
from open3dsg.cli.output import json_option, message, print_json, print_pairs, print_table
from open3dsg.errors import UserError
from open3dsg.settings import load_settings, mask_password

if TYPE_CHECKING:
    from open3dsg.db.server import EmbeddedServer
    from open3dsg.db.server_choices import Listen
    from open3dsg.settings import Settings


@click.group()
def db() -> None:
    """Start, stop, migrate and inspect the database.

    Without OPEN3DSG_DATABASE_URL the database is an embedded PostgreSQL in the data folder. Every command
    that needs it starts it, and it stays up until `open3dsg db stop`.
    """


db.add_command(roles)
db.add_command(user)
db.add_command(tune)


@db.command(epilog="Example: open3dsg db start --listen 0.0.0.0:5432")
@click.option("--listen", metavar="HOST:PORT", help="Let other machines join, with passwords, from now on.")
@click.option("--no-listen", is_flag=True, help="Serve this machine only, from now on.")
def start(listen: str | None, no_listen: bool) -> None:
    """Start the embedded server; nothing happens where it runs.

    With --listen it takes connections over TCP from logins made by `open3dsg db user add`, whose passwords
    are never sent in clear; what is asked and answered is not encrypted. 0.0.0.0 is every address of this
    machine. Every later start listens there too, until --no-listen.
    """
    from open3dsg.db.server_choices import parse_listen

    if listen is not None and no_listen:
        raise UserError("--listen and --no-listen exclude each other: say one of them")
    address = None if listen is None else parse_listen(listen)
    server = _own_server(load_settings(), "start")
    if address is not None or no_listen:
        server.listen_on(address)
    else:
        server.ensure_running()
    status = server.status()
    click.echo(f"PostgreSQL {status.version} is running (pid {status.pid}) in {status.data_folder}")
    if status.listen is not None:
        _tell_how_to_join(parse_listen(status.listen))


@db.command(epilog="Example: open3dsg db stop")
def stop() -> None:
    """Stop the embedded server, ending its connections."""
    server = _own_server(load_settings(), "stop")
    click.echo("stopped" if server.stop() else "was not running")


@db.command(epilog="Example: open3dsg db status --json")
@json_option
def status(as_json: bool) -> None:
    """Show which server is used and whether it runs; starts nothing."""
    from open3dsg.db.connect import embedded_server

    settings = load_settings()
    if settings.database_url is not None:
        found = _given_server_status(settings.database_url)
    else:
        found = {"server": "embedded", **asdict(embedded_server(settings).status())}
    if as_json:
        print_json(found)
    else:
        print_pairs(found)


@db.command(epilog='Example: pg_dump --dbname "$(open3dsg db url --with-password)" --file backup.sql')
@click.option("--with-password", is_flag=True, help="Print the password, which is shown as *** otherwise.")
def url(with_password: bool) -> None:
    """Print the URL of the database for other programs, starting the embedded server."""
    from open3dsg.db.connect import database_url

    found = database_url(load_settings())
    click.echo(found if with_password else mask_password(found))


@db.command(epilog="Example: OPEN3DSG_DATABASE_URL=postgresql://me@host/rooms open3dsg db migrate")
@json_option
def migrate(as_json: bool) -> None:
    """Bring tables and SQL functions to this version of open3dsg.

    The embedded database is migrated without being asked; one on a server of yours only by this command.
    """
    from open3dsg.db import connect
    from open3dsg.db import migrate as schema

    url = connect.database_url(load_settings())
    connect.connect(url).close()  # says in one line why a server cannot be reached
    applied = schema.migrate(url)
    if as_json:
        print_json({"applied": applied, "revision": schema.head_revision()})
    elif applied:
        click.echo(f"migrated to {schema.head_revision()}: {', '.join(applied)}")
    else:
        click.echo(f"tables are at {schema.head_revision()}")


@db.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: open3dsg db psql -- -c 'SELECT name FROM scan'",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the database; ARGUMENTS go to psql."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from open3dsg.db.connect import database_url

    options = conninfo_to_dict(database_url(load_settings()))
    password = options.pop("password", None)
    # Everybody on the machine can read the arguments of a process, but not its environment.
    environment = os.environ | ({"PGPASSWORD": str(password)} if password is not None else {})
    program = _psql_program()
    os.execve(program, [program, make_conninfo("", **options), *arguments], environment)  # noqa: S606


@db.command(epilog="Example: open3dsg db stats")
@json_option
def stats(as_json: bool) -> None:
    """Count the rows of every table and the space they take."""
    from open3dsg.db.connect import open_store
    from open3dsg.db.stats import database_stats

    with open_store(load_settings()) as connection:
        found = database_stats(connection)
    if as_json:
        print_json(found)
        return
    headers = ("table", "rows", "bytes", "index bytes")
    rows = [
        (name, f"{table['rows']:,}", f"{table['bytes']:,}", f"{table['index_bytes']:,}")
        for name, table in found["tables"].items()
    ]
    print_table(
        headers, [*rows, ("whole database", "", f"{found['database_bytes']:,}", "")], right=headers[1:]
    )


def _tell_how_to_join(address: Listen) -> None:
    reach = "for this machine only" if address.is_local else "for other machines"
    click.echo(f"listening on {address} {reach}: passwords asked for, connections not encrypted")
    message("next: open3dsg db user add NAME --role worker")
    message(f"then, where that login works: OPEN3DSG_DATABASE_URL={address.url()}")


def _own_server(settings: Settings, action: str) -> EmbeddedServer:
    from open3dsg.db.connect import embedded_server

    if settings.database_url is not None:
        raise UserError(
            f"cannot {action} {mask_password(settings.database_url)}: that server is not ours;"
            f" unset database_url ({settings.sources['database_url']}) to use the embedded one"
        )
    return embedded_server(settings)


def _given_server_status(url: str) -> dict[str, object]:
    from open3dsg.db.connect import connect

    with connect(url) as connection:
        version = connection.info.parameter_status("server_version")
    return {"server": "given", "running": True, "version": version, "url": mask_password(url)}


def _psql_program() -> str:
    from open3dsg.db.server_programs import binaries

    try:
        return str(binaries(18) / "psql")
    except UserError:
        found = shutil.which("psql")
        if found is None:
            raise
        message(f"using {found}")
        return found
