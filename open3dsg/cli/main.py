"""The command `open3dsg`: its groups are imported only when used, so that help comes at once."""

from __future__ import annotations

import _thread
import importlib
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from open3dsg import __version__
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_GIVEN_AGAIN_AFTER_S = 0.05

_interrupted = threading.Event()


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the help."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, LazyCommand] = {
    "db": LazyCommand("open3dsg.cli.db", "db", "Start, stop, migrate and inspect the database."),
    "config": LazyCommand("open3dsg.cli.config", "config", "Show the settings and where each comes from."),
    "data": LazyCommand(
        "open3dsg.cli.data", "data", "Make dataset folders of synthetic rooms, and check folders of any."
    ),
    "ingest": LazyCommand("open3dsg.cli.ingest", "ingest", "Read a dataset folder into the database."),
    "masks": LazyCommand(
        "open3dsg.cli.masks", "masks", "Make instances of scans from masks of their frames."
    ),
    "observe": LazyCommand(
        "open3dsg.cli.observe", "observe", "Find which instance is seen in which frame, and at which pixels."
    ),
    "graph": LazyCommand(
        "open3dsg.cli.graph", "graph", "Cut scans into training units, with samples of their points."
    ),
    "encoders": LazyCommand(
        "open3dsg.cli.encoders",
        "encoders",
        "List the encoders of pictures and words, and check that one works.",
    ),
    "features": LazyCommand(
        "open3dsg.cli.features", "features", "Compute embeddings of instances and of pairs."
    ),
    "train": LazyCommand(
        "open3dsg.cli.train", "train", "Teach a network to embed objects and relations from points alone."
    ),
    "runs": LazyCommand("open3dsg.cli.runs", "runs", "List, compare, continue and delete training runs."),
    "profile": LazyCommand("open3dsg.cli.profile", "profile", "Measure what encoders and training cost."),
    "jobs": LazyCommand(
        "open3dsg.cli.jobs", "jobs", "Share steps out over workers, on this machine and on others."
    ),
    "worker": LazyCommand("open3dsg.cli.worker", "worker", "Do what waits in the queue, until Ctrl-C."),
    "scans": LazyCommand("open3dsg.cli.scans", "scans", "List, relabel, move, copy and delete scans."),
    "vocab": LazyCommand(
        "open3dsg.cli.vocab", "vocab", "Keep lists of classes and predicates with their embeddings."
    ),
    "predict": LazyCommand(
        "open3dsg.cli.predict",
        "predict",
        "Predict scene graphs by a trained run, from points, pictures or both.",
    ),
    "evaluate": LazyCommand(
        "open3dsg.cli.evaluate",
        "evaluate",
        "Judge predictions against annotations, and show what is behind it.",
    ),
    "query": LazyCommand("open3dsg.cli.query", "query", "Ask the store in words."),
    "show": LazyCommand(
        "open3dsg.cli.show",
        "show",
        "Draw instances on photos, list those that no photo shows, and how they relate.",
    ),
    "correct": LazyCommand(
        "open3dsg.cli.correct",
        "correct",
        "Correct labels and relations, list what was corrected, and take it back.",
    ),
    "view": LazyCommand(
        "open3dsg.cli.view",
        "view",
        "Show scans, their graphs and the answers to questions in a browser, until Ctrl-C.",
    ),
    "export": LazyCommand(
        "open3dsg.cli.export", "export", "Write what the store holds to files that other programs read."
    ),
    "mcp": LazyCommand(
        "open3dsg.cli.mcp",
        "mcp",
        "Let agents ask the store by the Model Context Protocol; nothing can be changed.",
    ),
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
    """Run the command line and exit: 0 done, 2 trouble that its user can mend, 130 interrupted.

    Any other exception is a bug in open3dsg and shows its traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # A letter that the terminal lacks is shown by its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    _watch_for_ctrl_c()
    try:
        _check_arguments(sys.argv[1:])
        code = cli.main(prog_name="open3dsg", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        code = 2
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        click.echo(f"error: {_in_one_line(error)}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _tell_interrupted()
    except BrokenPipeError:
        _drop_stdout()
        code = 1
    except Exception as error:
        reason = _database_trouble(error)
        if _interrupted.is_set():  # half-way through, cleaning up may fail in ways of its own
            code = _tell_interrupted()
        elif reason is not None:
            click.echo(f"error: {reason}", err=True)
            code = 2
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _watch_for_ctrl_c() -> None:
    """Remember that Ctrl-C was pressed, and see that it is not lost."""
    # Another handler means that we were told to ignore it, as nohup does.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _give_again


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    _interrupted.set()
    raise KeyboardInterrupt


def _give_again(unraisable: UnraisableHookArgs) -> None:
    """Python drops, with a traceback, a Ctrl-C that falls into a callback from C: raise it a little later."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(_GIVEN_AGAIN_AFTER_S, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _tell_interrupted() -> int:
    click.echo("interrupted; run the same command again to continue", err=True)
    return 130


def _in_one_line(error: click.ClickException) -> str:
    """Say what is wrong with the words of a command, and where its help is."""
    told = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return told if context is None else f"{told} (see `{context.command_path} --help`)"


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8: the database holds names, words and folders as text."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(f"the argument {argument!r} is not UTF-8 text") from None


def _database_trouble(error: Exception) -> str | None:
    """Say in one line that the server went away or refused us; None where it is something else."""
    if "psycopg" not in sys.modules:
        return None
    from psycopg import OperationalError, errors

    told = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OperationalError):
        return f"the database: {told}; when it is well again, run the same command again to continue"
    if isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
        return f"the database: {told}; OPEN3DSG_DATABASE_URL names the role and the server: take one that may"
    return None


def _drop_stdout() -> None:
    """Keep the interpreter from flushing, at its exit, into a pipe whose reader has gone."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
