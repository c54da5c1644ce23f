"""`open3dsg mcp` through the client of the protocol's own SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from mcp import Client, StdioServerParameters

from open3dsg.mcp import open_for_reading
from tests import miniature as mini
from tests.command import PROGRAM, Done
from tests.content import row_counts

TOOLS = ["changes", "describe_scan", "list_scans", "search_nodes", "search_triplets"]


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def ask(variables: dict[str, str], *calls: tuple[str, dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """Start the server as an agent does; return its tools, and of each call what it gave or its error."""

    async def talk() -> tuple[list[str], list[Any]]:
        server = StdioServerParameters(command=str(PROGRAM), args=["mcp"], env=variables)
        async with Client(server, read_timeout_seconds=60) as client:
            listed = await client.list_tools()
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in listed.tools)
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
        answers = []
        for result in results:
            text = "".join(getattr(part, "text", "") for part in result.content)
            answers.append(text if result.is_error else result.structured_content)
        return sorted(tool.name for tool in listed.tools), answers

    return asyncio.run(talk())


def test_agents_ask(
    variables: dict[str, str], database: psycopg.Connection[Any], run: Callable[..., Done]
) -> None:
    before = row_counts(database)
    words = "SELECT count(*) FROM term"
    terms = database.execute(words).fetchone()
    tools, answers = ask(
        variables,
        ("list_scans", {}),
        ("search_nodes", {"text": "red", "k": 2, "scan": mini.NAME}),
        ("describe_scan", {"scan": mini.NAME, "max_relations": 1}),
        ("search_nodes", {"text": "words that nobody asked yet", "k": 1}),
        ("search_nodes", {"text": "red", "scan": "nowhere"}),
        ("search_nodes", {"text": "red", "k": 0}),
        ("describe_scan", {"scan": "nowhere"}),
        ("search_triplets", {"subject": "image:/etc/passwd", "predicate": "*", "object": "*"}),
        ("list_scans", {"dataset": "'; DROP TABLE scan; --"}),
    )
    assert row_counts(database) == before
    assert tools == TOOLS
    assert database.execute(words).fetchone() == terms
    scans, nodes, scan, new, *errors = answers
    assert len(new["result"]) == 1
    assert f"3rscan/{mini.NAME}" in scans["result"]
    assert nodes["result"] == run("query", "nodes", "red", "-k", 2, "--scan", mini.NAME, "--json").json
    assert {found["label"] for found in scan["objects"]} == set(mini.LABELS.values())
    assert (len(scan["relations"]), scan["relations_left_out"] > 0) == (1, True)
    assert json.loads(json.dumps(scan, allow_nan=False))["scan"] == f"3rscan/{mini.NAME}"
    for told, expected in zip(
        errors,
        ("no scan 'nowhere'", "-k is 0", "no scan 'nowhere'", "not open to agents", "no dataset"),
        strict=True,
    ):
        assert expected in told
        assert "Traceback" not in told


def test_a_database_that_is_not_there(run: Callable[..., Done]) -> None:
    done = run("mcp", OPEN3DSG_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert done.code == 2
    assert len(done.errors) == 1


def test_a_port_in_use(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1:{port}" in refused("mcp", "--http", "--port", port)


def test_what_tools_open_is_read_only(database_url: str) -> None:
    """Whatever a tool passed on: the login may write, the connection may not."""
    with open_for_reading(database_url) as store, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        store.connection.execute("DELETE FROM scan")


def test_over_http_and_ctrl_c(variables: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(PROGRAM), "mcp", "--http", "--port", str(port)]
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stderr is not None
        assert f"http://127.0.0.1:{port}/mcp" in server.stderr.readline()

        async def talk() -> Any:
            async with Client(f"http://127.0.0.1:{port}/mcp", read_timeout_seconds=60) as client:
                return (await client.call_tool("list_scans", {})).structured_content

        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        assert f"3rscan/{mini.NAME}" in asyncio.run(talk())["result"]
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0


def test_ctrl_c_ends_it_while_it_waits_for_input(variables: dict[str, str]) -> None:
    said = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": said}
    with subprocess.Popen(
        [PROGRAM, "mcp"], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(hello) + "\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["result"]["serverInfo"]["name"] == "open3dsg"
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == -signal.SIGINT
