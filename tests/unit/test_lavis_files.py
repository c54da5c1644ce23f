"""What the encoder `lavis` makes of its files, without LAVIS."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from open3dsg.encoders.contract import Choices
from open3dsg.encoders.lavis import FROZEN, Lavis
from open3dsg.errors import BadFileError, UserError
from tests import lavis_miniature as mini


def encoder(path: Path, **options: object) -> Lavis:
    return Lavis.from_choices(Choices("lavis", path, options=options, device="cpu"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN3DSG_HOME", str(tmp_path / "home"))


def test_sizes_and_revision_come_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lavis").mkdir()  # all that the revision asks of it is to be there
    (tmp_path / "lavis" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    folder = mini.write_pair(tmp_path / "both", blocks=1)
    made = encoder(folder)
    assert (made.name, made.views, made.text) == ("lavis", "tokens", "minilm")
    assert (made.dimension, made.tokens) == (mini.WIDTH, mini.TOKENS)
    assert made.options == {"files": [FROZEN, "blip2_pretrained.pth"], "side_px": mini.SIDE}
    assert made.revision == encoder(folder).revision
    (folder / FROZEN).unlink()
    torch.save(mini.frozen(seed=9, blocks=1), folder / FROZEN)
    # A folder of another name: a file's hash is asked once a process.
    assert encoder(folder.rename(tmp_path / "other")).revision != made.revision


def drop_frozen(folder: Path) -> None:
    (folder / FROZEN).unlink()


def add_another(folder: Path) -> None:
    (folder / "blip2_pretrained_opt2.7b.pth").write_bytes(b"")


def cut_short(folder: Path) -> None:
    file = folder / FROZEN
    file.write_bytes(file.read_bytes()[:-1000])


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def run_code(folder: Path) -> None:
    torch.save({**mini.frozen(blocks=1), "pos_embed": Evil()}, folder / FROZEN)


def another_head(folder: Path) -> None:
    state = mini.frozen(blocks=1)
    state["pos_embed"] = state["pos_embed"][:, :-1]
    torch.save(state, folder / FROZEN)


def flat_patches(folder: Path) -> None:
    state = mini.frozen(blocks=1)
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].flatten(1)
    torch.save(state, folder / FROZEN)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            drop_frozen,
            r"visual_encoder.patch_embed.proj.weight is missing; .* want eva_vit_g.pth in",
        ),
        (add_another, r"one file .* found blip2_pretrained.pth, blip2_pretrained_opt2.7b.pth"),
        (cut_short, r"eva_vit_g.pth: .*damaged"),
        (run_code, r"eva_vit_g.pth: not opened: .* wants to run posix.system"),
        (another_head, r"9 tokens of 176 numbers, expected 1 \+ a square"),
        (flat_patches, r"tensors of other shapes"),
    ],
)
def test_files_that_will_not_do_are_named_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    folder = mini.write_pair(tmp_path / "both", blocks=1)
    spoil(folder)
    with pytest.raises(BadFileError, match=told) as error:
        _ = encoder(folder).tokens
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_missing_weights_say_what_goes_where(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"missing. It wants .*/none: a folder with eva_vit_g.pth and"):
        _ = encoder(tmp_path / "none").options


def test_an_option_it_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[encoders.lavis\] in the settings: unknown key 'depth'"):
        encoder(tmp_path, depth=40)


@pytest.mark.skipif(importlib.util.find_spec("lavis") is not None, reason="LAVIS is installed here")
def test_without_lavis_it_says_what_to_run(tmp_path: Path) -> None:
    made = encoder(mini.write_pair(tmp_path / "both", blocks=1))
    for ask in (lambda: made.revision, lambda: made.encode_tokens([np.zeros((10, 20, 3), np.uint8)])):
        with pytest.raises(UserError, match=r"needs the package lavis: run scripts/lavis_environment"):
            ask()
