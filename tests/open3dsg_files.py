"""The preprocessed subgraphs and the feature files of Open3DSG, in its true formats."""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

OBJECTS = "export_obj_clip_emb_clip_OpenSeg_Topk_5_scales_3_vis_crit_0.19999999999999998_vis_crit_mask_0.1"
VALIDS = "export_obj_clip_valids"
TOKENS = "export_rel_clip_emb_clip_BLIP_Topk_5_scales_3_vis_crit_0.19999999999999998"
VECTORS = "export_rel_clip_emb_clip_ViT-B-32_Topk_5_scales_3_vis_crit_0.19999999999999998"

Pair = tuple[int, int]


def data_dict(name: str, objects: Sequence[int], pairs: Sequence[Pair] | None = None) -> dict[str, Any]:
    """What preprocess_3rscan.py pickles of a subgraph, with few points."""
    random = np.random.default_rng(len(objects))
    chosen = list(itertools.permutations(objects, 2)) if pairs is None else pairs
    frame = (
        "frame-000000.color.jpg",
        np.int64(9),
        np.float64(0.5),
        (np.int64(0),) * 4,
        random.integers(9, size=(4, 2)),
    )
    places = {number: place for place, number in enumerate(objects)}
    return {
        "scan_id": name,
        "objects_id": list(objects),
        "objects_cat": [1] * len(objects),
        "objects_num": [5] * len(objects),
        "objects_pcl": random.random((len(objects), 5, 9)).tolist(),
        "objects_pcl_glob": random.random((len(objects), 5, 9)),
        "objects_center": [[0.0, 1.0, 2.0]] * len(objects),
        "objects_scale": [1.5] * len(objects),
        "predicate_cat": [[1.0, 0.0]] * len(chosen),
        "predicate_num": [5] * len(chosen),
        "predicate_pcl_flag": random.random((len(chosen), 5, 10)).tolist(),
        "predicate_dist": [[0.0, 1.0, 2.0]] * len(chosen),
        "predicate_min_dist": [[0.0, 1.0, 2.0]] * len(chosen),
        "pairs": [list(pair) for pair in chosen],
        "edges": [[places[s], places[o]] for s, o in chosen],
        "triples": [[s, o, 0] for s, o in chosen],
        "objects_count": len(objects),
        "predicate_count": len(chosen),
        "tight_bbox": [{"axis_aligned": [0.0] * 7}] * len(objects),
        "object2frame": {number: [frame] for number in objects},
        "rel2frame": {pair: [(frame[0], 9, 9, 0.5, 0.5, frame[3], frame[3])] for pair in chosen},
        "id2name": {str(number): "thing" for number in objects},
    }


def by_numpy_1(pickled: bytes) -> bytes:
    """A pickle as numpy 1 writes it, whose inner modules are called otherwise; without frames."""
    operations = list(pickletools.genops(pickled))
    ends = [position for _, _, position in operations[1:]] + [len(pickled)]
    out = io.BytesIO()
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        if operation.name == "SHORT_BINUNICODE" and str(argument).startswith("numpy._core"):
            name = str(argument).replace("numpy._core", "numpy.core").encode()
            out.write(b"\x8c" + bytes([len(name)]) + name)
        elif operation.name != "FRAME":
            out.write(pickled[start or 0 : end])
    return out.getvalue()


def write_graph(folder: Path, name: str, objects: Sequence[int], pairs: Sequence[Pair] | None = None) -> Path:
    """Write SCAN/data_dict_H.pkl of the subgraph `name`, SCAN-H."""
    scan, _, digit = name.rpartition("-")
    path = folder / scan / f"data_dict_{digit}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(by_numpy_1(pickle.dumps(data_dict(name, objects, pairs), pickle.HIGHEST_PROTOCOL)))
    return path


def write_objects(folder: Path, name: str, rows: torch.Tensor, valids: Sequence[bool] | None = None) -> None:
    """Write the object features of a subgraph, and which of them there are: those that are not NaN."""
    import torch

    told = ~torch.isnan(rows).all(-1) if valids is None else torch.tensor(valids)
    _save(folder / OBJECTS / f"{name}.pt", rows)
    _save(folder / VALIDS / f"{name}.pt", told)


def write_relations(folder: Path, name: str, rows: torch.Tensor) -> None:
    """Write the relation features of a subgraph: tokens, or vectors."""
    _save(folder / (TOKENS if rows.ndim == 3 else VECTORS) / f"{name}.pt", rows)


def _save(path: Path, tensor: torch.Tensor) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensor, path)


def read_published(folder: Path, name: str) -> Mapping[str, torch.Tensor]:
    """Read what the published loader reads: from the first, second and third folder by name."""
    import torch

    folders = sorted(folder.iterdir())
    assert len(folders) == 3
    tensors = [torch.load(each / f"{name}.pt", weights_only=True) for each in folders]
    return dict(zip(("objects", "valids", "relations"), tensors, strict=True))
