"""`open3dsg features`: embeddings of instances."""

from __future__ import annotations

import click

from open3dsg.cli.output import json_option, message
from open3dsg.cli.session import check_force, open_for_work, run_and_report, step_options
from open3dsg.errors import UserError


@click.group()
def features() -> None:
    """Compute embeddings of instances."""


@features.command(epilog="Example: open3dsg features dump --nodes --encoder conse --scan SCAN")
@click.option("--nodes", is_flag=True, help="Embed the instances.")
@click.option("--encoder", default="conse", show_default=True, help="Which encoder sees them.")
@click.option(
    "--top-k-frames", default=5, show_default=True, help="Frames an instance, those that show most of it."
)
@click.option(
    "--scales", default=3, show_default=True, help="Crops a frame: 1.0, 1.5, 1.2, ... times the box."
)
@step_options
@json_option
def dump(
    nodes: bool,
    encoder: str,
    top_k_frames: int,
    scales: int,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Embed what the frames show of each instance, and the class lists of the store."""
    from open3dsg.steps.features import DumpNodes, FeatureOptions
    from open3dsg.store.scans import select_scans

    if not nodes:
        raise UserError("nothing to dump: say --nodes")
    check_force(force, scans)
    options = FeatureOptions(encoder, top_k_frames, scales)
    work = DumpNodes(options, force, replace)
    work.prepare()
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        run_and_report("features", work, keys, store=store, jobs=jobs, as_json=as_json)


@features.command(epilog="Example: open3dsg features index conse")
@click.argument("encoder")
def index(encoder: str) -> None:
    """Build the vector index of ENCODER, for stores of more than some 20,000 nodes.

    Do so after the features are dumped: with the index in place each row costs many times more to write.
    """
    from open3dsg.db.queries import fetch_value
    from open3dsg.store.encoders import find_encoder

    with open_for_work() as store:
        store.connection.add_notice_handler(lambda notice: message(f"note: {notice.message_primary}"))
        stored = find_encoder(store.connection, encoder)
        name = fetch_value(
            store.connection, "create_node_index", {"encoder": f"{stored.name}@{stored.revision}"}
        )
    click.echo(f"index {name} is ready")
