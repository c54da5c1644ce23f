"""`open3dsg features images`: a folder of pictures as an encoder sees it, no database needed."""

from __future__ import annotations

from pathlib import Path

import click

from open3dsg.cli.output import json_option, print_json, progress
from open3dsg.cli.session import exit_on_failures


@click.command(epilog="Example: open3dsg features images photos seen --encoder openseg --clusters 20")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--encoder",
    default="openseg",
    show_default=True,
    help="Which encoder sees them: one with a vector for every pixel.",
)
@click.option(
    "--clusters",
    type=click.IntRange(1, 256),
    default=20,
    show_default=True,
    help="Groups of like pixels in a picture, at most.",
)
@click.option(
    "--device", metavar="NAME", help="Where the encoder works: cpu, cuda, cuda:1; else a GPU if any."
)
@click.option("--force", is_flag=True, help="Do pictures again that are done.")
@json_option
def images(
    folder: Path, out: Path, encoder: str, clusters: int, device: str | None, force: bool, as_json: bool
) -> None:
    """Write what every pixel of the pictures below DIR looks like to an encoder to the folder OUT.

    Each .jpg, .jpeg, .png and .bmp gets NAME.npz (its features in float16, for numpy) and NAME.png (groups of
    like pixels, by k-means, in colours) in the same place below OUT. Pictures that are done are skipped; one
    that is broken is named, and the exit code is then 2. No database is needed.
    """
    from open3dsg.encoders.registry import load_dense_encoder
    from open3dsg.export.images import find_pictures, write_images

    seer = load_dense_encoder(encoder, device)
    tree = find_pictures(folder, out)
    with progress("images", len(tree.pictures)) as advance:
        report = write_images(tree, out, seer, clusters=clusters, force=force, advance=advance)
    if as_json:
        print_json(report.as_json())
    else:
        parts = [f"{report.done} done", f"{report.skipped} already done", f"{len(report.failures)} failed"]
        click.echo(f"images: {', '.join(parts)} in {report.seconds:.1f} s, {report.bytes:,} bytes written")
    exit_on_failures({name: problem.detail for name, problem in report.failures.items()})
