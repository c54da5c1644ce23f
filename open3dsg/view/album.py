"""A folder of pictures with an index of them; other files of the folder are left alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from open3dsg.errors import UserError
from open3dsg.export.files import whole_file, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

_COMPRESSION = 1  # photographs hardly get smaller with more, and take several times as long


class Album:
    """Pictures written one by one, each whole or not at all, and at the end what they show.

    The folder is made with the first picture. An index of an earlier time goes then, so that one that is
    there speaks of pictures that are all there.
    """

    def __init__(self, folder: Path, index: str) -> None:
        """Write into `folder`, and its index into the file of this name; nothing is touched yet."""
        self._folder = folder
        self._index = folder / index
        self._is_open = False
        self.pictures = 0

    def add(self, name: str, picture: NDArray[np.uint8]) -> None:
        """Write `picture`, (height, width, 3) RGB, as PNG; UserError where the folder does not take it."""
        from PIL import Image

        self._open()
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG", compress_level=_COMPRESSION)
        with whole_file(self._folder / name) as file:
            file.write(data.getbuffer())
        self.pictures += 1

    def close(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the index: a JSON list."""
        self._open()
        write_json(self._index, records)

    def _open(self) -> None:
        if self._is_open:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._index.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written: {error.strerror}") from error
        self._is_open = True
