"""What is chosen of a dump: the encoder, the frames it is shown, what is kept, and how the work is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from open3dsg.encoders.tokens import LAYOUTS, TOKEN_DTYPES, TokenFormat
from open3dsg.errors import UserError
from open3dsg.geometry.crops import crop_scales
from open3dsg.geometry.selection import SCANNET_GRID_PX, THREERSCAN_GRID_PX, LookThresholds

if TYPE_CHECKING:
    from open3dsg.encoders.contract import Precision
    from open3dsg.encoders.tokens import Layout, TokenDtype

_SMALLEST_MEMORY = 2**26
_MOST_PICTURES = 2**29  # more pictures decoded ahead would keep no encoder busier


@dataclass(frozen=True)
class LookOptions:
    """What dumps of instances and of pairs have in common.

    `min_visibility` and `large_area` None are what is published for the layout of the scan's dataset.
    """

    encoder: str
    top_k_frames: int = 5
    scales: int = 3
    min_visibility: float | None = None
    large_area: float | None = None
    min_frames: int = 2
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, naming the option."""
        crop_scales(self.scales)
        if self.top_k_frames < 1:
            raise UserError(f"--top-k-frames is {self.top_k_frames}: give 1 or more")
        self.thresholds("", "crops")

    def thresholds(self, layout: str, views: str) -> LookThresholds:
        """Return when a frame qualifies, for a dataset of `layout` and an encoder that sees `views`."""
        raise NotImplementedError

    def for_ledger(self, layout: str, views: str) -> dict[str, Any]:
        """Return what the ledger must hold for a scan: no options that have no effect on it."""
        used = self.thresholds(layout, views)
        return {
            "top_k_frames": self.top_k_frames,
            **({} if views == "pixels" else {"scales": self.scales}),
            "min_visibility": used.min_visibility,
            **({} if used.min_area_px is None else {"min_area": used.min_area_px}),
            "large_area": used.large_area_px,
            "min_frames": self.min_frames,
            "precision": self.precision,
        }

    def _thresholds(
        self, layout: str, min_visibility: float, large_area: float, min_area: float | None
    ) -> LookThresholds:
        """Fill in what is not chosen, by the published numbers for ScanNet.

        For 3RScan, whose pictures are about half as large, a tenth less of the points and half the area do.
        """
        small = layout == "3rscan"
        share = min_visibility - 0.1 if small else min_visibility
        return LookThresholds(
            round(share, 2) if self.min_visibility is None else self.min_visibility,
            min_area,
            large_area / (2 if small else 1) if self.large_area is None else self.large_area,
            self.min_frames,
            THREERSCAN_GRID_PX if small else SCANNET_GRID_PX,
        )


@dataclass(frozen=True)
class FeatureOptions(LookOptions):
    """Of instances: frames that show little of one count only if its box has `min_area`, for crops."""

    min_area: float | None = None

    def thresholds(self, layout: str, views: str) -> LookThresholds:
        """Return when a frame qualifies for an instance; an encoder that sees pixels needs no area."""
        if views == "pixels":
            return self._thresholds(layout, 0.2, 8000, None)
        published = 250.0 if layout == "3rscan" else 500.0
        return self._thresholds(layout, 0.3, 8000, published if self.min_area is None else self.min_area)


@dataclass(frozen=True)
class PairOptions(LookOptions):
    """Of pairs: both ends must qualify. `tokens` and `dtype` say what is kept of a token encoder."""

    tokens: Layout = "full"
    dtype: TokenDtype = "fp16"

    def __post_init__(self) -> None:
        """Refuse formats that there are not, too."""
        super().__post_init__()
        if self.tokens not in LAYOUTS:
            raise UserError(f"--tokens is {self.tokens!r}: give {', '.join(LAYOUTS)}")
        if self.dtype not in TOKEN_DTYPES:
            raise UserError(f"--token-dtype is {self.dtype!r}: give {', '.join(TOKEN_DTYPES)}")

    @property
    def form(self) -> TokenFormat:
        """How tokens are kept."""
        return TokenFormat(self.tokens, self.dtype)

    def thresholds(self, layout: str, views: str) -> LookThresholds:
        """Return when a frame qualifies for either end; for tokens half the share of the points does."""
        used = self._thresholds(layout, 0.3, 10_000, None)
        if views != "tokens" or self.min_visibility is not None:
            return used
        return replace(used, min_visibility=used.min_visibility / 2)

    def for_ledger(self, layout: str, views: str) -> dict[str, Any]:
        """Return what the ledger must hold: of a token encoder, how its tokens are kept."""
        options = super().for_ledger(layout, views)
        if views == "tokens":
            options["tokens"] = self.tokens
            if self.tokens != "pooled":
                options["token_dtype"] = self.dtype
        return options


@dataclass(frozen=True)
class Running:
    """How a dump is run, which changes none of its results.

    `batch`: pictures the encoder is shown at once. `max_memory`: bytes of decoded pictures and of sums that
    are under way; the encoder's own come on top. `pair_chunk`: pairs a commit. `device`: as torch names it;
    None: a GPU where there is one.
    """

    batch: int = 32
    max_memory: int = 4 * 2**30
    pair_chunk: int = 512
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, naming the option."""
        if self.batch < 1:
            raise UserError(f"--batch is {self.batch}: give 1 or more")
        if self.pair_chunk < 1:
            raise UserError(f"--pair-chunk is {self.pair_chunk}: give 1 or more")
        if self.max_memory < _SMALLEST_MEMORY:
            raise UserError(f"--max-memory is {self.max_memory:,} bytes: give 64MB or more")


class Room(NamedTuple):
    """What fits: bytes of pictures that wait, and as many in a batch; items whose sums are under way."""

    pictures: int
    items: int


def plan_memory(limit: int, *, items: int, sum_bytes: int, stored_bytes: int) -> Room:
    """Share `limit` bytes out over a chunk of `items`.

    All of them wait, finished, until the chunk is written, `stored_bytes` each; of those whose sums are under
    way each takes `sum_bytes`, and as much again while it is finished. Raises UserError where not one fits.
    """
    pictures = min(limit // 4, _MOST_PICTURES)
    left = limit - pictures - items * stored_bytes
    fitting = left // (2 * sum_bytes)
    if fitting < 1:
        needed = -(-(items * stored_bytes + 2 * sum_bytes) * 4 // 3 // 10**6)
        raise UserError(
            f"a chunk of {items} items does not fit --max-memory: give {needed}MB or more,"
            " or fewer pairs a chunk with --pair-chunk"
        )
    return Room(pictures // 2, max(1, min(items, fitting)))
