"""Encoders as rows: what the store refuses of them."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import Connection

from open3dsg.errors import UserError
from open3dsg.store.encoders import register_encoder
from tests.toy_encoder import Toy


class Wider(Toy):
    dimension = 5


class TooWide(Toy):
    dimension = 4096
    revision = "1" * 16


def test_a_revision_with_another_dimension_is_refused_by_name(database: Connection[Any]) -> None:
    assert register_encoder(database, Toy()).dimension == 4
    with pytest.raises(UserError, match=r"has toy@0123456789abcdef with 4 numbers .* encoder gives 5: "):
        register_encoder(database, Wider())


def test_more_numbers_than_an_index_takes_are_refused(database: Connection[Any]) -> None:
    with pytest.raises(
        UserError, match="the encoder toy gives 4096 numbers a row; the store holds 1 to 4000"
    ):
        register_encoder(database, TooWide())
    assert database.execute("SELECT count(*) FROM encoder").fetchone() == (0,)
