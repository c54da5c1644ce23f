"""Vocabularies of the store: lists of classes and predicates, and which encoders have embedded them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import check_term, prune_terms, term_ids, terms_alone, terms_in_use
from open3dsg.errors import UserError
from open3dsg.store.encoders import QUERIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.layouts import WordList

Kind = Literal["class", "predicate", "query"]
Outcome = Literal["added", "replaced", "unchanged"]

# What the published lists are called, and how many words each has.
_KNOWN = (
    ("scannet200", "class", 200),
    ("scannet20", "class", 20),
    ("nyu40", "class", 40),
    ("3dssg", "class", 160),
    ("3rscan", "class", 160),
)
_WHOLE_3RSCAN = 528


@dataclass(frozen=True)
class Vocabulary:
    """A list of words; `embedded` maps encoder@revision to how many of them it has embedded.

    `wordings` is how many of the words stand for another of the list, which is meant where they are nearest.
    """

    vocabulary_id: int
    name: str
    kind: Kind
    dataset: str | None  # that it came with; None: someone's own
    terms: int
    wordings: int
    embedded: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "name": self.name,
            "kind": self.kind,
            "dataset": self.dataset,
            "terms": self.terms,
            "wordings": self.wordings,
            "embedded": dict(self.embedded),
        }


def list_vocabularies(connection: Connection[Any]) -> list[Vocabulary]:
    """Return all vocabularies, by name."""
    return [Vocabulary(*row) for row in execute(connection, "vocabularies", {"name": None})]


def find_vocabulary(connection: Connection[Any], name: str) -> Vocabulary:
    """Return one vocabulary; UserError, with those there are, where the store lacks it."""
    found = _look_up(connection, name)
    if found is None:
        known = ", ".join(vocabulary.name for vocabulary in list_vocabularies(connection)) or "none"
        raise UserError(f"no vocabulary {name!r} in the store; it has {known}")
    return found


def vocabulary_words(connection: Connection[Any], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Return the words in their order, by the alphabet where they have none, with who has embedded each.

    `stands_for` is the word that is meant by it; None: it stands for itself.
    """
    rows = execute(connection, "vocabulary_words", {"vocabulary_id": vocabulary.vocabulary_id})
    return [
        {"position": place, "word": text, "stands_for": meant, "embedded": by}
        for place, text, meant, by in rows
    ]


def set_vocabulary(
    connection: Connection[Any],
    name: str,
    kind: Literal["class", "predicate"],
    words: Sequence[str],
    *,
    stands_for: Mapping[str, str] | None = None,
    replace: bool = False,
) -> Outcome:
    """Make a vocabulary of somebody's own hold exactly `words`, in their order, each once.

    `stands_for` maps a wording among them to the word among them that is meant, which is no wording itself:
    ValueError where it is not so. Raises UserError for a name that belongs to the asked words or to a
    dataset, and where there is one with other words or meanings, or of another kind, unless it may be
    replaced.
    """
    meanings = dict(stands_for or {})
    _check_meanings(words, meanings)
    check_term(name, "the name of a vocabulary")
    if name == QUERIES:
        raise UserError(f"{name!r} is the vocabulary of asked words: give another --name")
    with terms_in_use(connection), connection.transaction():
        known = _look_up(connection, name)
        if known is not None:
            _check_own(known)
            if _holds(connection, known, kind, words, meanings):
                return "unchanged"
            if not replace:
                raise UserError(
                    f"there is a vocabulary {name!r} already, of {known.terms} words ({known.kind}), and"
                    f" these {len(words)} ({kind}) are others: give another --name, or --replace to put these"
                    " in place"
                )
        _fill(connection, name, kind, words, None, meanings)
    return "added" if known is None else "replaced"


def drop_vocabulary(connection: Connection[Any], name: str) -> dict[str, int]:
    """Delete a vocabulary; return how many `words` it had, and how many of them were kept as terms.

    Those are labels, predicates or in other lists, or wait for the next deletion, since somebody is writing
    rows that may come to name them.
    """
    vocabulary = find_vocabulary(connection, name)
    words = [row["word"] for row in vocabulary_words(connection, vocabulary)]
    with connection.transaction():
        execute(connection, "vocabulary_drop", {"vocabulary_id": vocabulary.vocabulary_id})
        if terms_alone(connection):
            prune_terms(connection)
        kept = execute(connection, "term_ids", {"texts": words}).fetchall()
    return {"words": len(words), "words_kept": len(kept)}


def add_word_lists(connection: Connection[Any], dataset: str, lists: Sequence[WordList]) -> None:
    """Keep the lists that come with a dataset, each as the vocabulary `dataset-list`, as they are now.

    Raises UserError where such a name is a list of somebody's own.
    """
    for words in lists:
        name = f"{dataset}-{words.name}"
        with terms_in_use(connection), connection.transaction():
            known = _look_up(connection, name)
            if known is not None and known.dataset is None:
                raise UserError(
                    f"the list {name!r} of dataset {dataset} cannot be kept: a vocabulary of yours has that"
                    f" name; run `open3dsg vocab drop {name}`, then this command again"
                )
            if known is None or not _holds(connection, known, words.kind, words.words, {}):
                _fill(connection, name, words.kind, words.words, dataset, {})


def remarks(name: str, kind: str, count: int) -> list[str]:
    """Say where a list is named like a published one and has another length: the two are easily mixed."""
    for known, of_kind, length in _KNOWN:
        if kind == of_kind and known in name.lower() and count != length:
            whole = " (528 is 3RScan's whole list)" if length == 160 and count == _WHOLE_3RSCAN else ""
            return [f"{name!r} has {count} words; the published list of {known} has {length}{whole}"]
    return []


def _look_up(connection: Connection[Any], name: str) -> Vocabulary | None:
    row = execute(connection, "vocabularies", {"name": name}).fetchone()
    return None if row is None else Vocabulary(*row)


def _check_own(vocabulary: Vocabulary) -> None:
    if vocabulary.dataset is not None:
        raise UserError(
            f"{vocabulary.name!r} came with dataset {vocabulary.dataset!r} and follows its files:"
            " give another --name"
        )


def _check_meanings(words: Sequence[str], meanings: Mapping[str, str]) -> None:
    """Raise ValueError for a wording that is not in the list, or of a word that is not, or is a wording."""
    meant = set(meanings.values())
    wrong = ((meanings.keys() | meant) - set(words)) | (meanings.keys() & meant)
    if wrong:
        raise ValueError(f"not in the list, or a wording and what one stands for: {sorted(wrong)}")


def _holds(
    connection: Connection[Any],
    vocabulary: Vocabulary,
    kind: str,
    words: Sequence[str],
    meanings: Mapping[str, str],
) -> bool:
    """Tell whether a vocabulary is of this kind and has exactly these words, so meant, at these places."""
    rows = vocabulary_words(connection, vocabulary)
    return (
        vocabulary.kind == kind
        and {row["word"]: row["position"] for row in rows} == _places(words)
        and {row["word"]: row["stands_for"] for row in rows if row["stands_for"]} == meanings
    )


def _places(words: Sequence[str]) -> dict[str, int]:
    """Return word -> its place; where it comes again, the first place counts."""
    return {word: place for place, word in reversed(list(enumerate(words)))}


def _fill(
    connection: Connection[Any],
    name: str,
    kind: str,
    words: Sequence[str],
    dataset: str | None,
    meanings: Mapping[str, str],
) -> None:
    places = _places(words)
    ids = term_ids(connection, places, f"a word of the vocabulary {name}")
    made = {"name": name, "kind": kind, "dataset": dataset}
    vocabulary_id = fetch_value(connection, "vocabulary_make", made)
    execute(connection, "vocabulary_clear", {"vocabulary_id": vocabulary_id})
    added = {
        "vocabulary_id": vocabulary_id,
        "term_ids": [ids[word] for word in places],
        "positions": list(places.values()),
    }
    execute(connection, "vocabulary_add_terms", added)
    meant = {
        "vocabulary_id": vocabulary_id,
        "term_ids": [ids[word] for word in meanings],
        "stands_for": [ids[word] for word in meanings.values()],
    }
    execute(connection, "vocabulary_set_meanings", meant)
