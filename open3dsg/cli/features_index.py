"""`open3dsg features index`: the vector indexes of an encoder."""

from __future__ import annotations

import click

from open3dsg.cli.output import message
from open3dsg.cli.session import open_for_work


@click.command(epilog="Example: open3dsg features index conse --rebuild")
@click.argument("encoder")
@click.option("--pairs", is_flag=True, help="Index the features of pairs, not of instances.")
@click.option(
    "--rebuild", is_flag=True, help="Build it again, beside the one there is, and then change them."
)
def index(encoder: str, pairs: bool, rebuild: bool) -> None:
    """Build the vector index of ENCODER, for stores of more than some 20,000 nodes.

    Do so after the features are dumped: with the index in place each row costs many times more to write.
    After many features were dropped or dumped again, --rebuild makes it small and fast as on the first day.
    Either way searches go on while it is built, and who writes features waits.
    """
    from open3dsg.store.encoders import find_encoder
    from open3dsg.store.indexes import build_index, rebuild_index

    with open_for_work() as store:
        store.connection.add_notice_handler(lambda notice: message(f"note: {notice.message_primary}"))
        build = rebuild_index if rebuild else build_index
        name = build(store.connection, find_encoder(store.connection, encoder), pairs=pairs)
    click.echo(f"index {name} is ready")
