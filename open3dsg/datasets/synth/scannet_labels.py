"""The things of the rooms in ScanNet's words, with the numbers of its label table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Nyu40Class(NamedTuple):
    """A class of NYU40 (Gupta et al., 2013): its name as ScanNet spells it, the class of Eigen13 (Couprie et
    al., 2013) that it goes into, and the colour it has in ScanNet's pictures.
    """

    name: str
    eigen13: int
    rgb: tuple[int, int, int]


# Those of the 40 that our things are of, and 0 for what has no label.
UNLABELLED = 0
NYU40: Mapping[int, Nyu40Class] = {
    UNLABELLED: Nyu40Class("unannotated", 0, (0, 0, 0)),
    1: Nyu40Class("wall", 12, (174, 199, 232)),
    2: Nyu40Class("floor", 5, (152, 223, 138)),
    3: Nyu40Class("cabinet", 6, (31, 119, 180)),
    4: Nyu40Class("bed", 1, (255, 187, 120)),
    5: Nyu40Class("chair", 4, (188, 189, 34)),
    6: Nyu40Class("sofa", 9, (140, 86, 75)),
    7: Nyu40Class("table", 10, (255, 152, 150)),
    8: Nyu40Class("door", 12, (214, 39, 40)),
    9: Nyu40Class("window", 13, (197, 176, 213)),
    10: Nyu40Class("bookshelf", 6, (148, 103, 189)),
    11: Nyu40Class("picture", 8, (196, 156, 148)),
    12: Nyu40Class("counter", 6, (23, 190, 207)),
    14: Nyu40Class("desk", 10, (247, 182, 210)),
    15: Nyu40Class("shelves", 6, (66, 188, 102)),
    16: Nyu40Class("curtain", 13, (219, 219, 141)),
    17: Nyu40Class("dresser", 6, (140, 57, 197)),
    18: Nyu40Class("pillow", 7, (202, 185, 52)),
    19: Nyu40Class("mirror", 7, (51, 176, 203)),
    22: Nyu40Class("ceiling", 3, (78, 71, 183)),
    23: Nyu40Class("books", 2, (172, 114, 82)),
    24: Nyu40Class("refridgerator", 6, (255, 127, 14)),
    25: Nyu40Class("television", 11, (91, 163, 138)),
    27: Nyu40Class("towel", 7, (140, 153, 101)),
    28: Nyu40Class("shower curtain", 7, (158, 218, 229)),
    29: Nyu40Class("box", 7, (100, 125, 154)),
    32: Nyu40Class("night stand", 6, (146, 111, 194)),
    33: Nyu40Class("toilet", 7, (44, 160, 44)),
    34: Nyu40Class("sink", 7, (112, 128, 144)),
    35: Nyu40Class("lamp", 7, (96, 207, 209)),
    36: Nyu40Class("bathtub", 7, (227, 119, 194)),
    38: Nyu40Class("otherstructure", 7, (94, 106, 211)),
    39: Nyu40Class("otherfurniture", 6, (82, 84, 163)),
    40: Nyu40Class("otherprop", 7, (100, 85, 144)),
}
EIGEN13: Mapping[int, str] = {
    1: "Bed",
    2: "Books",
    3: "Ceiling",
    4: "Chair",
    5: "Floor",
    6: "Furniture",
    7: "Objects",
    8: "Picture",
    9: "Sofa",
    10: "Table",
    11: "TV",
    12: "Wall",
    13: "Window",
}

# 3DSSG's word -> what ScanNet's annotators called such a thing, where the two differ.
_SCANNET_WORDS: Mapping[str, str] = {
    "bath cabinet": "bathroom cabinet",
    "coffee machine": "coffee maker",
    "commode": "dresser",
    "fruit plate": "plate",
    "kitchen hood": "range hood",
    "pc": "computer tower",
    "sofa": "couch",
}


def scannet_word(label: str) -> str:
    """Return ScanNet's word for a thing that the rooms call `label`."""
    return _SCANNET_WORDS.get(label, label)


# ScanNet's word -> its id in ScanNet's label table and its NYU40 id.
LABEL_IDS: Mapping[str, tuple[int, int]] = {
    "armchair": (23, 5),
    "backpack": (48, 40),
    "basket": (73, 40),
    "bathroom cabinet": (1173, 3),
    "bathtub": (42, 36),
    "bed": (11, 4),
    "bench": (68, 39),
    "blanket": (54, 40),
    "board": (69, 38),
    "book": (22, 23),
    "bookshelf": (18, 10),
    "bottle": (65, 40),
    "box": (26, 29),
    "cabinet": (7, 3),
    "carpet": (53, 40),
    "ceiling": (41, 22),
    "chair": (2, 5),
    "clock": (103, 40),
    "coffee maker": (134, 40),
    "coffee table": (24, 7),
    "computer tower": (64, 40),
    "couch": (6, 6),
    "cup": (130, 40),
    "curtain": (21, 16),
    "desk": (9, 14),
    "door": (5, 8),
    "dresser": (36, 17),
    "floor": (3, 2),
    "kettle": (621, 40),
    "kitchen cabinet": (29, 3),
    "kitchen counter": (159, 12),
    "lamp": (28, 35),
    "laptop": (77, 40),
    "laundry basket": (106, 40),
    "light": (105, 38),
    "microwave": (59, 40),
    "mirror": (71, 19),
    "monitor": (19, 40),
    "nightstand": (34, 32),
    "ottoman": (67, 39),
    "oven": (84, 38),
    "picture": (15, 11),
    "pillow": (13, 18),
    "plant": (40, 40),
    "plate": (88, 40),
    "pot": (1234, 40),
    "radiator": (96, 39),
    "range hood": (342, 38),
    "refrigerator": (27, 24),
    "shelf": (8, 15),
    "shower curtain": (55, 28),
    "sink": (14, 34),
    "stool": (38, 40),
    "stove": (62, 38),
    "stuffed animal": (304, 40),
    "suitcase": (93, 40),
    "table": (4, 7),
    "toaster": (148, 40),
    "toilet": (17, 33),
    "toilet brush": (228, 40),
    "toilet paper": (49, 40),
    "towel": (31, 27),
    "trash can": (56, 39),
    "tv": (33, 25),
    "tv stand": (51, 39),
    "vase": (194, 40),
    "wall": (1, 1),
    "wardrobe": (99, 39),
    "washing machine": (70, 39),
    "window": (16, 9),
}
