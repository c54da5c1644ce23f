"""Logins: made whole or not at all, with passwords that the server never sees."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.db.roles import Login, add_login, drop_login, login_url, logins, new_password
from open3dsg.errors import UserError
from tests.conftest import as_url

Database = psycopg.Connection[Any]


def verifies(verifier: str, password: str) -> bool:
    """Tell whether a SCRAM-SHA-256 verifier is one of `password` (RFC 5802, section 3)."""
    method, rest, keys = verifier.split("$")
    iterations, salt = rest.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return method == "SCRAM-SHA-256" and base64.b64decode(keys.split(":")[0]) == stored


def make_login(database: Database, name: str, grant: str = "") -> None:
    if database.execute("SELECT to_regrole(%s)", [name]).fetchone() == (None,):
        database.execute(f"CREATE ROLE {name} LOGIN; {grant}".encode())


def test_a_password_is_stored_as_scram_and_is_in_no_log(database: Database) -> None:
    password, name = "p:@/%ss wörd" + new_password(), 'a"na; DROP'
    database.execute("SET log_statement = 'all'")
    add_login(database, name, "worker", password)
    assert Login(name, "worker") in logins(database)
    row = database.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [name]).fetchone()
    assert row is not None
    assert verifies(row[0], password)
    assert not verifies(row[0], password + "x")
    drop_login(database, name)
    assert name not in {login.name for login in logins(database)}
    folder = database.execute("SELECT current_setting('data_directory')").fetchone()
    assert folder is not None
    log = Path(f"{folder[0]}.log").read_text()
    assert 'CREATE ROLE "a""na; DROP"' in log
    assert password not in log
    assert password[-32:] not in log


@pytest.mark.parametrize("name", ["", "pg_ana", "public", "a\nb", "ä" * 32])
def test_a_name_that_cannot_be_one_is_refused(database: Database, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a login"):
        add_login(database, name, "reader", new_password())


def test_a_login_is_made_whole_or_not_at_all(database: Database, database_url: str) -> None:
    make_login(database, "login_owner", "GRANT open3dsg_owner TO login_owner")
    before = logins(database)
    with pytest.raises(UserError, match="has a role 'open3dsg' already: take another name, or"):
        add_login(database, "open3dsg", "reader", new_password())
    with pytest.raises(UserError, match="password is shorter than 8"):
        add_login(database, "ana", "reader", "short")
    with pytest.raises(UserError, match="cannot be typed"):
        add_login(database, "ana", "reader", "a long\x00password")
    with psycopg.connect(as_url(database_url, user="login_owner"), autocommit=True) as owner:
        with pytest.raises(UserError, match="login_owner may not make logins that have open3dsg_reader"):
            add_login(owner, "ana", "reader", new_password())
        with pytest.raises(UserError, match="login_owner may not drop 'login_owner'"):
            drop_login(owner, "login_owner")
    assert logins(database) == before


def test_only_logins_of_ours_are_dropped(database: Database) -> None:
    make_login(database, "login_stranger")
    for name in ("login_stranger", "open3dsg", "open3dsg_reader", "nobody"):
        with pytest.raises(UserError, match=f"no login '{name}' of open3dsg"):
            drop_login(database, name)
    make_login(database, "login_granted", "GRANT open3dsg_reader TO login_granted")
    database.execute("GRANT SELECT ON scan TO login_granted")
    with pytest.raises(UserError, match='DROP OWNED BY "login_granted";'):
        drop_login(database, "login_granted")
    database.execute("DROP OWNED BY login_granted")
    drop_login(database, "login_granted")
    assert "login_granted" not in {login.name for login in logins(database)}


def test_a_login_is_listed_by_the_role_that_may_most(database: Database) -> None:
    make_login(database, "login_both", "GRANT open3dsg_reader, open3dsg_owner TO login_both")
    assert Login("login_both", "owner") in logins(database)
    drop_login(database, "login_both")


def test_the_url_of_a_login(database: Database) -> None:
    name = database.info.dbname
    for scheme in ("postgresql", "postgresql+psycopg"):
        url = login_url(database, f"{scheme}://me:secret@db.example.org:6543/rooms", "a@b", "p/w")
        assert url == f"postgresql://a%40b:p%2Fw@db.example.org:{database.info.port}/{name}"
    assert login_url(database, "postgresql:///rooms?host=/var/run/postgresql", "ana", "x") is None
    assert login_url(database, None, "ana", "x") is None
