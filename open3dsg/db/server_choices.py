"""What its operator chose for an embedded server, kept in its data folder for every later start."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from open3dsg.db import server_files as files
from open3dsg.db.server_account import Account
from open3dsg.errors import UserError

CHOICES_FILE = "open3dsg.json"

_EVERY_ADDRESS = ("*", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound
_HOST = r"\*|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"


@dataclass(frozen=True)
class Listen:
    """A TCP address to listen on: a name or number of this machine, ``*`` for all, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as `parse_listen` reads it."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def url(self) -> str:
        """Return the form of the URL for other machines; the login and its password are to be filled in."""
        return f"postgresql://NAME:PASSWORD@{host_for_others(self.host)}:{self.port}/{files.DATABASE}"


@dataclass(frozen=True)
class Choices:
    """Where to listen (None: the Unix socket only), and the memory to fit to (None: the machine's)."""

    listen: Listen | None = None
    memory_bytes: int | None = None


def parse_listen(text: str) -> Listen:
    """Read ``HOST:PORT``, ``*:PORT`` or ``[IPv6]:PORT``; raises UserError with what was expected instead."""
    found = re.fullmatch(rf"(?:\[(?P<six>[^\]]+)\]|(?P<host>{_HOST})):(?P<port>[0-9]{{1,5}})", text.strip())
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise UserError(
            f"cannot listen on {text!r}: expected HOST:PORT with a port of 1 to 65535, such as 0.0.0.0:5432"
            " or [::]:5432 (every address of this machine) or 127.0.0.1:5432 (this machine only)"
        )
    if found["six"] is not None:
        try:
            ipaddress.IPv6Address(found["six"])
        except ValueError:
            raise UserError(
                f"cannot listen on {text!r}: {found['six']} is no IPv6 address; brackets are for those alone"
            ) from None
    return Listen(found["six"] or found["host"], int(found["port"]))


def host_for_others(address: str) -> str:
    """Return what a URL on another machine calls an address that is listened on here."""
    return _bracketed(socket.gethostname() if address in _EVERY_ADDRESS else address)


def read_choices(data_folder: Path) -> Choices:
    """Read the choices of a data folder; where there is no file, nothing was chosen."""
    path = data_folder / CHOICES_FILE
    try:
        raw = json.loads(path.read_bytes())
        listen, memory = raw["listen"], raw["memory_bytes"]
        if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int)):
            raise ValueError(f"memory_bytes is {memory!r}")
        return Choices(None if listen is None else parse_listen(listen), memory)
    except (FileNotFoundError, NotADirectoryError):
        return Choices()
    except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}): delete it and choose again with `open3dsg db start --listen`"
            " and `open3dsg db tune --apply`"
        ) from error


def remember_choices(data_folder: Path, choices: Choices, account: Account) -> None:
    """Keep `choices` for every later start."""
    listen = None if choices.listen is None else str(choices.listen)
    text = json.dumps({"listen": listen, "memory_bytes": choices.memory_bytes}, indent=2) + "\n"
    files.write_whole(data_folder / CHOICES_FILE, text.encode(), account.uid, account.gid)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
