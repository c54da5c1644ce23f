"""Pictures of a dataset by URI: photographs as RGB, depth in metres, from folders and out of zip files.

A URI is relative to the dataset's root; ``path/to/file.zip!member`` is a member of a zip file, which is read
in place and never unpacked, and ``path/to/file.sens!member`` a picture of a `.sens` file (sens.py).
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from open3dsg.datasets.files import read_bytes
from open3dsg.datasets.paths import split_uri
from open3dsg.datasets.sens import SENS_SUFFIX, SensFile
from open3dsg.errors import BadFileError

_COMMENT_OR_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PGM_HEADER = re.compile(
    rb"P5" + _COMMENT_OR_SPACE + rb"(\d+)" + _COMMENT_OR_SPACE + rb"(\d+)" + _COMMENT_OR_SPACE + rb"(\d+)\s"
)
_NO_DEPTH = 65535  # the largest number of 16 bits
DAMAGED_PICTURE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# A broken directory of a zip file sends the reader to places before its beginning: OSError, ValueError; or
# asks for a version of the format that is none: NotImplementedError.
DAMAGED_ZIP = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError,
)  # fmt: skip


class ImageReader:
    """Reads files by URI under one root and keeps the last container open: use it as a context manager."""

    def __init__(self, root: Path) -> None:
        """Read under the folder `root`; nothing is opened yet."""
        self._root = root
        self._zip: zipfile.ZipFile | None = None
        self._zip_path: Path | None = None
        self._sens: SensFile | None = None

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file that is kept open."""
        self.close()

    def close(self) -> None:
        """Close the file that is kept open, if any; the reader can be used again."""
        for container in (self._zip, self._sens):
            if container is not None:
                container.close()
        self._zip = self._zip_path = self._sens = None

    def zip_members(self, uri: str) -> list[str]:
        """Return the names of all members of the zip file `uri`."""
        return self._open_zip(split_uri(self._root, uri)[0]).namelist()

    def zip_member_sizes(self, uri: str) -> dict[str, int]:
        """Return member name -> its bytes when unpacked, of the zip file `uri`."""
        infos = self._open_zip(split_uri(self._root, uri)[0]).infolist()
        return {info.filename: info.file_size for info in infos if not info.is_dir()}

    def read_bytes(self, uri: str) -> bytes:
        """Return the bytes of `uri`. Raises BadFileError where it is missing or its container is damaged."""
        path, zip_member = split_uri(self._root, uri)
        if zip_member is None:
            return read_bytes(path)
        if path.suffix == SENS_SUFFIX:
            return self._open_sens(path).read(zip_member)
        archive = self._open_zip(path)
        try:
            return archive.read(zip_member)
        except KeyError as error:
            raise BadFileError(f"{path}: holds no {zip_member!r}") from error
        except DAMAGED_ZIP as error:
            raise BadFileError(f"{path}: {zip_member!r} is damaged: {error}; fetch the file again") from error

    def read_image(self, uri: str) -> NDArray[np.uint8]:
        """Return the photograph `uri` as (height, width, 3) uint8 RGB.

        Raises BadFileError for a file that is missing, truncated or no picture.
        """
        with _decoded(self.read_bytes(uri), uri) as picture:
            return np.asarray(picture.convert("RGB"))

    def read_depth_m(self, uri: str, unit_m: float) -> NDArray[np.float32]:
        """Return the depth picture `uri` as (height, width) float32 metres; 0 is no measurement.

        65535 in 16 bits is none either: 7-Scenes marks it so, and else it is what did not fit.
        Reads PGM (P5; two bytes a pixel, the higher first, where its maximum is over 255) and grey PNG of
        8 or 16 bits, and depth of `.sens` files; pixels times `unit_m` are metres. Raises BadFileError for
        anything else.
        """
        raw = self._read_raw_depth(uri)
        depth_m = raw.astype(np.float32) * np.float32(unit_m)
        depth_m[raw == _NO_DEPTH] = 0
        return depth_m

    def _read_raw_depth(self, uri: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
        path, member = split_uri(self._root, uri)
        if member is not None and path.suffix == SENS_SUFFIX:
            return self._open_sens(path).read_depth(member)
        data = self.read_bytes(uri)
        return _decode_pgm(data, uri) if data.startswith(b"P5") else _decode_grey(data, uri)

    def _open_sens(self, path: Path) -> SensFile:
        if self._sens is None or self._sens.path != path:
            self.close()
            self._sens = SensFile(path)
        return self._sens

    def _open_zip(self, path: Path) -> zipfile.ZipFile:
        if self._zip is None or self._zip_path != path:
            self.close()
            try:
                self._zip = zipfile.ZipFile(path)
            except DAMAGED_ZIP as error:
                if isinstance(error, OSError) and error.strerror:
                    raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
                raise BadFileError(f"{path}: no zip file, or cut off; fetch it again") from error
            self._zip_path = path
        return self._zip


def read_image(root: Path, uri: str) -> NDArray[np.uint8]:
    """Return the photograph `uri` as (height, width, 3) uint8 RGB; see `ImageReader.read_image`."""
    with ImageReader(root) as reader:
        return reader.read_image(uri)


def picture_size(
    file: Path | io.BytesIO, formats: tuple[str, ...] = ("JPEG", "PNG")
) -> tuple[int, int] | str:
    """Return width and height as the head of a picture has them, or what is wrong: `is damaged: ...`.

    No pixel is read, and very many of them are no reason for Pillow's warning.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as picture:
                return picture.size
    except UnidentifiedImageError:
        return f"is no {' or '.join(formats).replace('PPM', 'PGM')}"  # Pillow calls both PPM
    except DAMAGED_PICTURE as error:
        refused = error.strerror if isinstance(error, OSError) else None
        return f"cannot be read: {refused}" if refused else f"is damaged: {error}"


def _decoded(data: bytes, uri: str) -> Image.Image:
    """Decode all pixels of a picture now, so that a truncated one fails here and not later."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except UnidentifiedImageError as error:
        raise BadFileError(f"{uri}: no picture of a known kind") from error
    except DAMAGED_PICTURE as error:
        raise BadFileError(f"{uri}: damaged picture: {error}") from error
    return picture


class _PgmHeader(NamedTuple):
    """What the header of a PGM file declares, and where its pixels begin."""

    width: int
    height: int
    pixel: np.dtype[Any]
    start: int

    @property
    def pixel_bytes(self) -> int:
        """The bytes of all pixels."""
        return self.width * self.height * self.pixel.itemsize


def _read_pgm_header(data: bytes, uri: str) -> _PgmHeader:
    """Read the header at the beginning of a PGM file (P5); raises BadFileError where it is damaged."""
    header = _PGM_HEADER.match(data)
    if header is None:
        raise BadFileError(f"{uri}: the PGM header is damaged")
    width, height, maximum = (int(number) for number in header.groups())
    if not (width and height and 0 < maximum < 65536):
        raise BadFileError(f"{uri}: a PGM of {width} x {height} pixels up to {maximum} cannot be")
    return _PgmHeader(width, height, np.dtype(">u2" if maximum > 255 else "u1"), header.end())


def _decode_pgm(data: bytes, uri: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    header = _read_pgm_header(data, uri)
    found = len(data) - header.start
    if found < header.pixel_bytes:
        raise BadFileError(f"{uri}: truncated: {header.pixel_bytes} bytes of pixels expected, {found} found")
    count = header.width * header.height
    pixels: NDArray[np.uint8] | NDArray[np.uint16] = np.frombuffer(data, header.pixel, count, header.start)
    return pixels.reshape(header.height, header.width)


def _decode_grey(data: bytes, uri: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    with _decoded(data, uri) as picture:
        if picture.format != "PNG" or picture.mode not in ("L", "I;16", "I;16B"):
            raise BadFileError(
                f"{uri}: a depth picture is PGM or grey PNG of 8 or 16 bits, "
                f"this is {picture.format} of mode {picture.mode}"
            )
        return np.asarray(picture)
