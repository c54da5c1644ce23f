"""Vocabularies of the store: lists of classes and predicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.db.terms import add_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from open3dsg.datasets.layouts import WordList


def add_word_lists(connection: Connection[Any], dataset: str, lists: Sequence[WordList]) -> None:
    """Keep the lists that come with a dataset, each as the vocabulary `dataset-list`."""
    with connection.transaction():
        for words in lists:
            add_vocabulary(connection, f"{dataset}-{words.name}", words.kind, words.words)
