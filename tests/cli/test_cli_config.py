"""`open3dsg config` and what holds for every command, through the installed program."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from open3dsg.cli.main import COMMANDS, cli

PROGRAM = Path(sys.executable).parent / "open3dsg"


def _run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPEN3DSG_", "XDG_", "PG"))}
    environment |= {"HOME": str(home), **variables}
    return subprocess.run(
        [PROGRAM, *arguments], check=False, capture_output=True, text=True, env=environment, timeout=120
    )


def _commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)


def test_json_says_where_each_value_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "my settings.toml"
    file.write_text('database_url = "postgresql://u:secret@h/d"\n', encoding="utf-8")
    done = _run(
        tmp_path, "config", "--json", OPEN3DSG_CONFIG=str(file), OPEN3DSG_HOME=str(tmp_path / "ünï store")
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "secret" not in done.stdout
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (rows["home"]["value"], rows["home"]["source"]) == (
        str(tmp_path / "ünï store"),
        "environment OPEN3DSG_HOME",
    )
    assert (rows["database_url"]["value"], rows["database_url"]["source"]) == (
        "postgresql://u:***@h/d",
        f"file {file}",
    )
    assert (rows["postgres_version"]["value"], rows["postgres_version"]["source"]) == ("18", "default")


def test_the_table_has_a_line_a_setting_and_nothing_is_created(tmp_path: Path) -> None:
    done = _run(tmp_path, "config")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "setting",
        "home",
        "database_url",
        "postgres_version",
        "checkpoints",
        "encoders",
    ]
    assert all(line == line.rstrip() for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_settings_file_is_one_line_and_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("home = [", encoding="utf-8")
    done = _run(tmp_path, "config", OPEN3DSG_CONFIG=str(file))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {file}: not valid TOML")
    assert len(done.stderr.splitlines()) == 1


def test_version_help_and_unknown_commands(tmp_path: Path) -> None:
    assert _run(tmp_path, "--version").stdout.startswith("open3dsg, version ")
    for option in ("-h", "--help"):
        done = _run(tmp_path, option)
        assert done.returncode == 0
        assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    unknown = _run(tmp_path, "qurey")
    assert unknown.returncode == 2
    assert "No such command 'qurey'" in unknown.stderr


def test_help_imports_no_command(tmp_path: Path) -> None:
    program = (
        "import sys; from open3dsg.cli.main import cli; cli.main(['--help'], standalone_mode=False);"
        "print([name for name in sys.modules if name.startswith('open3dsg.cli.') or name in"
        " ('numpy', 'psycopg', 'rich', 'sqlalchemy', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['open3dsg.cli.main']"


def test_every_command_has_help_and_an_example() -> None:
    for name, command in _commands(cli):
        assert command.help, name
        if not isinstance(command, click.Group):
            assert "Example: " in (command.epilog or ""), name
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)


def test_the_lazy_help_is_that_of_the_commands() -> None:
    context = click.Context(cli)
    for name, entry in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(limit=1000) == entry.help


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [PROGRAM, "config"],
            check=False,
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HOME": str(tmp_path)},
            timeout=120,
        )
    finally:
        os.close(write_end)
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [("config", "--jsn"), ("db", "start", "now")])
def test_usage_errors_exit_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = _run(tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"`open3dsg {' '.join(arguments[:-1])} --help`" in line
