"""Every command explains itself, and docs/cli.md says what the commands say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from open3dsg.cli.main import cli

CHECKOUT = Path(__file__).parents[2]


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from commands(found, *path, name)


ALL = dict(commands(cli, "open3dsg"))


@pytest.mark.parametrize("name", ALL)
def test_a_command_has_help_an_example_and_help_for_each_option(name: str) -> None:
    command = ALL[name]
    assert command.help
    assert command.help.rstrip().endswith(".")
    if not isinstance(command, click.Group):
        assert (command.epilog or "").startswith("Example: ")
        assert name in (command.epilog or "")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.opts


@pytest.mark.parametrize("columns", ["60", "200"])
def test_the_reference_is_up_to_date_in_any_terminal(columns: str) -> None:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "scripts/generate_cli_reference", "--check"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": columns},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_reference_has_every_command() -> None:
    page = (CHECKOUT / "docs/cli.md").read_text(encoding="utf-8").splitlines()
    headings = [line.lstrip("#").strip() for line in page if line.startswith("##")]
    assert headings == list(ALL)
