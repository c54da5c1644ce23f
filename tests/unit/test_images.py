from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from open3dsg.datasets.check.files import damage_of
from open3dsg.datasets.images import ImageReader, read_image
from open3dsg.errors import BadFileError, UserError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def read_bytes(root: Path, uri: str) -> bytes:
    with ImageReader(root) as reader:
        return reader.read_bytes(uri)


def read_depth_m(root: Path, uri: str, unit_m: float) -> NDArray[np.float32]:
    with ImageReader(root) as reader:
        return reader.read_depth_m(uri, unit_m)


@settings(max_examples=30, deadline=None)
@example(rows=[[0, 1, 65534, 65535]])
@given(
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 65535), min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_depth_of_pgm_and_png_alike(rows: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("depth")
    flat = [value for row in rows for value in row]
    header = f"P5\n# with # comments\n{len(rows[0])}\t{len(rows)} # here too\n65535\n".encode()
    (folder / "a.pgm").write_bytes(header + struct.pack(f">{len(flat)}H", *flat))
    Image.fromarray(np.array(rows, np.uint16)).save(folder / "a.png")
    for uri in ("a.pgm", "a.png"):
        depth_m = read_depth_m(folder, uri, 0.001)
        assert depth_m.dtype == np.float32
        expected = [[0 if value == 65535 else value / 1000 for value in row] for row in rows]
        np.testing.assert_allclose(depth_m, expected, rtol=1e-6)


def test_pgm_of_one_byte_a_pixel(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 255\n\x0a\xff")
    np.testing.assert_array_equal(read_depth_m(tmp_path, "a.pgm", 1.0), [[10, 255]])


def test_photograph_from_folder_and_zip(tmp_path: Path) -> None:
    folder = tmp_path / "scan ü 1"
    folder.mkdir()
    Image.fromarray(RGB).save(folder / "é 0.png")
    with zipfile.ZipFile(folder / "sequence.zip", "w") as archive:
        archive.write(folder / "é 0.png", "in/é 0.png")
    for uri in ("scan ü 1/é 0.png", "scan ü 1/sequence.zip!in/é 0.png"):
        np.testing.assert_array_equal(read_image(tmp_path, uri), RGB)


def test_grey_photograph_becomes_rgb(tmp_path: Path) -> None:
    Image.fromarray(RGB[:, :, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path, "a.png"), np.repeat(RGB[:, :, :1], 3, axis=2))


def test_reader_changes_between_zips(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("member", name * 3)
    with ImageReader(tmp_path) as reader:
        assert [reader.read_bytes(f"{name}.zip!member") for name in "aab"] == [b"aaa", b"aaa", b"bbb"]
        assert reader.zip_members("a.zip") == ["member"]


@pytest.mark.parametrize("uri", ["/etc/passwd", "../secret", "a/../../secret", "", ".zip!a", "../a.zip!b"])
def test_uris_stay_under_the_root(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="named relative to its root"):
        read_bytes(tmp_path, uri)


def test_damaged_photographs_are_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a.jpg", "a.png"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(BadFileError, match=name):
            read_image(tmp_path, name)
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(BadFileError, match=r"a\.jpg: no picture"):
        read_image(tmp_path, "a.jpg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P5 2 2 65535\n1234567", "truncated: 8 bytes of pixels expected, 7 found"),
        (b"P5 2 2", "header is damaged"),
        (b"P5 0 2 255\n", "cannot be"),
        (b"P5 2 2 65536\n12345678", "cannot be"),
        (b"P2 1 1 255\n7\n", "a depth picture is PGM or grey PNG"),
        (b"", "no picture"),
    ],
)
def test_damaged_depth_is_told(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(BadFileError, match=message):
        read_depth_m(tmp_path, "a.pgm", 0.001)


def test_colour_is_no_depth(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(BadFileError, match="PNG of mode RGB"):
        read_depth_m(tmp_path, "a.png", 0.001)


def test_absent_files_and_members_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("here", "x" * 1000)
    for uri, message in (
        ("b.jpg", "No such file"),
        ("b.zip!here", "No such file"),
        ("a.zip!there", "holds no 'there'"),
    ):
        with pytest.raises(BadFileError, match=message):
            read_bytes(tmp_path, uri)


def test_damaged_zips_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("here", "x" * 1000)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(BadFileError, match="no zip file, or cut off"):
        read_bytes(tmp_path, "a.zip!here")
    for offset, value in ((6, 100), (9, 8)):  # a version that is none; a name that is said to be UTF-8
        broken = bytearray(whole.replace(b"here", b"\xffere"))
        broken[whole.rindex(b"PK\x01\x02") + offset] = value
        path.write_bytes(broken)
        with pytest.raises(BadFileError, match="no zip file, or cut off"):
            read_bytes(tmp_path, "a.zip!here")
        assert damage_of(path, "zip") is not None
    path.write_bytes(whole.replace(b"xxxx", b"yyyy", 1))
    with pytest.raises(BadFileError, match="'here' is damaged"):
        read_bytes(tmp_path, "a.zip!here")
