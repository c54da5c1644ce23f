"""What a check finds: one `Finding` a line, of a kind that `KINDS` lists with its cost and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning"]


class Kind(NamedTuple):
    """What all findings of a kind share, where a finding does not say otherwise."""

    severity: Severity
    cost: str  # what will be lacking, and in which step
    remedy: str


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a folder. An error keeps a step from its work on a scan."""

    kind: str
    severity: Severity
    file: str  # relative to the root where it lies under it, with forward slashes
    what: str
    cost: str
    remedy: str
    scan: str | None = None

    def __str__(self) -> str:
        """Return one line, without severity and kind, that steers no terminal."""
        line = f"{self.file}: {self.what}; {self.cost}; {self.remedy}"
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)


def finding(
    kind: str,
    file: str,
    what: str,
    *,
    scan: str | None = None,
    severity: Severity | None = None,
    cost: str | None = None,
    remedy: str | None = None,
) -> Finding:
    """Make a finding of a listed kind; what is not given is as the kind has it."""
    usual = KINDS[kind]
    told = what if len(what) <= _LONGEST else f"{what[:_LONGEST]} ..."
    return Finding(
        kind, severity or usual.severity, file, told, cost or usual.cost, remedy or usual.remedy, scan
    )


_LONGEST = 600  # letters of what is told: damaged files hold words of any length
_FETCH = "fetch it again"
_NO_OBSERVE = "`observe` finds nothing in the scan, and `features dump` has nothing to embed"
_LESS = "`observe` and `features dump` have fewer views"
_META_3RSCAN = "run scripts/download_3rscan_meta"

KINDS: Mapping[str, Kind] = {
    # the root
    "root_above_scans": Kind("error", "no step finds a scan", "give the folder named"),
    "root_inside_scan": Kind("error", "no step finds a scan", "give the folder named"),
    "root_without_scans": Kind("error", "no step finds a scan", "give the folder that holds the scans"),
    "other_layout": Kind("error", "no step finds a scan", "check it as the layout named"),
    # names
    "no_permission": Kind("error", "no step can read it", "let your user read it: chmod -R u+rX"),
    "folder_is_no_scan": Kind("warning", "no step reads it", "move it away, or fetch the scan's files"),
    "scan_without_files": Kind("error", "`ingest` passes the scan over", "fetch the scan again"),
    "scan_name_case": Kind("error", "its split and annotations are not found", "rename the folder"),
    "scan_twice": Kind("error", "one of the two is the wrong one for every step", "remove one of them"),
    "scans_not_there": Kind("warning", "no step works on them", "fetch them where they are wanted"),
    "scan_not_listed": Kind("warning", "it has no split: --split passes it over", "name it with --scan"),
    "scan_in_two_splits": Kind("warning", "the first of the two counts", "correct the lists"),
    # files
    "missing": Kind("error", "`ingest` refuses the scan", _FETCH),
    "file_name_case": Kind("error", "the file is not found", "rename it"),
    "empty": Kind("error", "`ingest` refuses the scan", _FETCH),
    "cut_off": Kind("error", "`ingest` refuses the scan", _FETCH),
    "wrong_kind": Kind("error", "`ingest` refuses the scan", "put the true file in its place"),
    "damaged": Kind("error", "`ingest` refuses the scan", _FETCH),
    "not_a_file": Kind("error", "`ingest` refuses the scan", "put the file in its place"),
    "older_version": Kind("error", "`ingest` refuses the scan", "fetch version 2 of the file"),
    "unfinished_download": Kind("warning", "no step reads it", "finish the download, or remove it"),
    # frames
    "sequence_missing": Kind("error", _NO_OBSERVE, "fetch sequence.zip"),
    "sequence_too_deep": Kind("error", _NO_OBSERVE, "move the files up one folder"),
    "sequence_partly_unpacked": Kind("error", _LESS, "unpack it again, or remove the folder"),
    "no_usable_frame": Kind("error", _NO_OBSERVE, "fetch the frames again"),
    "frame_count_differs": Kind("warning", _LESS, "fetch the frames again"),
    "frame_numbers_with_holes": Kind("warning", _LESS, "fetch the frames again"),
    "frame_without_image": Kind("warning", f"these frames are left out: {_LESS}", "fetch the frames again"),
    "frame_without_depth": Kind("warning", "`observe` passes these frames over", "fetch the frames again"),
    "frame_without_pose": Kind("warning", f"these frames are left out: {_LESS}", "fetch the frames again"),
    "pose_unusable": Kind(
        "warning", f"these frames are left out: {_LESS}", "nothing to do where tracking was lost"
    ),
    "picture_size_differs": Kind(
        "error",
        "pixels and crops would be of the wrong places",
        "take the intrinsics made for these pictures",
    ),
    "intrinsics_unlikely": Kind(
        "error",
        "pixels and crops would be of the wrong places",
        "take the intrinsics made for these pictures",
    ),
    "depth_unit_unlikely": Kind("error", _NO_OBSERVE, "give the true unit of the depth pictures"),
    "depth_disagrees": Kind("error", _NO_OBSERVE, "see that mesh, poses and depth are of one scan"),
    "camera_axes_differ": Kind("error", _NO_OBSERVE, "run `ingest` with the --camera-axes named"),
    # lists and annotations
    "metadata_missing": Kind("warning", "no splits and no rescans are known", _META_3RSCAN),
    "annotations_missing": Kind("warning", "`ingest` has no subgraphs and no relations", _META_3RSCAN),
    "class_list_missing": Kind("warning", "there is no list of classes to classify into", _META_3RSCAN),
    "class_list_wrong": Kind(
        "error",
        "objects with these labels can never be classified right",
        "take the list of these annotations",
    ),
    "class_list_of_full_3dssg": Kind(
        "warning", "figures are of more classes than those published", "take the list of these annotations"
    ),
    "class_lists_differ": Kind("warning", "only the former counts", "remove the other"),
    "predicate_list_wrong": Kind(
        "error",
        "the list to map relations to is another than that of the annotations",
        "take the list of these annotations",
    ),
    "annotation_flaw": Kind(
        "warning", "`ingest` leaves these out or tells of them", "nothing to do where published so"
    ),
    # with --deep
    "scan_unreadable": Kind("error", "`ingest` refuses the scan", "see the file named"),
    "reader_problem": Kind("warning", "`ingest` leaves it out and tells of it", "see the file named"),
    # the database
    "disk_too_small": Kind(
        "error", "`ingest` and `features dump` fail midway", "make room, or move the database"
    ),
}
