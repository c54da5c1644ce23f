"""`open3dsg features images` through the installed command; there is no database."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.export.dense import pixel_features
from tests.command import PROGRAM, Done, call, environment
from tests.toy_encoder import embed_colours

Run = Callable[..., Done]
COUNT = 100
NOWHERE = "postgresql://nobody@localhost:1/nothing"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("command"), NOWHERE)


@pytest.fixture
def images(variables: dict[str, str]) -> Run:
    def images(*arguments: object) -> Done:
        return call(variables, "features", "images", *arguments, "--encoder", "toypixels")

    return images


def picture(seed: int, height: int = 12, width: int = 18) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, two of one name."""
    folder = tmp_path / "räume 'a'"
    (folder / "deep" / "down").mkdir(parents=True)
    for number, name in enumerate(["a.png", "a.bmp", "deep/b.PNG", "deep/down/c.jpg"]):
        Image.fromarray(picture(number)).save(folder / name)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_tree_is_kept_and_each_pixel_has_its_vector(folder: Path, tmp_path: Path, images: Run) -> None:
    out = tmp_path / "out" / "new"
    report = images(folder, out, "--json").json
    assert report["pictures"] == {"done": 4, "skipped": 0, "failed": 0}
    written = ["a.bmp", "a.png", "deep/b.PNG", "deep/down/c.jpg"]
    assert files(out) == [f"{name}.{kind}" for name in written for kind in ("npz", "png")]
    assert report["bytes"] == sum((out / name).stat().st_size for name in files(out))
    for number, name in enumerate(["a.png", "a.bmp", "deep/b.PNG"]):
        pixels = np.argwhere(np.ones((12, 18)))
        seen = picture(number)[pixels[:, 0] // 2 * 2, pixels[:, 1] // 2 * 2]
        found = pixel_features(out / f"{name}.npz", pixels)
        np.testing.assert_allclose(found, embed_colours(seen / 255), atol=1e-3)
        with Image.open(out / f"{name}.png") as groups:
            assert groups.size == (18, 12)
            assert np.asarray(groups).max() < 20


def test_only_what_changed_is_done_again(folder: Path, tmp_path: Path, images: Run) -> None:
    out = tmp_path / "out"

    def done(*options: object) -> int:
        report = images(folder, out, "--json", *options).json["pictures"]
        assert report["done"] + report["skipped"] == 4
        return int(report["done"])

    assert done() == 4
    before = {name: (out / name).read_bytes() for name in files(out)}
    assert done() == 0
    Image.fromarray(picture(9)).save(folder / "a.png")
    assert done() == 1
    (out / "deep" / "b.PNG.png").unlink()
    assert done() == 1
    (out / "a.bmp.npz").write_bytes(before["a.bmp.npz"][:-50])
    assert done() == 1
    assert done("--clusters", 3) == 4
    assert done("--clusters", 3, "--force") == 4
    Image.fromarray(picture(0)).save(folder / "a.png")
    assert done() == 4
    assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_broken_pictures_are_named_and_the_others_done(folder: Path, tmp_path: Path, images: Run) -> None:
    whole = (folder / "deep" / "down" / "c.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.bmp").touch()
    Image.fromarray(picture(1)).save(folder / "really.gif")
    (folder / "really.gif").rename(folder / "gif.jpg")
    Image.fromarray(np.full((5, 5), 3000, np.uint16)).save(folder / "depth.png")
    (folder / "gone.jpg").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.jpg")
    done = images(folder, tmp_path / "out")
    assert done.code == 2
    assert done.out.startswith("images: 4 done, 0 already done, 7 failed in ")
    told = {line.split(": ")[1]: line.split(": ", 2)[2] for line in done.errors}
    assert told["cut.jpg"].startswith("is damaged: ")
    assert told["depth.png"] == "is grey of 16 bits: a depth picture, no photograph"
    for name in ("text.png", "empty.bmp", "gif.jpg"):
        assert told[name] == "is no BMP, JPEG, PNG"
    assert told["pipe.jpg"] == told["gone.jpg"] == "is no file"
    assert not {name.split(".")[0] for name in files(tmp_path / "out")} & {
        name.split(".")[0] for name in told
    }
    again = images(folder, tmp_path / "out", "--json")
    assert again.code == 2
    assert '"skipped": 4' in again.out


def test_what_cannot_be_is_refused_in_one_line(folder: Path, tmp_path: Path, images: Run) -> None:
    def refused(*arguments: object) -> str:
        done = images(*arguments)
        assert done.code == 2, done
        (line,) = done.errors
        return line

    assert "holds the pictures themselves" in refused(folder, folder)
    assert "does not exist" in refused(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    assert "holds no picture" in refused(tmp_path / "bare", tmp_path / "out")
    assert "--clusters" in refused(folder, tmp_path / "out", "--clusters", 0)
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/out" in refused(folder, tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()


def test_an_encoder_of_crops_is_refused(folder: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    done = call(variables, "features", "images", folder, tmp_path / "out", "--encoder", "toy")
    assert done.code == 2
    assert done.errors == [
        "error: the encoder toy has no vector for every pixel: take one such as openseg or rooms"
    ]


def test_openseg_is_the_default_and_says_what_it_wants(
    folder: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    done = call(variables, "features", "images", folder, tmp_path / "out")
    assert done.code == 2
    (line,) = done.errors
    assert "checkpoints/openseg" in line
    assert "exported_model" in line
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_whole_files_and_a_rerun_goes_on(
    tmp_path: Path, variables: dict[str, str], images: Run
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(COUNT):
        Image.fromarray(picture(number, 40, 60)).save(folder / f"{number}.bmp")
    command: list[str | Path] = [PROGRAM, "features", "images", folder, out, "--encoder", "toypixels"]
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(out.glob("*.npz")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    assert process.returncode in (0, 130)
    assert not list(out.glob(".*"))
    whole = len(list(out.glob("*.npz")))
    report = images(folder, out, "--json").json["pictures"]
    assert report == {"done": COUNT - whole, "skipped": whole, "failed": 0}
