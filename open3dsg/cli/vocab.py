"""`open3dsg vocab`: lists of classes and predicates, and who has embedded them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from open3dsg.cli.output import json_option, message, print_json, print_pairs, print_table, progress
from open3dsg.cli.session import open_for_work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.datasets.wordfile import Words

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def vocab() -> None:
    """Keep lists of classes and predicates with their embeddings."""


@vocab.command("list", epilog="Example: open3dsg vocab list --json")
@json_option
def list_vocabs(as_json: bool) -> None:
    """List the vocabularies: how many words each has, and how many of them each encoder has embedded."""
    from open3dsg.store.vocabularies import list_vocabularies

    with open_for_work() as store:
        found = list_vocabularies(store.connection)
    if as_json:
        print_json([vocabulary.as_json() for vocabulary in found])
        return
    rows = [
        (
            vocabulary.name,
            vocabulary.kind,
            vocabulary.terms,
            _embedded(vocabulary.embedded),
            vocabulary.dataset,
        )
        for vocabulary in found
    ]
    print_table(("name", "kind", "words", "embedded", "dataset"), rows, right=("words",))


@vocab.command(epilog="Example: open3dsg vocab add classes.txt --name kitchen --encoder conse")
@click.argument("file", type=FILE)
@click.option("--name", help="What to call it; else the file's name without its ending.")
@click.option(
    "--kind",
    type=click.Choice(["class", "predicate"]),
    default="class",
    show_default=True,
    help="What the words are.",
)
@click.option("--column", metavar="HEADER", help="Of a .csv or .tsv table: the column that holds the words.")
@click.option(
    "--encoder", "encoders", metavar="NAME", multiple=True, help="Embed the words with it; repeatable."
)
@click.option("--replace", is_flag=True, help="Put these words in the place of those of that name.")
@json_option
def add(
    file: Path,
    name: str | None,
    kind: Literal["class", "predicate"],
    column: str | None,
    encoders: tuple[str, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Add the words of FILE, one a line or a column of a table, in their order.

    Empty lines, lines that begin with # and words that come again are passed over, and counted.
    """
    from open3dsg.datasets.wordfile import read_words
    from open3dsg.db.terms import MAX_TERM_LENGTH
    from open3dsg.encoders.registry import load_text_encoder
    from open3dsg.store.vocabularies import find_vocabulary, remarks, set_vocabulary

    words = read_words(file, column, MAX_TERM_LENGTH)
    name = name if name is not None else file.stem
    loaded = [load_text_encoder(encoder) for encoder in encoders]  # first: a name that is none writes nothing
    with open_for_work() as store:
        outcome = set_vocabulary(store.connection, name, kind, words.words, replace=replace)
        embedded = _embed(store, name, loaded)
        vocabulary = find_vocabulary(store.connection, name)
    passed_over = _passed_over(words)
    if as_json:
        print_json({**vocabulary.as_json(), "outcome": outcome, "newly_embedded": embedded, **passed_over})
    else:
        told = ", ".join(f"{count} {what}" for what, count in passed_over.items() if count)
        click.echo(f"{name}: {outcome}, {vocabulary.terms} words{f' (passed over: {told})' if told else ''}")
        click.echo(f"  embedded: {_embedded(vocabulary.embedded) or 'by none'}")
        if vocabulary.terms not in vocabulary.embedded.values():
            message("say --encoder NAME to embed the words; `features dump` does so for classes, too")
    for remark in remarks(name, kind, vocabulary.terms):
        message(f"note: {remark}")


@vocab.command(epilog="Example: open3dsg vocab show 3rscan-classes")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the words of the vocabulary NAME with their places, and which encoders have embedded them."""
    from open3dsg.store.vocabularies import find_vocabulary, vocabulary_words

    with open_for_work() as store:
        vocabulary = find_vocabulary(store.connection, name)
        words = vocabulary_words(store.connection, vocabulary)
    if as_json:
        print_json({**vocabulary.as_json(), "words": words})
        return
    print_pairs({**vocabulary.as_json(), "embedded": _embedded(vocabulary.embedded) or "by none"})
    print_table(
        ("position", "word", "embedded"),
        [(row["position"], row["word"], ", ".join(_short(by) for by in row["embedded"])) for row in words],
        right=("position",),
    )


@vocab.command(epilog="Example: open3dsg vocab drop kitchen")
@click.argument("name")
@json_option
def drop(name: str, as_json: bool) -> None:
    """Delete the vocabulary NAME, and those of its words that nothing else in the store names.

    A list that came with a dataset comes again when the dataset is ingested again; `queries`, the words that
    were asked, when something is asked.
    """
    from open3dsg.store.vocabularies import drop_vocabulary

    with open_for_work() as store:
        gone = drop_vocabulary(store.connection, name)
    if as_json:
        print_json({"name": name, "deleted": gone})
        return
    click.echo(f"{name}: dropped, {gone['words']} words, {gone['words_kept']} of which stay for other uses")


def _embed(store: Store, name: str, encoders: Sequence[Any]) -> dict[str, int]:
    """Embed a vocabulary by each encoder; return encoder@revision -> words that it had not embedded yet."""
    from open3dsg.store.encoders import embed_vocabularies, register_encoder

    done = {}
    with progress("embed", len(encoders)) as advance:
        for encoder in encoders:
            stored = register_encoder(store.connection, encoder)
            done[stored.full_name] = embed_vocabularies(store.connection, stored, name)
            advance(stored.name)
    return done


def _passed_over(words: Words) -> dict[str, int]:
    return {"duplicates": len(words.duplicates), "empty": words.empty, "comments": words.comments}


def _embedded(embedded: Mapping[str, int]) -> str:
    return ", ".join(f"{_short(name)} {count}" for name, count in sorted(embedded.items()))


def _short(encoder: str) -> str:
    """Return an encoder's name without its revision."""
    return encoder.split("@", maxsplit=1)[0]
