"""OpenSeg: a vector for every pixel of a photograph, in the text space of CLIP ViT-L/14@336px.

Ghiasi et al., "Scaling Open-Vocabulary Image Segmentation with Image-Level Labels", ECCV 2022. The weights
are the authors' export, a TensorFlow SavedModel; its text side is CLIP (Radford et al., ICML 2021), an
encoder of its own here, which `text` in ``[encoders.openseg]`` names. It is run as Open3DSG runs it: the
photograph goes in as a JPEG of TensorFlow's default quality, the grid that comes out is cut to the part that
shows it, a pixel takes the nearest cell, and an instance the mean over its pixels. Open3DSG rounds the grid
to float16 before that mean; here it stays float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from open3dsg.encoders.checkpoint import reading
from open3dsg.encoders.contract import Choices, TextEncoder
from open3dsg.encoders.grids import aligned_cells, pixel_means
from open3dsg.encoders.support import check_options, check_picture, need_checkpoint, revision_of
from open3dsg.encoders.tensorflow_package import load_tensorflow, tensorflow_device
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSION = 768
JPEG_QUALITY = 95
INPUTS = ("inp_image_bytes", "inp_text_emb")
FEATURES, INFO = "ppixel_ave_feat", "image_info"
ORIGINAL, SCALE = 0, 2  # rows of image_info: (height, width) of the photograph, and its factors to the grid's


class Openseg:
    """Pixel sets and whole photographs to vectors of 768 numbers of any length, words to unit rows."""

    dimension = DIMENSION
    views: Literal["pixels"] = "pixels"
    WANTS: ClassVar[str] = (
        "saved_model.pb and the folder variables/ of OpenSeg's export, which"
        " gs://cloud-tpu-checkpoints/detection/projects/openseg/colab/exported_model holds, at {path}"
    )
    NEEDS: ClassVar[tuple[str, ...]] = ("tensorflow",)
    INSTALL: ClassVar[str] = "pip install 'open3dsg[openseg]'"

    def __init__(self, choices: Choices) -> None:
        """Take the weights and the text side of `choices`; nothing is read yet.

        `precision` changes nothing: a SavedModel reckons in the numbers that it was saved with.
        """
        check_options(choices, {"text": str})
        self.name = choices.name
        # MiniLM, which stands for no choice, has no place beside pictures of this space.
        self.text = "clip" if choices.text == Choices.text else choices.text
        self._choices = choices

    @classmethod
    def from_choices(cls, choices: Choices) -> Self:
        """Make the encoder that was chosen."""
        return cls(choices)

    @cached_property
    def device(self) -> str:
        """Where the model works, as torch names it."""
        return tensorflow_device(self._tensorflow, self.name, self._choices.device)

    @property
    def options(self) -> Mapping[str, Any]:
        """What changes the embeddings beside weights and text side."""
        return {"jpeg_quality": JPEG_QUALITY, "cells": "nearest, corners aligned"}

    @cached_property
    def image_revision(self) -> str:
        """Hash (16 hex digits) of the SavedModel and the options."""
        return revision_of(self.options, self._files)

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of the SavedModel, the options and the text side."""
        return revision_of({**self.options, "text": self._words.revision}, self._files)

    @property
    def text_revision(self) -> str:
        """Hash of the text side alone, which needs no SavedModel."""
        return self._words.revision

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` with CLIP as (n, 768) float32 unit rows."""
        return self._words.encode_text(texts)

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Embed pixel sets of one upright (height, width, 3) uint8 photograph as (n, 768) float32 rows.

        Each set is (m, 2) int64, (row, column); a pixel named twice counts twice. Rows are not finite where
        the model's numbers are not. Raises ValueError for a picture of another shape, one so long that it has
        no row or column on the grid, and for a set that is empty or leaves the picture.
        """
        import numpy as np

        check_picture(image, "image")
        if not pixels:
            return np.zeros((0, DIMENSION), np.float32)
        grid = self.encode_image(image)
        row_cells, column_cells = map(self.cells_of, image.shape[:2], grid.shape[:2])
        return pixel_means(grid, row_cells, column_cells, pixels)

    def encode_image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (rows, columns, 768) float32, the longer side 640 cells in the published model; read-only.

        Raises ValueError as `encode_pixels` does.
        """
        import numpy as np

        check_picture(image, "image")
        tf, serve = self._tensorflow, self._model.signatures["serving_default"]
        with self._placed():
            try:
                jpeg = tf.io.encode_jpeg(image, quality=JPEG_QUALITY)
                told = serve(inp_image_bytes=jpeg, inp_text_emb=tf.zeros([1, 1, DIMENSION]))
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(
                    f"OpenSeg cannot take a picture of {_size(image)}: {_gist(error)}"
                ) from error
            except tf.errors.ResourceExhaustedError as error:
                raise UserError(
                    f"the {self.name} encoder ran out of memory on {self.device} with a picture of"
                    f" {_size(image)}: end what else works there, or give --device cpu"
                ) from error
        grid, info = np.asarray(told[FEATURES]), np.asarray(told[INFO])  # no copies, on a CPU
        if grid.ndim != 4 or grid.shape[3] != DIMENSION or info.shape != (4, 2):
            raise BadFileError(f"{self._choices.checkpoint}: no OpenSeg: it made {grid.shape} of a picture")
        # As published: the product is of float32 and cut down, which now and then costs a row.
        rows, columns = (info[ORIGINAL] * info[SCALE]).astype(int)
        if min(rows, columns) < 1:
            raise ValueError(f"a picture of {_size(image)} is too long for OpenSeg: one side vanishes")
        return grid[0, :rows, :columns].astype(np.float32, copy=False)

    def cells_of(self, pixels: int, cells: int) -> NDArray[np.int64]:
        """Return, (pixels,), which of `cells` along a side each of `pixels` takes: the nearest."""
        return aligned_cells(pixels, cells)

    @cached_property
    def _words(self) -> TextEncoder:
        from open3dsg.encoders.registry import load_text_encoder

        told = f"`text` in [encoders.{self.name}]"
        if self.text == self.name:
            raise UserError(f"{told} names the encoder itself: it must name CLIP ViT-L/14@336px")
        words = load_text_encoder(self.text, self._choices.device)
        if words.dimension != DIMENSION:
            raise UserError(
                f"the encoder {self.text} has {words.dimension} numbers a word, OpenSeg {DIMENSION} a pixel:"
                f" {told} must name CLIP ViT-L/14@336px"
            )
        return words

    @property
    def _files(self) -> list[Path]:
        """The files of the SavedModel that make it what it is; BadFileError where it lacks one."""
        folder = need_checkpoint(self._choices, self.WANTS)
        needed = [folder / "saved_model.pb", folder / "variables" / "variables.index"]
        for path in needed:
            if not path.is_file():
                raise BadFileError(f"{path}: missing: {self.name} wants {self.WANTS.format(path=folder)}")
        held = {*needed, *folder.glob("variables/variables.*"), *folder.glob("assets/**/*")}
        return sorted(path for path in held if path.is_file())

    @cached_property
    def _tensorflow(self) -> Any:
        return load_tensorflow(self.name, self.INSTALL)

    def _placed(self) -> AbstractContextManager[None]:
        """Let TensorFlow work on the device within the block."""
        placed: AbstractContextManager[None] = self._tensorflow.device(self.device.replace("cuda", "GPU"))
        return placed

    @cached_property
    def _model(self) -> Any:
        folder = self._choices.checkpoint
        _ = self._files  # what is missing is told in words of ours
        with reading(folder, self.name), self._placed():
            model = self._tensorflow.saved_model.load(str(folder), tags=["serve"])
        _check_signature(folder, model.signatures.get("serving_default"))
        return model


def _check_signature(folder: Path, signature: Any) -> None:
    """Raise BadFileError unless a SavedModel takes and gives what OpenSeg does."""
    if signature is None:
        raise BadFileError(f"{folder}: no OpenSeg: it has no signature serving_default")
    takes, gives = signature.structured_input_signature[1], signature.structured_outputs
    if set(takes) != set(INPUTS) or not {FEATURES, INFO} <= set(gives):
        raise BadFileError(
            f"{folder}: no OpenSeg: it makes {', '.join(sorted(gives))} of {', '.join(sorted(takes))}"
        )
    dimension = gives[FEATURES].shape[-1] if gives[FEATURES].shape.rank else None
    if dimension not in (None, DIMENSION):
        raise BadFileError(f"{folder}: no OpenSeg: {dimension} numbers a pixel, expected {DIMENSION}")


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[0]} x {image.shape[1]} pixels"


def _gist(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
