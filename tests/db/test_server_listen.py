"""The embedded server on TCP: who gets in, what is remembered, which addresses are refused."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.db.server import EmbeddedServer
from open3dsg.db.server_choices import Listen
from open3dsg.errors import UserError
from tests.embedded import server_in, short_folder
from tests.servers import free_port

both_versions = pytest.mark.parametrize("version", [16, 18])


@pytest.fixture(scope="module")
def templates() -> Iterator[dict[int, Path]]:
    """Data folders made once, with a login `guest`."""
    with short_folder() as path:
        servers = [server_in(path, version) for version in (16, 18)]
        for server in servers:
            with psycopg.connect(server.ensure_running()) as connection:
                connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
            server.stop()
        yield {server.version: server.data_folder for server in servers}


@pytest.fixture
def made(templates: dict[int, Path]) -> Iterator[Callable[..., EmbeddedServer]]:
    """Give a function that makes a stopped server in a folder of its own; it is stopped at the end."""
    with short_folder() as home:

        def make(version: int = 18, **options: Any) -> EmbeddedServer:
            subprocess.run(["cp", "-a", templates[version], home], check=True)
            return server_in(home, version, **options)

        yield make


@pytest.fixture
def address() -> Listen:
    return Listen("127.0.0.1", free_port())


def join(address: Listen, login: str = "guest", password: str = "secret") -> object:
    """Connect over TCP; return what the server takes us for."""
    url = address.url().replace("NAME:PASSWORD", f"{login}:{password}")
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT current_user || ' over ' || inet_server_port()").fetchone()


def test_it_listens_until_told_otherwise(made: Callable[..., EmbeddedServer], address: Listen) -> None:
    server = made()
    assert server.status().listen is None
    url = server.listen_on(address)
    assert server.status().listen == str(address)
    assert join(address) == (f"guest over {address.port}",)
    server.stop()
    assert server.status().listen == str(address)

    # Any command starts it: it listens as before.
    assert server.ensure_running() == url
    assert join(address) == (f"guest over {address.port}",)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("open3dsg",)

    server.listen_on(None)
    assert server.status().listen is None
    with pytest.raises(psycopg.OperationalError, match="refused"):
        join(address)
    server.stop()
    server.ensure_running()
    assert server.status().listen is None


@both_versions
def test_only_logins_with_their_password_get_in(
    made: Callable[..., EmbeddedServer], version: int, address: Listen
) -> None:
    made(version).listen_on(address)
    assert join(address) == (f"guest over {address.port}",)
    for login, password, reason in (
        ("guest", "wrong", "password authentication failed"),
        ("guest", "", "no password supplied"),
        ("nobody", "secret", "password authentication failed"),
        ("open3dsg", "secret", "rejects connection"),
    ):
        with pytest.raises(psycopg.OperationalError, match=reason):
            join(address, login, password)


def test_passwords_are_kept_and_sent_as_scram(made: Callable[..., EmbeddedServer], address: Listen) -> None:
    with psycopg.connect(made().listen_on(address)) as connection:
        row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'guest'").fetchone()
        assert row is not None
        assert row[0].startswith("SCRAM-SHA-256$")
    url = address.url().replace("NAME:PASSWORD", "guest:secret")
    psycopg.connect(f"{url}?require_auth=scram-sha-256").close()
    with pytest.raises(psycopg.OperationalError, match="authentication method requirement"):
        psycopg.connect(f"{url}?require_auth=none,password,md5")


def test_a_running_server_is_started_anew_only_where_nobody_is_connected(
    made: Callable[..., EmbeddedServer], address: Listen
) -> None:
    told: list[str] = []
    server = made(say=told.append)
    server.ensure_running()
    told.clear()  # as root, that folders were opened for passing
    with psycopg.connect(server.ensure_running()) as connection:
        with pytest.raises(UserError, match="1 connections are open: let them end"):
            server.listen_on(address)
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.status().listen is None
    server.listen_on(address)
    assert told == ["starting PostgreSQL anew to change where it listens"]
    pid = server.status().pid
    server.listen_on(address)
    assert (server.status().pid, len(told)) == (pid, 1)


def _privileged() -> bool:
    """Tell whether port 1 is closed to the server's user."""
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return start.exists() and int(start.read_text()) > 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (Listen("203.0.113.1", 5999), "it is not one of this machine's"),
        (Listen("nohost.invalid", 5999), "not known|failure in name resolution"),
        pytest.param(
            Listen("127.0.0.1", 1),
            "ports below 1024 are the system's",
            marks=pytest.mark.skipif(not _privileged(), reason="every port is open to everybody here"),
        ),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_not_remembered(
    made: Callable[..., EmbeddedServer], address: Listen, reason: str
) -> None:
    server = made()
    with pytest.raises(UserError, match=rf"cannot listen on .*({reason}).*--no-listen"):
        server.listen_on(address)
    server.ensure_running()
    assert server.status().listen is None


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_a_port_that_another_program_has(made: Callable[..., EmbeddedServer], host: str) -> None:
    # With "*" the IPv6 half of the port is free, and PostgreSQL would be content with it.
    with socket.create_server(("0.0.0.0" if host == "*" else host, 0)) as other:
        address = Listen(host, other.getsockname()[1])
        server = made()
        with pytest.raises(UserError, match="another program has the port"):
            server.listen_on(address)
        assert not server.status().running
    server.listen_on(address)
    assert server.status().listen == str(address)


def test_a_port_lost_to_another_program_is_told_at_an_automatic_start(
    made: Callable[..., EmbeddedServer], address: Listen
) -> None:
    server = made()
    server.listen_on(address)
    server.stop()
    with (
        socket.create_server((address.host, address.port)),
        pytest.raises(UserError, match=f"cannot listen on {address}: .*--no-listen"),
    ):
        server.ensure_running()
    server.ensure_running()
    assert join(address) == (f"guest over {address.port}",)


def test_a_long_path_and_a_long_port_have_room_for_the_socket(
    templates: dict[int, Path], address: Listen
) -> None:
    with short_folder() as top:
        # One byte more would not fit with a port of five digits; with one of four it would.
        home = top / ("x" * (103 - len(f"{top}//postgres-18/.s.PGSQL.65535")))
        home.mkdir()
        subprocess.run(["cp", "-a", templates[18], home], check=True)
        server = server_in(home)
        assert len(os.fsencode(server.data_folder)) + len("/.s.PGSQL.65535") == 103
        with psycopg.connect(server.listen_on(Listen("127.0.0.1", address.port))) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
