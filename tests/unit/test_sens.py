"""`.sens` files: what is told of damaged ones, and that a picture's place is checked."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.sens import SensFile
from open3dsg.errors import BadFileError, UserError
from tests import scannet_miniature as scannet

HEADER = 4 + 8 + len(b"invented device")  # where the matrices begin
COMPRESSIONS = HEADER + 64 * 4
SIZES = COMPRESSIONS + 8
SHIFT = SIZES + 16
FIRST = SHIFT + 4 + 8


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sens") / "a.sens"
    scannet.write_sens(path, step=2)
    return path.read_bytes()


@pytest.fixture
def path(whole: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "a.sens"
    file.write_bytes(whole)
    return file


def patched(data: bytes, at: int, layout: str, *values: float | bytes) -> bytes:
    new = struct.pack(layout, *values)
    return data[:at] + new + data[at + len(new) :]


def members(path: Path) -> tuple[str, str]:
    with SensFile(path) as file:
        *_, last = file.frames(2)
    color, depth = last.member("color"), last.member("depth")
    assert color is not None
    assert depth is not None
    return color, depth


def test_every_frame_and_every_nth(path: Path) -> None:
    with SensFile(path) as file:
        assert file.header.frames == 7
        assert [frame.number for frame in file.frames()] == list(range(7))
        assert [frame.number for frame in file.frames(3)] == [0, 3, 6]


@pytest.mark.parametrize(
    ("at", "layout", "values", "message"),
    [
        (0, "<I", (3,), "no .sens file of version 4"),
        (4, "<Q", (2**60,), "no .sens file of version 4"),
        (
            COMPRESSIONS,
            "<i",
            (0,),
            "colour compression 0 and depth compression 1: those read are PNG and JPEG",
        ),
        (COMPRESSIONS + 4, "<i", (2,), "depth compression 2"),
        (SIZES, "<I", (0,), "pictures of 0x72 and 48x36 pixels .* cannot be"),
        (SIZES + 8, "<I", (2**31,), "pictures of 96x72 and 2147483648x36 pixels .* cannot be"),
        (SHIFT, "<f", (0.0,), "with 0 depth units a metre cannot be"),
        (SHIFT, "<f", (float("nan"),), "with nan depth units a metre cannot be"),
        (SHIFT + 4, "<Q", (2**63,), "9223372036854775808 frames declared in .* bytes"),
        (SHIFT + 4, "<Q", (8,), "ends within frame 7 of 8"),
        (FIRST + 80, "<Q", (2**62,), "ends within frame 0 of 7"),
    ],
)
def test_headers_that_cannot_be(
    path: Path, at: int, layout: str, values: tuple[float, ...], message: str
) -> None:
    path.write_bytes(patched(path.read_bytes(), at, layout, *values))
    with pytest.raises(BadFileError, match=message), SensFile(path) as file:
        list(file.frames())


@pytest.mark.parametrize("end", [0, 3, 11, HEADER + 10, FIRST - 1, FIRST + 50, FIRST + 200, -9])
def test_files_that_are_cut_off(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(BadFileError, match=r"a\.sens: "), SensFile(path) as file:
        list(file.frames())


def test_a_pose_that_no_processor_likes(path: Path) -> None:
    path.write_bytes(patched(path.read_bytes(), FIRST, "<I", 0x7F800001))  # a NaN that signals
    with SensFile(path) as file:
        first = next(file.frames())
    assert np.isnan(first.T_world_camera).sum() == 1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="cannot be read: No such file"):
        SensFile(tmp_path / "a.sens")


def test_a_picture_is_where_its_uri_says_or_nowhere(path: Path) -> None:
    color, depth = members(path)
    with ImageReader(path.parent) as reader:
        assert reader.read_bytes(f"a.sens!{color}").startswith(b"\xff\xd8")
        assert reader.read_depth_m(f"a.sens!{depth}", 0.001).shape == (36, 48)
        place, length = (int(word) for word in color.partition("@")[2].split("+"))
        for wrong in (
            f"6.color@{place + 1}+{length}",
            f"6.color@{place}+{length + 1}",
            f"6.depth@{place}+{length}",
            f"6.color@{10**17}+{length}",
        ):
            with pytest.raises(BadFileError, match=r"is not at its place: .* ingest its scan again"):
                reader.read_bytes(f"a.sens!{wrong}")
        for none in ("", "6", "6.pose@1+1", f"6.color@{'9' * 30}+1", "6.color@-1+1"):
            with pytest.raises(BadFileError, match="is not at its place"):
                reader.read_bytes(f"a.sens!{none}")
        with pytest.raises(BadFileError, match="cannot be read"):
            reader.read_bytes(f"b.sens!{color}")
        with pytest.raises(UserError, match="named relative to its root"):
            reader.read_bytes(f"../a.sens!{color}")


def test_a_file_that_was_replaced_is_noticed(path: Path) -> None:
    color, _ = members(path)
    scannet.write_sens(path, step=3)
    with (
        ImageReader(path.parent) as reader,
        pytest.raises(BadFileError, match="is not at its place"),
    ):
        reader.read_bytes(f"a.sens!{color}")


def test_depth_that_does_not_unpack(path: Path, whole: bytes) -> None:
    _, depth = members(path)
    place, length = (int(word) for word in depth.partition("@")[2].split("+"))
    start = len(whole) - 8 - length
    with ImageReader(path.parent) as reader:
        path.write_bytes(patched(whole, start, "<4s", b"junk"))
        with pytest.raises(BadFileError, match="is damaged: "):
            reader.read_depth_m(f"a.sens!{depth}", 0.001)
    path.write_bytes(patched(whole, SIZES + 8, "<I", 47))
    with (
        ImageReader(path.parent) as reader,
        pytest.raises(BadFileError, match=r"no depth picture of 47x36 .* over"),
    ):
        reader.read_depth_m(f"a.sens!{depth}", 0.001)
    path.write_bytes(patched(whole, SIZES + 8, "<I", 49))
    with ImageReader(path.parent) as reader, pytest.raises(BadFileError, match="it has 3456 bytes for 3528"):
        reader.read_depth_m(f"a.sens!{depth}", 0.001)
    assert place > 0


def test_little_memory_for_much_zlib(path: Path, whole: bytes) -> None:
    """A picture that unpacks to far more than its size is given up at its size."""
    import tracemalloc
    import zlib

    bomb = zlib.compress(bytes(50_000_000))
    head = struct.pack("<16f4Q", *np.eye(4).ravel(), 0, 0, 1, len(bomb))
    path.write_bytes(patched(whole[:FIRST], SHIFT + 4, "<Q", 1) + head + b"x" + bomb)
    tracemalloc.start()
    with SensFile(path) as file, pytest.raises(BadFileError, match="over 3456 bytes for 3456"):
        file.read_depth(f"0.depth@{FIRST}+{len(bomb)}")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
