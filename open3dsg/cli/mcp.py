"""`open3dsg mcp`: the store for agents, by the Model Context Protocol."""

from __future__ import annotations

import signal
from contextlib import suppress

import click

from open3dsg.cli.output import message
from open3dsg.cli.ports import check_port
from open3dsg.cli.session import open_for_work


@click.command(epilog="Example: open3dsg mcp")
@click.option("--http", is_flag=True, help="Serve over HTTP at /mcp, in place of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: the address to bind to.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="With --http.")
def mcp(http: bool, host: str, port: int) -> None:
    """Let agents ask the store by the Model Context Protocol; nothing can be changed.

    Tools: list_scans, search_nodes, search_triplets, describe_scan, changes. An agent's settings name the
    command `open3dsg mcp`.
    """
    from open3dsg.mcp import make_server

    server = make_server()
    with open_for_work():  # what is wrong with the database is told here, not to the first agent
        pass
    if not http:
        # Else Ctrl-C waits for the next line of standard input. There is nothing to clean up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        server.run("stdio")
        return
    check_port(host, port)
    message(f"serving at http://{host}:{port}/mcp; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        server.run("streamable-http", host=host, port=port)
