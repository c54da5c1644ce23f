"""The datasets that are read through scenezoo: where their scans lie, their splits, and their pictures.

scenezoo decodes what it reads and gives arrays; the store keeps where a picture is. So this table says of
each dataset, beside scenezoo's own adapter (0.3.1), which folders are scans and which files its frames are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from open3dsg.errors import UserError


class Place(NamedTuple):
    """One scan: its name in the store, what scenezoo calls it, and its folder (or only file)."""

    name: str
    scene: str
    room: str | None  # where scenezoo reads a scene room by room
    path: Path


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of a scan's frames are, under its folder.

    Of `image` and `depth` the first that is there counts; in them, ``{scan}`` is the scan, ``{key}`` what
    scenezoo calls the frame, ``{stem}`` that without its ending, ``{twin}`` the stem of Matterport's depth
    picture and ``{last}`` what follows the last slash. Both pictures share the camera, each by its own size.
    """

    needs: str  # where this is not there, there are no frames
    image: Sequence[str] = ()
    depth: Sequence[str] = ()
    depth_unit_m: float = 0.001
    options: Mapping[str, str] = field(default_factory=dict)  # of scenezoo's `get_frames`
    packed_in: str = ""  # what holds the pictures until they are taken out
    rows_go_up: bool = False  # the principal point is counted from the lower edge
    sized_by_picture: bool = False  # scenezoo takes a camera's size from its picture, which must be there


@dataclass(frozen=True)
class Source:
    """One dataset of scenezoo."""

    name: str
    folders: Sequence[str]  # patterns under the root, some several by a blank; the first with a scan counts
    marks: Sequence[str]  # a folder with any of these is a scan; {scan} is its name
    identify: Callable[[Path], Place]
    splits: Mapping[str, str] = field(default_factory=dict)  # scenezoo's name -> ours; the first counts
    points: Literal["mesh", "surface", "cloud", "room"] = "mesh"
    meshes: Sequence[str] = ()  # PLY files of a scan, looked at for being cut off: Open3D reads the rest
    frames: Pictures | None = None
    files: Mapping[str, str] = field(default_factory=dict)  # option of the adapter -> file name
    lists_too: Sequence[str] = ()  # files under the root that hold the splits as well
    word_lists: Sequence[str] = ()  # class lists among the adapter's metadata
    aliases: Sequence[str] = ()

    def places(self, root: Path) -> list[Place]:
        """Return the scans under `root`, ascending by name."""
        for patterns in self.folders:
            paths = (path for pattern in patterns.split() for path in root.glob(pattern))
            found = [self.identify(path) for path in paths if self._is_scan(path)]
            if found:
                return sorted(found)
        return []

    def _is_scan(self, path: Path) -> bool:
        marks = (path / mark.format(scan=path.name) for mark in self.marks)
        return path.is_file() if not self.marks else any(mark.exists() for mark in marks)


def _folder(path: Path) -> Place:
    return Place(path.name, path.name, None, path)


def _file(path: Path) -> Place:
    return Place(path.stem, path.stem, None, path)


def _in_area(path: Path) -> Place:
    return Place(f"{path.parent.name}.{path.name}", f"{path.parent.name}/{path.name}", None, path)


def _in_scene(path: Path) -> Place:
    scene = path.parent.parent.name
    return Place(f"{scene}.{path.name}", scene, path.name, path)


_TRAIN_VAL_TEST = {"train": "train", "val": "validation", "test": "test"}

SOURCES = (
    Source(
        name="scannetppv2",
        aliases=("scannetpp", "scannet++", "scannet++v2"),
        folders=("data/*",),
        marks=("scans", "iphone", "dslr", "panocam"),
        identify=_folder,
        splits={
            "nvs_sem_train": "train",
            "nvs_sem_val": "validation",
            "sem_test": "test",
            "nvs_test": "test",
        },
        meshes=("scans/mesh_aligned_0.05.ply",),
        frames=Pictures(
            needs="iphone",
            image=("iphone/rgb/{key}.jpg",),
            depth=("iphone/depth/{key}.png",),
            options={"source": "iphone"},
            packed_in="iphone/rgb.mkv and depth.bin: take them out with ScanNet++'s prepare_iphone_data",
        ),
        word_lists=("semantic_classes", "instance_classes"),
    ),
    Source(
        name="arkitscenes",
        folders=("raw/Training/* raw/Validation/*", "Training/* Validation/*"),
        marks=("{scan}_3dod_mesh.ply", "{scan}_3dod_annotation.json", "lowres_wide", "lowres_wide.traj"),
        identify=_folder,
        splits={"train_threedod": "train", "val_threedod": "validation"},
        meshes=("{scan}_3dod_mesh.ply",),
        frames=Pictures(
            needs="lowres_wide",
            image=("lowres_wide/{key}",),
            depth=("lowres_depth/{key}",),
            options={"source": "lowres_wide"},
        ),
        files={
            "raw_split_file": "raw_train_val_splits.csv",
            "threedod_split_file": "3dod_train_val_splits.csv",
            "depth_upsampling_split_file": "upsampling_train_val_splits.csv",
        },
        lists_too=("metadata.csv", "raw/metadata.csv"),
    ),
    Source(
        name="matterport3d",
        folders=("v1/scans/*", "scans/*", "*"),
        marks=("house_segmentations", "region_segmentations", "matterport_mesh", "undistorted_color_images"),
        identify=_folder,
        splits=_TRAIN_VAL_TEST,
        meshes=("house_segmentations/{scan}.ply", "house_segmentations/{scan}/{scan}.ply"),
        frames=Pictures(
            needs="undistorted_color_images",
            image=("undistorted_color_images/{key}", "undistorted_color_images/{scan}/{key}"),
            depth=("undistorted_depth_images/{twin}.png", "undistorted_depth_images/{scan}/{twin}.png"),
            depth_unit_m=0.00025,
            options={"source": "undistorted"},
            rows_go_up=True,
            sized_by_picture=True,
        ),
        files={
            "label_mapping_file": "category_mapping.tsv",
            "train_split_file": "scenes_train.txt",
            "val_split_file": "scenes_val.txt",
            "test_split_file": "scenes_test.txt",
        },
    ),
    Source(
        name="multiscan",
        folders=("*",),
        marks=("{scan}.ply", "{scan}.annotations.json"),
        identify=_folder,
        splits=_TRAIN_VAL_TEST,
        meshes=("{scan}.ply",),
        frames=Pictures(
            needs="{scan}.jsonl", packed_in="the video {scan}.mp4 and the stream {scan}.depth.zlib"
        ),
        files={"split_file": "scans_split.csv"},
    ),
    Source(
        name="s3dis",
        aliases=("stanford3d", "stanford-3d"),
        folders=("Area_[1-6]/*", "Stanford3dDataset_v1.2*/Area_[1-6]/*"),
        marks=("Annotations",),
        identify=_in_area,
        splits={f"area_{number}": f"area_{number}" for number in range(1, 7)},
        points="cloud",
    ),
    Source(
        name="scenenn",
        folders=("*",),
        marks=("{scan}.ply", "{scan}_color.ply", "{scan}.xml"),
        identify=_folder,
        meshes=("{scan}_color.ply", "{scan}.ply"),
    ),
    Source(
        name="structured3d",
        aliases=("structure3d",),
        folders=tuple(f"{parent}scene_*/2D_rendering/*" for parent in ("data/", "Structured3D/", "")),
        marks=("panorama", "perspective"),
        identify=_in_scene,
        splits=_TRAIN_VAL_TEST,
        points="room",
        frames=Pictures(
            needs="perspective/full",
            image=("perspective/full/{last}/rgb_rawlight.png",),
            depth=("perspective/full/{last}/depth.png",),
            options={"source": "perspective"},
        ),
        files={
            "room_type_file": "room_types.txt",
            "label_name_file": "labelids.txt",
            "errata_file": "errata.txt",
        },
    ),
    Source(
        name="3dfront",
        aliases=("3d-front",),
        folders=("3D-FRONT/*.json",),
        marks=(),
        identify=_file,
        points="surface",
    ),
)

# What scenezoo knows and is not read through it, by all its names.
_ELSEWHERE = {
    "scannetv2": "ScanNet has a reader of its own: open3dsg ingest scannet ROOT",
    "scannet": "ScanNet has a reader of its own: open3dsg ingest scannet ROOT",
    "3rscan": "3RScan has a reader of its own: open3dsg ingest 3rscan ROOT",
    "threerscan": "3RScan has a reader of its own: open3dsg ingest 3rscan ROOT",
} | dict.fromkeys(
    ("ase", "aria-ase", "aria-synthetic-environments"),
    "its points carry no instances, and its camera is a fisheye: there is nothing to make a graph of",
)


def find_source(name: str) -> Source:
    """Return the dataset that scenezoo calls `name`, in any case. Raises UserError where it has none."""
    wanted = name.strip().lower()
    for source in SOURCES:
        if wanted in (source.name, *source.aliases):
            return source
    if wanted in _ELSEWHERE:
        raise UserError(f"scenezoo's {name}: {_ELSEWHERE[wanted]}")
    known = ", ".join(source.name for source in SOURCES)
    raise UserError(f"scenezoo has no dataset {name!r}: give {known}")
