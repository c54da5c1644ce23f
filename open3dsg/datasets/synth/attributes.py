"""What can be said of a thing in a room beside its label: its colours and materials, in the words of 3DSSG.

Both are read off its surface by area, whether a camera sees it or not. A surface whose picture is not its
paint (a painting, the view out of a window, a mirror) has no colour. Paint alone does not tell all materials:
a towel has the look of a carpet, so such a word also depends on the label. Nothing is said where nothing is
known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import Material

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from open3dsg.datasets.synth.mesh import Mesh
    from open3dsg.datasets.synth.room import Instance

COLOUR_SHARE = 0.25  # of the whole surface, from which on a colour is one of the thing's
MATERIAL_SHARE = 0.2

# Typical sRGB of colour words; a paint is called by the nearest in CIELAB. Words of many shades have several.
_COLOURS: Sequence[tuple[str, tuple[int, int, int]]] = (
    ("white", (240, 240, 236)),
    ("black", (36, 36, 38)),
    ("gray", (128, 128, 130)),
    ("red", (190, 50, 45)),
    ("green", (65, 130, 85)),
    ("green", (30, 130, 125)),
    ("green", (120, 185, 80)),
    ("blue", (55, 95, 160)),
    ("blue", (35, 140, 165)),
    ("blue", (115, 190, 220)),
    ("brown", (125, 82, 50)),
    ("yellow", (225, 190, 65)),
    ("orange", (226, 130, 70)),
    ("purple", (118, 68, 122)),
    ("pink", (230, 160, 175)),
    ("beige", (212, 190, 156)),
)
_NOT_ITS_PAINT = (Material.PICTURE, Material.VIEW, Material.MIRROR)
_MATERIALS: Mapping[Material, str] = {
    Material.WOOD: "wooden",
    Material.PLANKS: "wooden",
    Material.METAL: "metal",
    Material.CARDBOARD: "cardboard",
    Material.FLOOR_TILES: "ceramic",
    Material.WALL_TILES: "ceramic",
    Material.VIEW: "glass",
    Material.MIRROR: "glass",
}
_PADDED = ("sofa", "armchair", "chair", "ottoman", "pillow", "bed")
_OF_LABELS: Mapping[Material, tuple[str, Collection[str]]] = {
    Material.CARPET: ("carpet", ("carpet", "floor")),
    Material.GLOSSY: ("ceramic", ("toilet", "sink", "bathtub")),
    Material.FABRIC: ("padded", _PADDED),
    Material.STRIPES: ("padded", _PADDED),
}


def attributes_of(instance: Instance) -> dict[str, list[str]]:
    """Return kind -> words, those of larger surfaces first; a kind of which nothing is known is absent."""
    mesh = instance.mesh
    share = _areas(mesh) / _areas(mesh).sum()
    colours = _words(_colour_words(mesh), share, COLOUR_SHARE)
    materials = _words(_material_words(mesh, instance.label), share, MATERIAL_SHARE)
    return {kind: words for kind, words in (("color", colours), ("material", materials)) if words}


def _areas(mesh: Mesh) -> NDArray[np.float64]:
    """Area of each triangle, (T,), square metres."""
    a, b, c = mesh.vertices[mesh.triangles].transpose(1, 0, 2)
    areas: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return areas


def _words(words: Sequence[str], share: NDArray[np.float64], least: float) -> list[str]:
    """Return the words that at least `least` of the surface has; '' is none. `share` (T,) is by triangle."""
    found, which = np.unique(words, return_inverse=True)
    total = np.bincount(which, share)
    order = np.argsort(-total, kind="stable")
    return [str(found[at]) for at in order if found[at] and total[at] >= least]


def _colour_words(mesh: Mesh) -> list[str]:
    """Return the colour of each triangle; '' where its paint does not show."""
    names = np.array([word for word, _srgb in _COLOURS])
    anchors = _lab([srgb for _word, srgb in _COLOURS])
    nearest = np.linalg.norm(_lab(mesh.colours)[:, None] - anchors[None], axis=2).argmin(axis=1)
    words = names[nearest].astype("<U8")
    words[(mesh.materials == Material.METAL) & np.isin(words, ["white", "gray"])] = "silver"
    words[np.isin(mesh.materials, _NOT_ITS_PAINT)] = ""
    return [str(word) for word in words]


def _material_words(mesh: Mesh, label: str) -> list[str]:
    """Return the material of each triangle; '' where that is not known."""
    of_label = {material: word for material, (word, labels) in _OF_LABELS.items() if label in labels}
    known = {**_MATERIALS, **of_label}
    return [known.get(Material(material), "") for material in mesh.materials.tolist()]


def _lab(srgb: ArrayLike) -> NDArray[np.float64]:
    """CIELAB under D65 of sRGB (N, 3) from 0 to 255: IEC 61966-2-1, and CIE 15."""
    channel = np.asarray(srgb, np.float64) / 255
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    relative = linear @ np.array(to_xyz).T / [0.95047, 1.0, 1.08883]
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
