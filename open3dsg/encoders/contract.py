"""What an encoder is to the rest of the project: pictures and words into one vector space.

An encoder says by `views` how it sees things, and has the methods that go with it:

- ``"crops"``, a `CropEncoder`: it is given cut-out pictures of an instance, or of a pair (`encode_crops`);
- ``"pixels"``, a `PixelEncoder`: it is given the whole photograph and the instance's pixels in it
  (`encode_pixels`), as OpenSeg is (Ghiasi et al., ECCV 2022); if it can give every pixel its vector
  (`encode_image`), it is a `DenseEncoder`;
- ``"tokens"``, a `TokenEncoder`: it turns a cut-out picture of a pair into a grid of vision tokens, which a
  language model reads (`encode_tokens`), as BLIP-2 does (Li et al., ICML 2023); words are not in that space.
  Where it has the language model too (`caption`), it is a `Captioner`;
- ``"boxes"``, a `BoxEncoder`: it says how two instances relate from their geometry alone (`relate`);
- ``"text"``, a `TextEncoder` alone: a sentence model, the text side of those that speak.

``encode_*`` return float32 rows; n may be 0. Rows of unit length: `encode_text` and `encode_crops`; the
others may have any length but zero, and an instance seen several times gets the mean. Pictures are upright:
whoever calls turns a photograph of a camera held sideways first. All crops of a call go through the model at
once, and so do all tokens: whoever calls says by their number how much memory that takes (`--batch`), and
takes fewer where it does not suffice. Texts may be any number.

Others add an encoder by an entry point in the group ``open3dsg.encoders`` that names a class. It is made by
its class method ``from_choices`` with a `Choices`, or without arguments where it has none: construction is
cheap, weights load with the first call that needs them. What is wrong with them is a UserError that names
the file and the way out; `revision` raises it, too.

It may say what it needs, for `open3dsg encoders list` to tell without loading anything, as attributes:

- ``WANTS: str``, words that follow "It wants": what must lie at ``{path}`` and where it is to be had, such as
  ``"the folder of openai/clip-vit-base-patch32 from huggingface.co at {path}"``. One without it needs no
  checkpoint. `support.need_checkpoint(choices, WANTS)` tells the same to who has none;
- ``NEEDS: tuple[str, ...]``, the modules it imports, and ``INSTALL: str``, what to type to get them.

A property ``device`` tells where it works, as torch names it, where that can be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision: TypeAlias = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Choices:
    """What was chosen for one encoder, in the settings and on the command line."""

    name: str  # as the store calls it
    checkpoint: Path  # file or folder of its weights, whether there is one or not
    text: str = "minilm"  # the sentence encoder of one that speaks
    options: Mapping[str, Any] = field(default_factory=dict)  # the rest of [encoders.NAME] in the settings
    device: str | None = None  # as torch names it; None: a GPU where there is one
    precision: Precision = "fp32"
    path_given: bool = False  # whether the settings name the checkpoint


class AnyEncoder(Protocol):
    """What all kinds share."""

    @property
    def name(self) -> str:
        """What the store calls it."""

    @property
    def dimension(self) -> int:
        """Numbers a row."""

    @property
    def revision(self) -> str:
        """Hash (16 hex digits) of the weights and of the options that change the embeddings.

        Neither device nor precision is among them: all reckon the same model.
        """


class TextEncoder(AnyEncoder, Protocol):
    """Words to vectors.

    One whose words are embedded by files of their own may say their hash alone, `text_revision`: features
    that come from elsewhere can then be asked where only those files are.
    """

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, dimension) float32 unit rows."""


class SentenceEncoder(TextEncoder, Protocol):
    """Only words."""

    views: Literal["text"]


class CropEncoder(TextEncoder, Protocol):
    """Sees an instance, or a pair, in cut-out pictures of it."""

    views: Literal["crops"]

    def encode_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed RGB pictures, each (height, width, 3) uint8, as (n, dimension) float32 unit rows.

        Raises ValueError, naming its place in `crops`, for a crop that is no such picture or has no pixel.
        """


class PixelEncoder(TextEncoder, Protocol):
    """Sees an instance as a set of pixels of a whole photograph."""

    views: Literal["pixels"]

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Embed pixel sets of one (height, width, 3) uint8 photograph as (n, dimension) float32 rows.

        Each set is (m, 2) int64 with m at least 1, (row, column) in the grid of `image`. Raises ValueError
        for a picture of another shape, and, naming its place in `pixels`, for a set that is empty or leaves
        the picture.
        """


class DenseEncoder(PixelEncoder, Protocol):
    """Has a vector for every place of a photograph."""

    @property
    def image_revision(self) -> str:
        """Hash (16 hex digits) of what `encode_image` depends on; no text side that it does without."""

    def encode_image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (rows, columns, dimension) float32, the whole photograph on the encoder's own coarser grid.

        `image`: (height, width, 3) uint8. Raises ValueError for a picture of another shape.
        """

    def cells_of(self, pixels: int, cells: int) -> NDArray[np.int64]:
        """Return, (pixels,), which cell along a side of that grid each pixel along the photograph's takes.

        `cells` is that side's length in the grid, `pixels` in the photograph: rows and columns alike.
        """


class TokenEncoder(AnyEncoder, Protocol):
    """Sees a pair in cut-out pictures, as tokens for a language model."""

    views: Literal["tokens"]

    @property
    def tokens(self) -> int:
        """Tokens a picture: one for the whole picture, then a square grid of them, row by row."""

    @property
    def text(self) -> str:
        """Name of the sentence encoder that embeds what is said of them."""

    def encode_tokens(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Turn RGB pictures, each (height, width, 3) uint8, into (n, tokens, dimension) float32.

        Raises ValueError, naming its place in `crops`, for a crop that is no such picture or has no pixel.
        """


class Captioner(TokenEncoder, Protocol):
    """Says in words what its tokens show."""

    def caption(
        self, tokens: NDArray[np.float32], subjects: Sequence[str], objects: Sequence[str], beams: int
    ) -> list[str]:
        """Say how the n-th subject relates to the n-th object in a picture, by beam search.

        `tokens`: (n, tokens, dimension) float32. Returns n sentences as the model ended them, the words that
        the prompt made it start with included.
        """


@dataclass(frozen=True)
class PairGeometry:
    """What a `BoxEncoder` is told of n directed pairs, subject first; metres, world z up."""

    subject_min_m: NDArray[np.float64]  # (n, 3) axis-aligned box
    subject_max_m: NDArray[np.float64]  # (n, 3)
    object_min_m: NDArray[np.float64]  # (n, 3)
    object_max_m: NDArray[np.float64]  # (n, 3)
    distance_m: NDArray[np.float64]  # (n,) between their closest points
    # (n, 4, 4) camera to world of the frame that shows both best, OpenCV axes; NaN where no frame does.
    T_world_camera: NDArray[np.float64]


class BoxEncoder(AnyEncoder, Protocol):
    """Says how instances relate from where they are."""

    views: Literal["boxes"]

    @property
    def text(self) -> str:
        """Name of the sentence encoder that embeds what it says."""

    def relate(self, pairs: PairGeometry) -> list[str]:
        """Return a phrase a pair, such as 'standing on'; empty where there is nothing to say."""


# Tagged unions: after `encoder.views == "crops"` a type checker knows which of them it holds.
Encoder: TypeAlias = CropEncoder | PixelEncoder  # of instances, with words in the same space
PairEncoder: TypeAlias = CropEncoder | TokenEncoder
WordEncoder: TypeAlias = CropEncoder | PixelEncoder | SentenceEncoder
LoadedEncoder: TypeAlias = CropEncoder | PixelEncoder | TokenEncoder | BoxEncoder | SentenceEncoder
