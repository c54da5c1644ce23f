"""Asking before something is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from open3dsg.errors import UserError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def yes_option(command: _Command) -> _Command:
    """Add ``--yes``, the answer given beforehand."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def confirm(what: str, *, yes: bool) -> None:
    """Ask whether to do `what`, unless --yes says so; no is an end with exit status 1.

    Raises UserError where there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"this would {what}: say --yes, there is no terminal to ask on")
    if not click.confirm(f"{what}?", err=True):
        click.echo("nothing was done", err=True)
        raise click.exceptions.Exit(1)
