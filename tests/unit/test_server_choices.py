import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.db.server_account import Account
from open3dsg.db.server_choices import (
    CHOICES_FILE,
    Choices,
    Listen,
    parse_listen,
    read_choices,
    remember_choices,
)
from open3dsg.errors import UserError

ME = Account("me", os.geteuid(), os.getegid(), switch=False)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("0.0.0.0:5432", Listen("0.0.0.0", 5432)),
        ("*:1", Listen("*", 1)),
        ("[::]:65535", Listen("::", 65535)),
        ("[fe80::1%eth0]:5432", Listen("fe80::1%eth0", 5432)),
        ("db-1.example.org:5432", Listen("db-1.example.org", 5432)),
        (" localhost:5432\n", Listen("localhost", 5432)),
    ],
)
def test_an_address_is_read_and_written(text: str, listen: Listen) -> None:
    assert parse_listen(text) == listen
    assert str(listen) == text.strip()
    assert parse_listen(str(listen)) == listen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5432",
        ":5432",
        "localhost",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:-1",
        "localhost:5432:1",
        "localhost:543２",
        "::1:5432",
        "[::1]",
        "[127.0.0.1]:5432",
        "[]:5432",
        "a b:5432",
        "a,b:5432",
        "it's:5432",
        "*.example.org:5432",
        "-a:5432",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match="cannot listen on") as raised:
        parse_listen(text)
    assert "\n" not in str(raised.value)


@given(st.text(string.printable, max_size=30))
def test_no_text_gets_into_the_configuration_but_an_address(text: str) -> None:
    try:
        found = parse_listen(text)
    except UserError:
        return
    assert not set(found.host) & set(" ,'\"\n\\")
    assert 1 <= found.port <= 65535


def test_the_url_for_other_machines() -> None:
    assert Listen("db.example", 6000).url() == "postgresql://NAME:PASSWORD@db.example:6000/open3dsg"
    assert Listen("2001:db8::1", 6000).url() == "postgresql://NAME:PASSWORD@[2001:db8::1]:6000/open3dsg"
    host = os.uname().nodename
    for every in ("*", "0.0.0.0", "::"):
        assert Listen(every, 6000).url() == f"postgresql://NAME:PASSWORD@{host}:6000/open3dsg"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("*", False)],
)
def test_which_addresses_are_this_machines_only(host: str, local: bool) -> None:
    assert Listen(host, 1).is_local is local


def test_choices_are_remembered(tmp_path: Path) -> None:
    assert read_choices(tmp_path) == Choices()
    assert read_choices(tmp_path / "nowhere") == Choices()
    for choices in (Choices(Listen("::", 5432), 2**40), Choices(None, None), Choices(Listen("*", 1))):
        remember_choices(tmp_path, choices, ME)
        assert read_choices(tmp_path) == choices


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        "\xff",
        json.dumps({"listen": "nowhere", "memory_bytes": None}),
        json.dumps({"listen": 5, "memory_bytes": None}),
        json.dumps({"listen": None, "memory_bytes": "8GB"}),
        json.dumps({"listen": None, "memory_bytes": True}),
    ],
)
def test_a_damaged_file_of_choices_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / CHOICES_FILE).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=rf"{CHOICES_FILE}: cannot be read .*delete it"):
        read_choices(tmp_path)
