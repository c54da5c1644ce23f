"""The loader of Open3DSG in our own words, for comparison: what open_dataset.py and trainer.py do, no more.

Every pickle is read at the start by eight processes and kept in the list of a manager process, from which an
item comes as a copy. An item is padded to 9 objects and 72 pairs, the relation tokens to 72 too, each time it
is asked for; three `.pt` files hold its features. A batch is stacked, and pinned where there is a GPU.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import Manager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

MOST_OBJECTS, MOST_PAIRS = 9, 72
READERS = 8

# Name -> type in memory. What is not named stays as it is in the pickle.
IN_MEMORY: Mapping[str, str] = {
    "objects_id": "u1",
    "objects_cat": "u1",
    "objects_num": "i2",
    "objects_pcl": "f4",
    "objects_center": "f4",
    "objects_scale": "f4",
    "predicate_cat": "u1",
    "predicate_num": "i2",
    "predicate_pcl_flag": "f4",
    "predicate_dist": "f4",
    "pairs": "u1",
    "edges": "u1",
    "triples": "u1",
    "objects_count": "i2",
    "predicate_count": "i2",
}
LEFT_OUT = ("objects_pcl_glob", "scannet")  # not kept in memory

# Name -> its type in a batch, padded to the most objects or pairs.
OF_OBJECTS = {
    "objects_id": "f8",
    "objects_cat": "f8",
    "objects_num": "f8",
    "objects_scale": "f4",
    "objects_pcl": "f4",
    "objects_center": "f4",
}
OF_PAIRS = {
    "predicate_cat": "i8",
    "predicate_dist": "f4",
    "predicate_num": "f8",
    "predicate_pcl_flag": "f4",
    "pairs": "i8",
    "edges": "i8",
}


class Record:
    """What is kept of a pickle; its attributes are the item."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        for name, value in content.items():
            if name not in LEFT_OUT:
                setattr(self, name, np.array(value).astype(IN_MEMORY[name]) if name in IN_MEMORY else value)


def keep(kept: list[Record], path: Path) -> None:
    content = pickle.loads(path.read_bytes())
    content["rel2frame_mask"] = {pair: bool(frames) for pair, frames in content["rel2frame"].items()}
    content["objects_scale"] = [-1] * len(content["objects_cat"])
    content["dataset"] = "scannet"
    kept.append(Record(content))


class PublishedDataset(Dataset[dict[str, Any]]):
    """All of a split in the memory of a manager process."""

    def __init__(self, pickles: Sequence[Path], features: Path) -> None:
        self._features = [features / name for name in sorted(os.listdir(features))]
        self._manager = Manager()
        self.records = self._manager.list()
        with ProcessPoolExecutor(READERS) as pool:
            list(pool.map(partial(keep, self.records), pickles))

    @property
    def keeper(self) -> psutil.Process:
        """The process that holds the split."""
        return psutil.Process(self._manager._process.pid)  # type: ignore[attr-defined]  # no public name

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = vars(self.records[index])
        for names, most in ((OF_OBJECTS, MOST_OBJECTS), (OF_PAIRS, MOST_PAIRS)):
            for name, kind in names.items():
                item[name] = _padded(item[name], most).astype(kind)
        item["triples"] = item["triples"].astype(np.int64)
        item["predicate_dist"][np.isnan(item["predicate_dist"])] = 0
        item |= self._load_features(item["scan_id"])
        boxes = np.zeros((MOST_OBJECTS, 7), np.float32)
        boxes[: len(item["tight_bbox"])] = np.array(item["tight_bbox"])
        return item | {"objects_bbox": boxes}

    def _load_features(self, name: str) -> dict[str, torch.Tensor]:
        objects, valid, relations = (torch.load(folder / f"{name}.pt") for folder in self._features)
        of_objects = torch.zeros((MOST_OBJECTS, objects.shape[-1]))
        of_objects[: len(objects)] = objects
        is_valid = torch.zeros(MOST_OBJECTS, dtype=torch.bool)
        is_valid[: len(valid)] = valid
        of_pairs = torch.zeros((MOST_PAIRS, *relations.shape[-2:]), dtype=relations.dtype)
        of_pairs[: len(relations)] = relations
        return {"clip_obj_encoding": of_objects, "clip_obj_valids": is_valid, "clip_rel_encoding": of_pairs}


def _padded(rows: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    return np.pad(rows, [(0, most - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack arrays and tensors of the items; lists and words stay lists, and other mappings are dropped."""
    batch: dict[str, Any] = {}
    for name, first in items[0].items():
        values = [item[name] for item in items]
        if name == "triples":
            batch[name] = [torch.from_numpy(value) for value in values]
        elif isinstance(first, torch.Tensor):
            batch[name] = torch.stack(values)
        elif isinstance(first, np.ndarray):
            batch[name] = torch.from_numpy(np.stack(values))
        elif not isinstance(first, dict) or name == "id2name":
            batch[name] = values
    batch["objects_bbox"][:, :, -1] = torch.deg2rad(batch["objects_bbox"][:, :, -1]) % (2 * np.pi)
    for name in ("objects_pcl", "predicate_pcl_flag"):
        batch[name][..., 3:6] = batch[name][..., 3:6] / 255
    return batch


def published_loader(
    dataset: PublishedDataset, *, batch_size: int, workers: int, samples: int
) -> DataLoader[dict[str, Any]]:
    """Give `samples` items in random order, going through the split as often as it takes."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=RandomSampler(dataset, num_samples=samples),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
