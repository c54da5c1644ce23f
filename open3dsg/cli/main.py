"""The command `open3dsg`: its groups are imported only when used, so that help comes at once."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import click

from open3dsg import __version__
from open3dsg.errors import UserError


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the help."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, LazyCommand] = {
    "db": LazyCommand("open3dsg.cli.db", "db", "Start, stop, migrate and inspect the database."),
    "config": LazyCommand("open3dsg.cli.config", "config", "Show the settings and where each comes from."),
    "data": LazyCommand("open3dsg.cli.data", "data", "Make dataset folders of synthetic rooms."),
    "ingest": LazyCommand("open3dsg.cli.ingest", "ingest", "Read a dataset folder into the database."),
    "observe": LazyCommand(
        "open3dsg.cli.observe", "observe", "Find which instance is seen in which frame, and at which pixels."
    ),
    "features": LazyCommand("open3dsg.cli.features", "features", "Compute embeddings of instances."),
    "scans": LazyCommand("open3dsg.cli.scans", "scans", "List scans: what is done and what is missing."),
    "query": LazyCommand("open3dsg.cli.query", "query", "Ask the store in words."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when one of them is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the pipeline."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: open3dsg ingest 3rscan ~/3RScan && open3dsg observe && open3dsg features dump --nodes",
)
@click.version_option(__version__, prog_name="open3dsg")
def cli() -> None:
    """Open-vocabulary 3D scene graphs in PostgreSQL.

    Read scans of rooms into a database, compute embeddings of their objects and ask for them in words. Each
    step does only what is missing and can be interrupted at any time.
    """


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 2 a mistake that its user can mend, 130 interrupted.

    Any other exception is a bug in open3dsg and shows its traceback.
    """
    try:
        code = cli.main(prog_name="open3dsg", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again to continue", err=True)
        code = 130
    except BrokenPipeError:
        _drop_stdout()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _drop_stdout() -> None:
    """Keep the interpreter from flushing, at its exit, into a pipe whose reader has gone."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
