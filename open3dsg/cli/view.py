"""`open3dsg view`: the store in a browser."""

from __future__ import annotations

import click

from open3dsg.cli.output import message
from open3dsg.cli.ports import check_port
from open3dsg.cli.session import open_for_work


@click.command(epilog="Example: open3dsg view --port 8080 --run brave-otter-7")
@click.option("--host", default="127.0.0.1", show_default=True, help="Whose address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one."
)
@click.option("--scan", help="The scan to begin with: its name, or DATASET/NAME.")
@click.option("--run", metavar="RUN[:LABEL]", help="Draw and ask what this run predicted, at first.")
@click.option("--read-only", is_flag=True, help="Take no corrections.")
@click.option(
    "--max-points",
    type=click.IntRange(min=1000),
    default=300_000,
    show_default=True,
    help="Points to draw at once: of larger scans all over, and more near the camera.",
)
def view(host: str, port: int, scan: str | None, run: str | None, read_only: bool, max_points: int) -> None:
    """Show scans, their graphs and the answers to questions in a browser, until Ctrl-C.

    Only this machine reaches it unless --host says otherwise. It takes corrections where the login may write.
    """
    from open3dsg.view.browser.serve import Plan, check_start, serve

    check_port(host, port)
    with open_for_work() as store:
        start = check_start(store.connection, scan, run, max_points)
        url = store.url
    serve(url, Plan(host, port, start, read_only), message)
