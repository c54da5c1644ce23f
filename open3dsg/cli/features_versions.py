"""`open3dsg features diff|drop|activate`: revisions of encoders side by side."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from open3dsg.cli.confirm import confirm, yes_option
from open3dsg.cli.output import counted, json_option, message, print_json, print_pairs, print_table, progress
from open3dsg.cli.session import exit_on_failures, open_for_work
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.versions import Changed, Content, FeatureDiff, Revision

_NAMED = 5  # runs, of those that depend on an encoder
_NOUNS = {"nodes": "node", "pairs": "pair", "captions": "caption"}


@click.command(epilog="Example: open3dsg features diff conse@0d5c... conse --most 20")
@click.argument("a")
@click.argument("b")
@click.option("--pairs", is_flag=True, help="Compare features of pairs, not of instances.")
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@click.option(
    "--most",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many of those that changed most to list.",
)
@json_option
def diff(a: str, b: str, pairs: bool, dataset: str | None, most: int, as_json: bool) -> None:
    """Say how far the features of A and B are apart, as cosine distances.

    A and B are encoders, NAME@REVISION each, or NAME for the active one. Only vectors of one length can be
    compared, and only those of one space mean something: two revisions of an encoder, or features that were
    imported and those that were made here.
    """
    from open3dsg.store.encoders import find_encoder
    from open3dsg.store.scans import check_dataset
    from open3dsg.store.versions import diff_features

    with open_for_work() as store:
        if dataset is not None:
            check_dataset(store.connection, dataset)
        encoders = [find_encoder(store.connection, text) for text in (a, b)]
        found = diff_features(store.connection, *encoders, pairs=pairs, dataset=dataset, most=most)
    if as_json:
        print_json(found.as_json())
    else:
        _print_diff(found, "pair" if pairs else "node")


@click.command(epilog="Example: open3dsg features drop conse@0d5c... --dataset 3rscan --yes")
@click.argument("encoder")
@click.option("--nodes", is_flag=True, help="Drop the features of instances.")
@click.option("--pairs", is_flag=True, help="Drop the features of pairs, with their tokens.")
@click.option("--captions", is_flag=True, help="Drop what it said of pairs.")
@click.option("--dataset", metavar="NAME", help="Only of the scans of this dataset.")
@click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only of this scan; repeatable.")
@click.option("--activate", metavar="ENCODER", help="The revision that the bare name means from then on.")
@yes_option
@json_option
def drop(
    encoder: str,
    nodes: bool,
    pairs: bool,
    captions: bool,
    dataset: str | None,
    scans: tuple[str, ...],
    activate: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Drop the features of ENCODER, NAME@REVISION, or NAME for the active one.

    Without --nodes, --pairs and --captions all three go. One scan after the other: cut off, the same command
    drops the rest. Vector indexes over features that are all gone go too, and so does the encoder with the
    words that it embedded once nothing of it is left and no run was trained with it. Where the bare name
    meant it, the name means nothing until another revision is made active.
    """
    from open3dsg.store.encoders import find_encoder

    chosen = [kind for kind, on in (("nodes", nodes), ("pairs", pairs), ("captions", captions)) if on]
    kinds = chosen or list(_NOUNS)
    with open_for_work() as store:
        stored = find_encoder(store.connection, encoder)
        heir = None if activate is None else _heir(store, stored, activate)
        contents = _held(store, stored, kinds, dataset, scans)
        what = ", ".join(
            counted(sum(getattr(held, kind) for held in contents), _NOUNS[kind]) for kind in kinds
        )
        _warn_of_runs(store, stored)
        confirm(f"drop {what} of {stored.full_name} in {counted(len(contents), 'scan')}", yes=yes)
        _drop(store, stored, [held.scan for held in contents], kinds, heir, as_json=as_json)


@click.command(epilog="Example: open3dsg features activate conse@0d5c...")
@click.argument("encoder")
@json_option
def activate(encoder: str, as_json: bool) -> None:
    """Let the bare name of an encoder mean ENCODER, NAME@REVISION, in queries.

    It goes on meaning that, whatever is dumped afterwards, until another revision is activated. A name that
    was never given so means the revision that was dumped last, once that has as many features as the one
    before it.
    """
    from open3dsg.store.encoders import choose_encoder, find_encoder
    from open3dsg.store.versions import revisions

    with open_for_work() as store:
        stored = find_encoder(store.connection, encoder)
        known = {revision.encoder: revision for revision in revisions(store.connection, stored.name)}
        before = next((revision for revision in known.values() if revision.is_active), None)
        choose_encoder(store.connection, stored)
    now = known[stored.full_name]
    if as_json:
        print_json({"now": _as_json(now), "before": before and _as_json(before)})
    elif stored.is_active:
        click.echo(f"{stored.name} means {now.encoder} already, and goes on doing so")
    else:
        click.echo(
            f"{stored.name} means {now.encoder} now; before, {before.encoder if before else 'nothing'}"
        )
    if before is not None and (now.nodes < before.nodes or now.pairs < before.pairs):
        message(
            f"warning: {now.encoder} has {counted(now.nodes, 'node')} and {counted(now.pairs, 'pair')},"
            f" {before.encoder} {before.nodes:,} and {before.pairs:,}: queries find nothing of the others"
        )


def _as_json(revision: Revision) -> Mapping[str, str | int]:
    return {"encoder": revision.encoder, "nodes": revision.nodes, "pairs": revision.pairs}


def _heir(store: Store, stored: StoredEncoder, text: str) -> StoredEncoder:
    """Return the revision that is to be active after `stored` is dropped; UserError where it cannot be."""
    from open3dsg.store.encoders import find_encoder

    heir = find_encoder(store.connection, text)
    if heir.name != stored.name or heir.encoder_id == stored.encoder_id:
        raise UserError(f"--activate is {text!r}: name another revision of {stored.name}")
    return heir


def _held(
    store: Store, stored: StoredEncoder, kinds: Sequence[str], dataset: str | None, scans: Sequence[str]
) -> list[Content]:
    """Return the scans to drop features of; UserError where those asked for have none."""
    from open3dsg.store.scans import check_dataset, select_scans
    from open3dsg.store.versions import encoder_content

    contents = encoder_content(store.connection, stored)
    if dataset is not None:
        check_dataset(store.connection, dataset)
        contents = [held for held in contents if held.scan.startswith(f"{dataset}/")]
    if scans:
        keys = set(select_scans(store.connection, dataset=dataset, split=None, scans=scans, bare=True))
        contents = [held for held in contents if held.scan in keys]
    narrowed = dataset is not None or bool(scans) or len(kinds) < len(_NOUNS)
    if narrowed and not any(getattr(held, kind) for held in contents for kind in kinds):
        raise UserError(f"{stored.full_name} has none of that: `open3dsg features stats` shows what it has")
    return contents


def _warn_of_runs(store: Store, stored: StoredEncoder) -> None:
    from open3dsg.store.runs import runs_of_encoder

    runs = runs_of_encoder(store.connection, stored)
    if runs:
        named = ", ".join(runs[:_NAMED]) + (f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")
        message(
            f"warning: of {stored.full_name} there are runs: {named}; without the features that go none that"
            " learns from them can be resumed, and the encoder itself stays as long as the runs do"
        )


def _drop(
    store: Store,
    stored: StoredEncoder,
    keys: Sequence[str],
    kinds: Sequence[str],
    heir: StoredEncoder | None,
    *,
    as_json: bool,
) -> None:
    """Drop scan by scan, those that someone works on left out, clear up behind it, and say what went."""
    from open3dsg.store.encoders import choose_encoder
    from open3dsg.store.scans import find_scan
    from open3dsg.store.versions import clear_encoder, drop_features

    dropped: Counter[str] = Counter(dict.fromkeys(kinds, 0))
    failures: dict[str, str] = {}
    with progress("drop", len(keys)) as advance:
        for key in keys:
            try:
                scan = find_scan(store.connection, key)
                dropped.update(drop_features(store.connection, stored, scan, kinds))
            except UserError as error:
                failures[key] = str(error)
            advance(key)
    indexes, gone = clear_encoder(store.connection, stored)
    if heir is not None:
        choose_encoder(store.connection, heir)
    if as_json:
        told = {"encoder": stored.full_name, "scans": len(keys) - len(failures), "dropped": dict(dropped)}
        print_json({**told, "indexes": indexes, "encoder_gone": gone, "failures": failures})
    else:
        _print_dropped(stored.full_name, dropped, indexes, gone)
    _tell_what_the_name_means(store, stored, heir, gone)
    exit_on_failures(failures)


def _print_dropped(name: str, dropped: Mapping[str, int], indexes: Sequence[str], gone: bool) -> None:
    click.echo(
        f"dropped {', '.join(counted(count, _NOUNS[kind]) for kind, count in dropped.items())} of {name}"
    )
    for index in indexes:
        click.echo(f"  with the index {index}")
    if gone:
        click.echo("  nothing of it is left, nor are the words that it embedded")


def _tell_what_the_name_means(
    store: Store, stored: StoredEncoder, heir: StoredEncoder | None, gone: bool
) -> None:
    from open3dsg.store.versions import revisions

    if heir is not None:
        message(f"{heir.name} means {heir.full_name} now")
        return
    left = revisions(store.connection, stored.name)
    if gone and stored.is_active and left:
        others = " or ".join(revision.encoder for revision in left)
        message(f"{stored.name} means nothing now: open3dsg features activate {others}")


def _print_diff(found: FeatureDiff, noun: str) -> None:
    def shown(value: float | None) -> str:
        return "none" if value is None else f"{value:.4f}"

    print_pairs(
        {
            "a": found.a,
            "b": found.b,
            f"{noun}s of both": f"{found.both:,}",
            f"{noun}s of a alone": f"{found.only_a:,}",
            f"{noun}s of b alone": f"{found.only_b:,}",
            "mean distance": shown(found.mean),
            **{f"{float(q):.0%} are within": shown(value) for q, value in found.quantiles.items()},
            "largest distance": shown(found.largest),
        }
    )
    if found.most:
        click.echo()
        print_table(("distance", "scan", noun, "label"), [_changed(row) for row in found.most], ("distance",))


def _changed(row: Changed) -> tuple[str, str, str, str]:
    numbers = [number for number in (row.instance, row.other) if number is not None]
    labels = [label for label in (row.label, row.other_label) if label is not None]
    scan = f"{row.dataset}/{row.scan}"
    return f"{row.distance:.4f}", scan, " ".join(map(str, numbers)), " / ".join(labels)
