"""`open3dsg show captions`: what encoders say of the pairs of a scan."""

from __future__ import annotations

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work


@click.command(epilog="Example: open3dsg show captions 7272e16c-a01b-20f6-8961-a0927b4a7629 --instance 9")
@click.argument("scan")
@click.option("--encoder", metavar="NAME", help="Only what this one says: its name, or NAME@REVISION.")
@click.option("--instance", metavar="NUMBER", type=int, help="Only what is said of this instance.")
@json_option
def captions(scan: str, encoder: str | None, instance: int | None, as_json: bool) -> None:
    """List how the instances of SCAN relate, in the words of `features caption`.

    Phrases stand between subject and object; --json has the whole captions.
    """
    from open3dsg.store.captions import find_captions
    from open3dsg.store.encoders import find_encoder
    from open3dsg.store.instances import check_instances, read_labels
    from open3dsg.store.scans import find_scan

    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        if instance is not None:
            check_instances(found, read_labels(store.connection, found), [instance])
        speaker = None if encoder is None else find_encoder(store.connection, encoder)
        said = find_captions(store.connection, found, speaker, instance)
    if as_json:
        print_json(said)
        return
    if said:
        headers = ("subject", "label", "phrase", "object", "label", "encoder")
        rows = [(s.subject, s.subject_label, s.phrase, s.object, s.object_label, s.encoder) for s in said]
        print_table(headers, rows, right=("subject", "object"))
    message(f"{counted(len(said), 'caption')}; `open3dsg features caption` makes them")
