"""`open3dsg masks merge` and `data synth --masks` through the installed command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest
from PIL import Image

from tests import miniature as mini
from tests.command import Done
from tests.masks import write_mask

# The miniature has few points: 64 a thing.
LIMITS = ("--min-mask-points", 3, "--min-points", 5)


@pytest.fixture(scope="session")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of two scans, a folder each; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("mäsks")
    for frame in range(mini.FRAMES):
        _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        for name in (mini.NAME, mini.RESCAN):
            write_mask(folder / name / f"{frame}.png", (things + 1).astype(np.uint8))
    return folder


def test_scans_with_masks_get_instances_and_the_summary_counts(
    run: Callable[..., Done], root: Path, masks: Path, database: psycopg.Connection[tuple[str, int]]
) -> None:
    assert run("ingest", "3rscan", root).code == 0
    report = run("masks", "merge", "--masks", masks, *LIMITS, "--replace", "--json").json
    assert report["scans"] == {"done": 2, "skipped": 0, "failed": 0}  # the third has no folder
    assert {"frames", "masks", "masks_kept", "instances", "points", "points_assigned"} <= report[
        "counts"
    ].keys()
    assert report["counts"]["frames"] == 2 * mini.FRAMES
    assert report["problems"] == {}
    labelled = database.execute(
        "SELECT name, count(*) FROM instance JOIN scan USING (scan_id) JOIN term ON term_id = label_id"
        " WHERE text = 'object' GROUP BY name ORDER BY name"
    ).fetchall()
    assert [name for name, _ in labelled] == [mini.NAME, mini.RESCAN]
    assert sum(count for _, count in labelled) == report["counts"]["instances"]
    done = run("masks", "merge", "--masks", masks / mini.NAME, "--scan", mini.NAME, *LIMITS)
    assert done.out.startswith("masks: 0 done, 1 already done, 0 failed")


def test_mistakes_are_one_line_each(
    refused: Callable[..., str], run: Callable[..., Done], root: Path, masks: Path, tmp_path: Path
) -> None:
    assert run("ingest", "3rscan", root).code == 0
    own = masks / mini.NAME
    assert "holds no folder called like a scan of the store" in refused("masks", "merge", "--masks", own)
    several = ("masks", "merge", "--masks", own, "--scan", mini.NAME, "--scan", mini.RESCAN)
    assert "holds no folder called like a scan" in refused(*several)
    one = ("masks", "merge", "--masks", own, "--scan", mini.NAME)
    assert refused(*one).endswith("(`open3dsg ingest` with --force brings them back)")
    assert "--consensus is 2.0: give a number from 0 to 1" in refused(*one, "--consensus", 2)
    assert "--every is 0" in refused(*one, "--every", 0)
    assert "no masks here" in refused("masks", "merge", "--masks", tmp_path, "--scan", "mini-0003")


def test_merging_is_queued(run: Callable[..., Done], root: Path, masks: Path) -> None:
    assert run("ingest", "3rscan", root).code == 0
    done = run("jobs", "submit", "masks", "merge", "--masks", masks, *LIMITS, "--replace")
    assert done.out.startswith("masks: 2 queued in cpu")
    assert run("worker", "--queues", "cpu", "--until-empty").code == 0
    done = run("masks", "merge", "--masks", masks, *LIMITS)
    assert done.out.startswith("masks: 0 done, 2 already done")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "stems"),
    [
        ((), ["frame-000000.color", "frame-000001.color"]),
        (("--zip",), ["frame-000000.color", "frame-000001.color"]),
        (("--layout", "scannet"), ["0", "20"]),
        (("--layout", "scannet", "--sens"), ["0", "1"]),
    ],
)
def test_rooms_come_with_their_masks(
    run: Callable[..., Done], tmp_path: Path, options: tuple[str, ...], stems: list[str]
) -> None:
    size = ("--scans", 1, "--frames", 2, "--seed", 5, *options)
    for name in ("a", "b"):
        assert run("data", "synth", tmp_path / name, *size, "--masks").code == 0
    assert run("data", "synth", tmp_path / "plain", *size).code == 0
    (scan,) = (tmp_path / "a" / "masks").iterdir()
    files = sorted(scan.iterdir())
    assert sorted(path.stem for path in files) == sorted(stems)
    pictures = [np.asarray(Image.open(path)) for path in files]
    for path, ids in zip(files, pictures, strict=True):
        assert ids.dtype == np.uint16
        assert len(np.unique(ids)) >= 3
        assert path.read_bytes() == (tmp_path / "b" / "masks" / scan.name / path.name).read_bytes()
    # The rest is as without masks, and is read as such.
    whole = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    plain = {
        path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*") if path.is_file()
    }
    assert whole - plain == {path.relative_to(tmp_path / "a") for path in files}
    layout = "scannet" if "scannet" in options else "3rscan"
    assert run("ingest", layout, tmp_path / "a", "--json").json["scans"]["done"] == 1
