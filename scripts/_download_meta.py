"""The command that scripts/download_3rscan_meta and scripts/download_scannet_meta share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from open3dsg.datasets.download import Options, Remote, checked_base_url, fetch
from open3dsg.errors import UserError


def command(
    doc: str, terms: str, remotes: Sequence[Remote], finish: Callable[[Path], None] = lambda _folder: None
) -> click.Command:
    """Make the command. `finish` is called when all files are there."""

    @click.command(help=doc)
    @click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
    @click.option("--base-url", help="Take all files from below this address, by the same paths.")
    @click.option("--unverified", is_flag=True, help="Keep files whose checksum is not the known one.")
    def main(folder: Path, base_url: str | None, unverified: bool) -> None:
        click.echo(terms)
        options = Options(base_url and checked_base_url(base_url), verify=not unverified)
        failed = [remote for remote in remotes if not _fetch(remote, folder, options)]
        if failed:
            raise UserError(f"{len(failed)} of {len(remotes)} files were not fetched; run it again to go on")
        finish(folder)

    return main


def run(main: click.Command) -> None:
    """Run the command: 0 where all is there, 2 with a line each where something is not."""
    try:
        main()
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def _fetch(remote: Remote, folder: Path, options: Options) -> bool:
    """Fetch one file and say what became of it; return whether it is there."""
    names = ", ".join(target.path for target in remote.targets)
    try:
        with _bar(remote.target.path) as advance:
            fetched = fetch(remote, folder, options, advance)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        return False
    click.echo(f"{'fetched' if fetched else 'there already'}: {names}")
    return True


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
