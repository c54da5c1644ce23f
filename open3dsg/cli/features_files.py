"""`open3dsg features export|import`: features as the files of Open3DSG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_problems, progress
from open3dsg.cli.session import (
    check_force,
    exit_on_failures,
    open_for_work,
    run_and_report,
    split_option,
    step_options,
)
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.datasets.graphfolder import GraphFile
    from open3dsg.encoders.tokens import Layout, TokenDtype
    from open3dsg.export.features import Exported, FeatureExport

_FOLDER = click.Path(file_okay=False, path_type=Path)
_NAMED = 5  # scans told by name

_graphs = click.option(
    "--graphs",
    required=True,
    type=_FOLDER,
    help="Open3DSG's folder `preprocessed`: its SCAN/data_dict_H.pkl say which row is which object or pair.",
)


@click.command(
    "export", epilog="Example: open3dsg features export OUT --graphs PREPROCESSED --encoder openseg"
)
@click.argument("folder", type=_FOLDER)
@_graphs
@click.option("--encoder", metavar="ENCODER", help="Whose features of instances to write.")
@click.option("--pair-encoder", metavar="ENCODER", help="Whose features of pairs to write.")
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@split_option
@click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only this scan; repeatable.")
@click.option("--force", is_flag=True, help="Write files again that are there.")
@json_option
def export_files(
    folder: Path,
    graphs: Path,
    encoder: str | None,
    pair_encoder: str | None,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Write features into FOLDER in the layout of Open3DSG, which its --load_features reads.

    It wants both --encoder and --pair-encoder, NAME or NAME@REVISION each. A file a subgraph; those that are
    there stay, so that cut off, the same command writes the rest.
    """
    from open3dsg.datasets.graphfolder import find_graphs
    from open3dsg.export.features import Exported, FeatureExport
    from open3dsg.store.encoders import find_encoder

    if encoder is None and pair_encoder is None:
        raise UserError("nothing to export: say --encoder, --pair-encoder or both")
    by_scan = find_graphs(graphs)
    done = Exported()
    with open_for_work() as store:
        keys, unknown = _choose(store, list(by_scan), dataset, split, scans, graphs)
        chosen = [
            None if name is None else find_encoder(store.connection, name) for name in (encoder, pair_encoder)
        ]
        export = FeatureExport(store.connection, folder, *chosen, force=force)
        failures = _export(store, export, keys, by_scan, done)
    _print_exported(folder, done, unknown, failures, as_json=as_json)
    exit_on_failures(failures)


@click.command(
    "import", epilog="Example: open3dsg features import FEATURES --graphs PREPROCESSED --encoder openseg"
)
@click.argument("folder", type=_FOLDER)
@_graphs
@click.option("--encoder", metavar="NAME", help="Import the features of objects, as those of this encoder.")
@click.option(
    "--pair-encoder", metavar="NAME", help="Import the features of relations, as those of this one."
)
@click.option(
    "--revision",
    metavar="TEXT",
    help="What they are called, NAME@TEXT. Default: imported- and a hash of the settings"
    " that the names of the folders tell.",
)
@click.option(
    "--tokens",
    type=click.Choice(["full", "grid17", "pooled"]),
    default="full",
    show_default=True,
    help="How much to keep of relations that are tokens.",
)
@click.option(
    "--token-dtype",
    type=click.Choice(["fp16", "int8", "fp8"]),
    default="fp16",
    show_default=True,
    help="How to store them.",
)
@step_options
@json_option
def import_files(
    folder: Path,
    graphs: Path,
    encoder: str | None,
    pair_encoder: str | None,
    revision: str | None,
    tokens: Layout,
    token_dtype: TokenDtype,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Import features from FOLDER, which Open3DSG wrote with --dump_features.

    Each instance, and each pair whatever its direction, is stored once. Words that are asked are embedded by
    the installed encoder NAME, whose own revision may be another: whether its text side is the one that the
    features were made for, only you know.
    """
    from open3dsg.datasets.graphfolder import find_graphs
    from open3dsg.encoders.tokens import TokenFormat
    from open3dsg.steps.feature_import import ImportFeatures, ImportOptions

    check_force(force, scans)
    form = TokenFormat(tokens, token_dtype)
    options = ImportOptions(folder.absolute(), graphs.absolute(), encoder, pair_encoder, revision, form)
    work = ImportFeatures(options, force, replace)
    names = sorted({*find_graphs(graphs), *work.scans()})
    with open_for_work() as store:
        keys, unknown = _choose(store, names, dataset, split, scans, folder)
        if unknown:
            message(_told(unknown, "not in the store: ingest them and run this again"))
        run_and_report("import", work, keys, store=store, jobs=jobs, as_json=as_json)


def _choose(
    store: Store,
    names: Sequence[str],
    dataset: str | None,
    split: str | None,
    scans: Sequence[str],
    folder: Path,
) -> tuple[list[str], list[str]]:
    """Return the keys of the scans to work on, and those of `names` that the store does not know at all.

    UserError where none of the names is one of the scans asked for, and where a name is of two datasets.
    """
    from open3dsg.store.scans import select_scans

    keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans, bare=True)
    named: dict[str, str] = {}
    for key in keys:
        name = key.partition("/")[2]
        if name in named and name in names:
            raise UserError(f"{named[name]} and {key} are two scans: say --dataset")
        named[name] = key
    every = select_scans(store.connection, dataset=None, split=None, scans=(), bare=True)
    known = {key.partition("/")[2] for key in every}
    chosen = [named[name] for name in names if name in named]
    if not chosen:
        raise UserError(
            f"{folder}: none of its {counted(len(names), 'scan')}, such as {names[0]}, is in the store, or is"
            " among those asked for"
        )
    return chosen, [name for name in names if name not in known]


def _export(
    store: Store,
    export: FeatureExport,
    keys: Sequence[str],
    by_scan: Mapping[str, Sequence[GraphFile]],
    done: Exported,
) -> dict[str, str]:
    """Write scan by scan; return those with a subgraph that cannot be read, with the reason."""
    from open3dsg.store.scans import find_scan

    failures: dict[str, str] = {}
    with progress("export", len(keys)) as advance:
        for key in keys:
            scan = find_scan(store.connection, key)
            try:
                export.write_scan(scan, by_scan[scan.name], done)
            except BadFileError as error:
                failures[key] = str(error)
            advance(key)
    return failures


def _print_exported(
    folder: Path, done: Exported, unknown: Sequence[str], failures: Mapping[str, str], *, as_json: bool
) -> None:
    counts = dict(sorted(done.counts.items()))
    if as_json:
        problems = [vars(problem) for problem in done.problems]
        print_json(
            {
                "folder": folder,
                "counts": counts,
                "problems": problems,
                "not_in_store": unknown,
                "failures": failures,
            }
        )
    else:
        click.echo(f"{folder}: {', '.join(f'{name} {count:,}' for name, count in counts.items())}")
        print_problems(done.problems)
    if counts.get("relations_spread"):
        message(
            f"note: {counts['relations_spread']:,} relations are stored as fewer tokens than the encoder"
            " gives, and are laid out over its grid"
        )
    if unknown:
        message(_told(unknown, "not in the store"))


def _told(scans: Sequence[str], what: str) -> str:
    more = f" and {len(scans) - _NAMED} more" if len(scans) > _NAMED else ""
    return f"{counted(len(scans), 'scan')} ({', '.join(scans[:_NAMED])}{more}): {what}"
