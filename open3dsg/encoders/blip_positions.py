"""The position embedding with which Open3DSG's relation projector begins.

Open3DSG (Koch et al., CVPR 2024; `sgpn.py`) spreads one vector a relation over the places of BLIP's tokens by
adding a fixed embedding of each place. It comes as a file of its own, a tensor 1 x 257 x 1408.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from open3dsg.encoders.checkpoint import reading
from open3dsg.encoders.support import load_package
from open3dsg.errors import BadFileError
from open3dsg.settings import load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "blip2_positional_embedding.pt"
INSTALL = "pip install 'open3dsg[blip]'"


def position_embedding_path() -> Path:
    """Return where the file lies unless told otherwise: in the folder of checkpoints."""
    return load_settings().checkpoints / NAME


def load_position_embedding(path: Path, tokens: int, dimension: int) -> NDArray[np.float32]:
    """Read the tensor (1, tokens, dimension) that torch saved at `path`, as (tokens, dimension) float32.

    `tokens` and `dimension` are those of the token encoder (`TokenEncoder`). No code in the file is run.
    Raises BadFileError where it is missing, damaged, wants to run code, or holds no such tensor of finite
    numbers.
    """
    import numpy as np

    if not path.is_file():
        raise BadFileError(
            f"{path}: no such file: the position embedding of Open3DSG's relation projector is looked for"
            f" there; it comes with Open3DSG's checkpoints, as {NAME}"
        )
    torch = load_package("torch", "position embedding", INSTALL)
    with reading(path, "position embedding"):
        held = torch.load(path, map_location="cpu", weights_only=True)
    expected = f"expected a tensor 1 x {tokens} x {dimension} of floating-point numbers"
    if not isinstance(held, torch.Tensor) or not held.is_floating_point():
        kind = str(held.dtype) if isinstance(held, torch.Tensor) else type(held).__name__
        raise BadFileError(f"{path}: holds {kind}; {expected}")
    if tuple(held.shape) != (1, tokens, dimension):
        shape = " x ".join(map(str, held.shape)) or "one number"
        raise BadFileError(f"{path}: the tensor is {shape}; {expected}")
    embedding: NDArray[np.float32] = held[0].detach().float().numpy()
    if not np.isfinite(embedding).all():
        raise BadFileError(f"{path}: some of its numbers are infinite or none")
    return embedding
