"""`open3dsg db roles` and `open3dsg db user`: who may do what, and the logins of others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work
from open3dsg.settings import load_settings, mask_password

if TYPE_CHECKING:
    from open3dsg.db.roles import RoleName

_ROLES = ("reader", "writer", "worker", "owner")
_ADMINISTRATOR = "open3dsg db roles --sql | psql --set ON_ERROR_STOP=1 --single-transaction"


@click.command(epilog="Example: open3dsg db roles")
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL that makes them, for an administrator.")
@json_option
def roles(as_sql: bool, as_json: bool) -> None:
    """Show the roles of open3dsg, whether they are ready in this database, and who has them.

    `open3dsg db migrate` makes them where its login has the right to (CREATEROLE); else an administrator
    runs the SQL of --sql in this database.
    """
    from open3dsg.db.roles import role_states, roles_sql

    if as_sql:
        click.echo(roles_sql(), nl=False)
        return
    with open_for_work() as store:
        states = role_states(store.connection)
    if as_json:
        print_json(states)
        return
    ready = ("yes" if state.ready else "no" if state.exists else "absent" for state in states)
    rows = [(state.role, word, ", ".join(state.members)) for state, word in zip(states, ready, strict=True)]
    print_table(("role", "ready", "members"), rows)
    if not all(state.ready for state in states):
        message(f"for an administrator, in this database: {_ADMINISTRATOR} ADMINISTRATORS_URL")


@click.group()
def user() -> None:
    """Make, list and drop the logins by which other people and machines use this database."""


@user.command(epilog="Example: open3dsg db user add ana --role reader")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What it may do; see docs/roles.md.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, not make one.")
@json_option
def add(name: str, role: RoleName, password_stdin: bool, as_json: bool) -> None:
    """Make a login; its password is shown this once, in the URL for the other machine."""
    from open3dsg.db.roles import add_login, login_url, new_password

    given = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    password = given if given is not None else new_password()
    with open_for_work() as store:
        add_login(store.connection, name, role, password)
        url = login_url(store.connection, load_settings().database_url, name, password)
    shown = mask_password(url) if url is not None and password_stdin else url
    if as_json:
        secret = None if password_stdin else password
        print_json({"name": name, "role": role, "password": secret, "url": shown})
        return
    click.echo(f"made the login {name}, a {role}")
    if not password_stdin:
        click.echo(f"password: {password}")
    if shown is None:
        message("the server listens on no address: `open3dsg db start --listen HOST:PORT` lets others in")
    else:
        click.echo(f"on the other machine: export OPEN3DSG_DATABASE_URL='{shown}'")


@user.command("list", epilog="Example: open3dsg db user list --json")
@json_option
def list_(as_json: bool) -> None:
    """List the logins that have a role of open3dsg."""
    from open3dsg.db.roles import logins

    with open_for_work() as store:
        found = logins(store.connection)
    if as_json:
        print_json(found)
    else:
        print_table(("login", "role"), [(login.name, login.role) for login in found])


@user.command(epilog="Example: open3dsg db user drop ana")
@click.argument("name")
def drop(name: str) -> None:
    """Drop a login that has a role of open3dsg; what it wrote stays."""
    from open3dsg.db.roles import drop_login

    with open_for_work() as store:
        drop_login(store.connection, name)
    click.echo(f"dropped the login {name}")
