"""`open3dsg vocab`: lists of classes and predicates, and who has embedded them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from open3dsg.cli.output import json_option, message, print_json, print_pairs, print_table, progress
from open3dsg.cli.session import open_for_work
from open3dsg.datasets.builtin_words import BUILTIN
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.datasets.wordfile import Words
    from open3dsg.store.vocabularies import Vocabulary

    Kind = Literal["class", "predicate"]

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
            vocabulary.wordings,
            _embedded(vocabulary.embedded),
            vocabulary.dataset,
        )
        for vocabulary in found
    ]
    headers = ("name", "kind", "words", "wordings", "embedded", "dataset")
    print_table(headers, rows, right=("words", "wordings"))


@vocab.command(epilog="Example: open3dsg vocab add classes.txt --name kitchen --encoder conse")
@click.argument("file", type=FILE, required=False)
@click.option(
    "--builtin",
    type=click.Choice(list(BUILTIN)),
    help="In place of FILE, a list that comes with open3dsg.",
)
@click.option("--name", help="What to call it; else as the built-in list or the file, without its ending.")
@click.option(
    "--kind",
    type=click.Choice(["class", "predicate"]),
    help="What the words are.  [default: class, or as the built-in list]",
)
@click.option("--column", metavar="HEADER", help="Of a .csv or .tsv table: the column that holds the words.")
@click.option(
    "--stands-for", metavar="HEADER", help="Of a table: the column that says what a wording stands for."
)
@click.option(
    "--encoder", "encoders", metavar="NAME", multiple=True, help="Embed the words with it; repeatable."
)
@click.option("--replace", is_flag=True, help="Put these words in the place of those of that name.")
@json_option
def add(
    file: Path | None,
    builtin: str | None,
    name: str | None,
    kind: Kind | None,
    column: str | None,
    stands_for: str | None,
    encoders: tuple[str, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Add the words of FILE, one a line or a column of a table, in their order.

    A line `to the left of = left` adds a wording: where it is the nearest, `left` is meant, a word of a line
    of its own. Empty lines, lines that begin with # and words that come again are passed over, and counted.
    """
    from open3dsg.encoders.registry import load_text_encoder
    from open3dsg.store.vocabularies import find_vocabulary, remarks, set_vocabulary

    name, kind, words = _read(file, builtin, name, kind, column, stands_for)
    loaded = [load_text_encoder(encoder) for encoder in encoders]  # first: a name that is none writes nothing
    with open_for_work() as store:
        outcome = set_vocabulary(
            store.connection, name, kind, words.words, stands_for=words.stands_for, replace=replace
        )
        embedded = _embed(store, name, loaded)
        vocabulary = find_vocabulary(store.connection, name)
    passed_over = _passed_over(words)
    if as_json:
        print_json({**vocabulary.as_json(), "outcome": outcome, "newly_embedded": embedded, **passed_over})
    else:
        _print_added(vocabulary, outcome, passed_over)
    for remark in remarks(name, kind, vocabulary.terms - vocabulary.wordings):
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
    columns = ("position", "word", *(["stands_for"] if vocabulary.wordings else []))
    rows = [
        (*(row[column] for column in columns), ", ".join(_short(by) for by in row["embedded"]))
        for row in words
    ]
    headers = (*(column.replace("_", " ") for column in columns), "embedded")
    print_table(headers, rows, right=("position",))


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


def _read(
    file: Path | None,
    builtin: str | None,
    name: str | None,
    kind: Kind | None,
    column: str | None,
    stands_for: str | None,
) -> tuple[str, Kind, Words]:
    """Return the name, kind and words of the list that was asked for: of a file, or of the package."""
    from open3dsg.datasets.builtin_words import builtin_words
    from open3dsg.datasets.wordfile import read_words
    from open3dsg.db.terms import MAX_TERM_LENGTH

    if column is None and stands_for is not None:
        raise UserError("--stands-for names a column beside that of --column: give that too")
    if builtin is None and file is not None:
        words = read_words(file, column, MAX_TERM_LENGTH, stands_for)
        return file.stem if name is None else name, kind or "class", words
    if builtin is None or file is not None:
        raise UserError(f"give a FILE, or instead of it one of --builtin {', '.join(BUILTIN)}")
    if kind is not None or column is not None:
        raise UserError("--kind and --column are of a FILE: a built-in list has its own kind")
    return builtin if name is None else name, BUILTIN[builtin], builtin_words(builtin)


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


def _print_added(vocabulary: Vocabulary, outcome: str, passed_over: Mapping[str, int]) -> None:
    others = f", {vocabulary.wordings} of them wordings of others" if vocabulary.wordings else ""
    told = ", ".join(f"{count} {what}" for what, count in passed_over.items() if count)
    passed = f" (passed over: {told})" if told else ""
    click.echo(f"{vocabulary.name}: {outcome}, {vocabulary.terms} words{others}{passed}")
    click.echo(f"  embedded: {_embedded(vocabulary.embedded) or 'by none'}")
    if vocabulary.terms not in vocabulary.embedded.values():
        message("say --encoder NAME to embed the words; `features dump` does so for classes, too")


def _passed_over(words: Words) -> dict[str, int]:
    return {"duplicates": len(words.duplicates), "empty": words.empty, "comments": words.comments}


def _embedded(embedded: Mapping[str, int]) -> str:
    return ", ".join(f"{_short(name)} {count}" for name, count in sorted(embedded.items()))


def _short(encoder: str) -> str:
    """Return an encoder's name without its revision."""
    return encoder.split("@", maxsplit=1)[0]
