"""Which encoders there are, what each still needs, and whether one works."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from open3dsg.encoders.contract import PairGeometry
from open3dsg.encoders.registry import choices_of, encoder_names, kind_of, load_encoder
from open3dsg.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.encoders.contract import LoadedEncoder, Precision

SAMPLE_PX = (120, 160)
WORDS = ("chair", "table")


@dataclass(frozen=True)
class Listed:
    """An encoder before anything of it is loaded."""

    name: str
    encoder: str  # the entry point that it stands for
    views: str | None  # None where it cannot be made
    dimension: int | None  # None where only the weights tell
    checkpoint: Path | None  # None where it needs none
    # "weights", "package torch", as far as that can be told without loading it; or "cannot be made".
    missing: tuple[str, ...]
    way_out: str | None  # in one line: where to get what is missing and where to put it, or why it cannot

    @property
    def ready(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.missing


@dataclass(frozen=True)
class Checked:
    """An encoder that was loaded and did what it is for."""

    name: str
    views: str
    revision: str
    dimension: int
    device: str | None  # None where it has no choice of them
    seconds: float  # to load it and to encode a picture, a word, or both


def list_encoders() -> list[Listed]:
    """List all encoders by name; neither weights nor the libraries that run them are loaded."""
    return [_listed(name) for name in encoder_names()]


def check_encoder(name: str, device: str | None = None, precision: Precision = "fp32") -> Checked:
    """Load an encoder and let it encode a made picture and a word, or what else it takes.

    Raises UserError where something is missing, with the way to get it, and where what comes out is not what
    the encoder says of itself.
    """
    start = time.monotonic()
    encoder = load_encoder(name, device, precision)
    _try(encoder)
    return Checked(
        name=name,
        views=encoder.views,
        revision=encoder.revision,
        dimension=encoder.dimension,
        device=getattr(encoder, "device", None),
        seconds=round(time.monotonic() - start, 3),
    )


def _listed(name: str) -> Listed:
    kind, choices = kind_of(name), choices_of(name)
    try:
        encoder = load_encoder(name)
    except UserError as error:
        return Listed(name, kind, None, None, None, ("cannot be made",), str(error))
    wants = getattr(encoder, "WANTS", None)
    told = getattr(type(encoder), "dimension", None)
    dimension = told if isinstance(told, int) else None
    checkpoint = choices.checkpoint if wants or choices.path_given else None
    missing, ways_out = [], []
    if checkpoint is not None and not checkpoint.exists():
        missing.append("weights")
        ways_out.append(f"it wants {(wants or 'a file at {path}').format(path=checkpoint)}")
    modules = [name for name in getattr(encoder, "NEEDS", ()) if find_spec(name.split(".")[0]) is None]
    if modules:
        missing += [f"package {module}" for module in modules]
        ways_out.append(getattr(encoder, "INSTALL", f"pip install {' '.join(modules)}"))
    return Listed(
        name, kind, encoder.views, dimension, checkpoint, tuple(missing), "; ".join(ways_out) or None
    )


def _try(encoder: LoadedEncoder) -> None:
    """Use every side of an encoder once; UserError where the outcome has the wrong shape or is no number."""
    import numpy as np

    rows, columns = SAMPLE_PX
    ramp = np.linspace(0, 255, rows * columns * 3).astype(np.uint8).reshape(rows, columns, 3)
    if encoder.views == "crops":
        _expect(encoder, encoder.encode_crops([ramp]), (1, encoder.dimension))
    elif encoder.views == "pixels":
        everywhere = np.argwhere(np.ones(SAMPLE_PX, bool))
        _expect(encoder, encoder.encode_pixels(ramp, [everywhere]), (1, encoder.dimension))
    elif encoder.views == "tokens":
        tokens = encoder.encode_tokens([ramp])
        _expect(encoder, tokens, (1, encoder.tokens, encoder.dimension))
        if hasattr(encoder, "caption"):
            encoder.caption(tokens, WORDS[:1], WORDS[1:], 1)
    elif encoder.views == "boxes":
        encoder.relate(_two_boxes())
    if encoder.views in ("crops", "pixels", "text"):
        _expect(encoder, encoder.encode_text(WORDS), (len(WORDS), encoder.dimension))


def _expect(encoder: LoadedEncoder, found: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    import numpy as np

    if found.shape != shape or found.dtype != np.float32:
        raise UserError(
            f"the encoder {encoder.name} gives {found.shape} {found.dtype}, and promises {shape} float32"
        )
    if not np.isfinite(found).all():
        raise UserError(
            f"the encoder {encoder.name} gives NaN or infinity: its weights are damaged, or --precision fp16"
            " is too small for them"
        )


def _two_boxes() -> PairGeometry:
    """A cube of 1 m on top of another, seen by no frame."""
    import numpy as np

    lower, upper = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    return PairGeometry(upper, upper + 1, lower, lower + 1, np.zeros(1), np.full((1, 4, 4), np.nan))
