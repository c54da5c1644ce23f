"""A folder of pictures: its index speaks of pictures that are there, and other files stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open3dsg.errors import UserError
from open3dsg.view.album import Album

PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_an_index_of_an_earlier_time_goes_with_the_first_picture(tmp_path: Path) -> None:
    for name in ("index.json", "other.json", "1.png"):
        (tmp_path / name).write_text("old")
    album = Album(tmp_path, "index.json")
    assert (tmp_path / "index.json").exists(), "nothing is touched before there is something to write"
    album.add("2.png", PICTURE)
    assert {path.name for path in tmp_path.iterdir()} == {"other.json", "1.png", "2.png"}
    album.close([{"file": "2.png", "label": "\N{SNOWMAN}"}])
    assert json.loads((tmp_path / "index.json").read_text(encoding="utf-8")) == [
        {"file": "2.png", "label": "\N{SNOWMAN}"}
    ]
    assert (tmp_path / "other.json").read_text() == (tmp_path / "1.png").read_text() == "old"
    assert album.pictures == 1
    with Image.open(tmp_path / "2.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), PICTURE)


def test_a_folder_is_made_for_an_index_alone(tmp_path: Path) -> None:
    Album(tmp_path / "a" / "b", "index.json").close([])
    assert json.loads((tmp_path / "a" / "b" / "index.json").read_text()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        Album(tmp_path / "file" / "pictures", "index.json").add("1.png", PICTURE)
    assert (tmp_path / "file").read_text() == "mine"
