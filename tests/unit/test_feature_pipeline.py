"""What a dump is made of, without a database: full memories, odd activations, pictures, shared crops."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid, pack_pixel_sets
from open3dsg.steps.features import DumpNodes
from open3dsg.steps.features.ahead import Ahead
from open3dsg.steps.features.encoding import Caller
from open3dsg.steps.features.looks import (
    Camera,
    Crop,
    FrameViews,
    Pixels,
    Seen,
    look_at_crops,
    look_at_pixels,
)
from open3dsg.steps.features.options import FeatureOptions, PairOptions, Running, plan_memory

GRID = PixelGrid(40, 30, 30.0, 30.0, 19.5, 14.5)
PHOTO = PixelGrid(80, 60, 60.0, 60.0, 39.5, 29.5)


class OutOfMemoryError(RuntimeError):
    """Called as torch's is."""


class Small:
    """Encodes numbers as rows, so many at a time and no more."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.sizes: list[int] = []

    def __call__(self, things: Sequence[float]) -> NDArray[np.float32]:
        self.sizes.append(len(things))
        if len(things) > self.most:
            raise self.error
        return np.array([[thing, 1.0] for thing in things], np.float32)


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA: 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_for_good(error: Exception) -> None:
    small = Small(3, error)
    encode = Caller(small, 16)
    encoded = encode(list(range(16)))
    assert [row[0] for row in encoded.rows] == list(range(16))
    assert encoded.refused == {}
    assert small.sizes == [16, 8, 4, *[2] * 8]
    assert (encode.batch, encode.halved) == (2, "out of memory with 4 at once: went on with 2 (--batch)")
    encode([1.0] * 4)
    assert small.sizes[-2:] == [2, 2]


def test_a_single_thing_that_does_not_fit_is_told_with_the_way_out() -> None:
    encode = Caller(Small(0, MemoryError()), 4)
    with pytest.raises(UserError, match=r"out of memory with a single picture: .*--device.*--precision"):
        encode([1.0, 2.0])


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        Caller(Small(0, RuntimeError("a bug")), 4)([1.0])


def test_what_is_not_finite_is_refused_and_the_others_stay() -> None:
    encoded = Caller(Small(9, ValueError()), 3)([0.0, np.nan, 2.0, np.inf])
    assert set(encoded.refused) == {1, 3}
    assert encoded.refused[1] == "its activations are NaN or infinite"
    assert [encoded.rows[place][0] for place in (0, 2)] == [0.0, 2.0]


def test_what_the_encoder_refuses_takes_nothing_else_with_it() -> None:
    def picky(things: Sequence[float]) -> NDArray[np.float32]:
        if 13.0 in things:
            raise ValueError("row 0 of the embeddings\n is zero")
        return np.array([[thing] for thing in things], np.float32)

    encoded = Caller(picky, 4)([11.0, 12.0, 13.0, 14.0, 15.0])
    assert encoded.refused == {2: "row 0 of the embeddings is zero"}
    assert [float(encoded.rows[place][0]) for place in (0, 1, 3, 4)] == [11.0, 12.0, 14.0, 15.0]


class Block(NamedTuple):
    number: int
    nbytes: int


def test_things_come_in_order_and_never_too_many_wait() -> None:
    made: list[int] = []

    def make() -> Iterator[Block]:
        for number in range(50):
            made.append(number)
            yield Block(number, 10 if number % 10 else 45)

    with Ahead(make(), 30) as ahead:
        for place, block in enumerate(ahead):
            assert block.number == place
            assert len(made) - place <= 6  # what waits, what is taken, and what waits for room
    assert ahead.peak == 45  # one that is too large by itself


def test_an_error_ahead_is_raised_where_the_thing_is_taken() -> None:
    def make() -> Iterator[Block]:
        yield Block(0, 1)
        raise OSError("the disk is away")

    with pytest.raises(OSError, match="the disk is away"), Ahead(make(), 100) as ahead:
        assert [block.number for block in ahead] == [0]


def test_who_leaves_early_leaves_no_thread_behind() -> None:
    def make() -> Iterator[Block]:
        while True:
            yield Block(0, 10)

    with Ahead(make(), 30) as ahead:
        assert next(iter(ahead)).number == 0
    assert "ahead" not in {thread.name for thread in threading.enumerate()}


def frame(box: list[list[int]]) -> FrameViews:
    items = np.arange(len(box))
    return FrameViews(7, Camera("uri", PHOTO, GRID, 0), items, np.array(box, np.int32))


def test_looks_at_the_same_box_share_a_crop() -> None:
    photo = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    same, other, whole = [5, 5, 14, 9], [20, 3, 25, 20], [0, 0, 39, 29]
    seen, *crops = look_at_crops(frame([same, other, same, whole]), photo, (1.0, 1.5))
    assert isinstance(seen, Seen)
    assert (list(seen.items), list(seen.outside)) == ([0, 1, 2, 3, 0, 1, 2, 3], [])
    shown = {tuple(crop.items): crop.picture for crop in crops if isinstance(crop, Crop)}
    # The whole picture is the whole picture at any scale: one crop, twice a look of the same item.
    items = [list(crop.items) for crop in crops if isinstance(crop, Crop)]
    assert items == [[0, 2], [1], [3, 3], [0, 2], [1]]
    np.testing.assert_array_equal(shown[3, 3], photo)
    left, top, right, bottom = seen.boxes[0].tolist()
    assert (left, top, right, bottom) == (10, 10, 30, 20)
    np.testing.assert_array_equal(crops[0].picture, photo[10:20, 10:30])  # type: ignore[union-attr]


def test_a_photo_that_was_scaled_since_keeps_its_geometry() -> None:
    """Half as large as its camera says, it has the pixels of the depth picture."""
    photo = np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)
    seen, crop = look_at_crops(frame([[5, 5, 14, 9]]), photo, (1.0,))
    assert isinstance(seen, Seen)
    assert isinstance(crop, Crop)
    np.testing.assert_array_equal(seen.boxes, [[5, 5, 15, 10]])
    np.testing.assert_array_equal(crop.picture, photo[5:10, 5:15])
    ids = np.array([5 * 40 + 6, 9 * 40 + 14], np.int32)
    (packed,) = pack_pixel_sets(ids, np.array([0, 2]))
    _, shown = look_at_pixels(replace(frame([[6, 5, 14, 9]]), pixels=[packed]), photo)
    assert isinstance(shown, Pixels)
    np.testing.assert_array_equal(shown.sets[0], [[5, 6], [9, 14]])


def test_a_view_beyond_the_photo_is_told_and_the_others_are_cut() -> None:
    photo = np.zeros((60, 80, 3), np.uint8)
    seen, *crops = look_at_crops(frame([[5, 5, 14, 9], [60, 5, 70, 9]]), photo, (1.0,))
    assert isinstance(seen, Seen)
    assert (list(seen.items), list(seen.outside), len(crops)) == ([0], [1], 1)


def test_memory_is_shared_out_and_too_little_is_told() -> None:
    tokens = 257 * 1408
    room = plan_memory(4 * 2**30, items=512, sum_bytes=4 * tokens, stored_bytes=2 * tokens)
    assert room.items == 512
    small = plan_memory(2**29, items=512, sum_bytes=4 * tokens, stored_bytes=2 * tokens // 60)
    assert 1 <= small.items < 512
    held = 2 * small.pictures + small.items * 2 * 4 * tokens + 512 * 2 * tokens // 60
    assert held <= 2**29
    with pytest.raises(UserError, match=r"a chunk of 512 items .* give (\d+)MB or more, or fewer") as told:
        plan_memory(2**28, items=512, sum_bytes=4 * tokens, stored_bytes=2 * tokens)
    enough = int(str(told.value).split("give ")[1].split("MB")[0]) * 2**20
    assert plan_memory(enough, items=512, sum_bytes=4 * tokens, stored_bytes=2 * tokens).items >= 1


@pytest.mark.parametrize(
    ("options", "views", "layout", "told"),
    [
        (FeatureOptions("e"), "crops", "scannet", (0.3, 500, 8000, 2)),
        (FeatureOptions("e"), "crops", "3rscan", (0.2, 250, 4000, 2)),
        (FeatureOptions("e"), "pixels", "scannet", (0.2, None, 8000, 2)),
        (FeatureOptions("e"), "pixels", "3rscan", (0.1, None, 4000, 2)),
        (PairOptions("e"), "crops", "scannet", (0.3, None, 10_000, 2)),
        (PairOptions("e"), "crops", "3rscan", (0.2, None, 5000, 2)),
        (PairOptions("e"), "tokens", "scannet", (0.15, None, 10_000, 2)),
        (PairOptions("e"), "tokens", "3rscan", (0.1, None, 5000, 2)),
        (FeatureOptions("e", min_visibility=0.5, min_frames=1), "crops", "3rscan", (0.5, 250, 4000, 1)),
        (PairOptions("e", min_visibility=0.5, large_area=7), "tokens", "rgbd", (0.5, None, 7, 2)),
    ],
)
def test_thresholds_are_those_published(
    options: FeatureOptions | PairOptions, views: str, layout: str, told: tuple[Any, ...]
) -> None:
    rule = options.thresholds(layout, views)
    assert (rule.min_visibility, rule.min_area_px, rule.large_area_px, rule.min_frames) == told


def test_the_device_of_the_process_goes_before_that_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(DumpNodes, "_load", lambda _self, _name, device, _precision: asked.append(device))
    dump = DumpNodes(FeatureOptions("e"), running=Running(device="cuda:0"))
    dump.encoder()
    monkeypatch.setattr("open3dsg.steps.features.step.process_device", lambda: "cuda:1")
    dump.encoder()
    assert asked == ["cuda:0", "cuda:1"]


def test_the_ledger_holds_no_option_without_effect() -> None:
    assert {"scales", "min_area"}.isdisjoint(FeatureOptions("e").for_ledger("rgbd", "pixels"))
    assert {"tokens", "token_dtype"}.isdisjoint(PairOptions("e").for_ledger("rgbd", "crops"))
    pooled = PairOptions("e", tokens="pooled", dtype="int8").for_ledger("rgbd", "tokens")
    assert pooled["tokens"] == "pooled"
    assert "token_dtype" not in pooled


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Running(batch=0), "--batch is 0"),
        (lambda: Running(pair_chunk=0), "--pair-chunk is 0"),
        (lambda: Running(max_memory=1000), "--max-memory is 1,000 bytes"),
        (lambda: FeatureOptions("e", top_k_frames=0), "--top-k-frames is 0"),
        (lambda: FeatureOptions("e", scales=9), "--scales is 9"),
        (lambda: PairOptions("e", min_frames=0), "--min-frames is 0"),
        (lambda: PairOptions("e", tokens=cast("Any", "some")), "--tokens is 'some'"),
        (lambda: PairOptions("e", dtype=cast("Any", "int4")), "--token-dtype is 'int4'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        make()
