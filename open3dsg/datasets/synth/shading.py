"""What a surface looks like: procedural materials and two lamps, one compiled pass over the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from open3dsg.datasets.synth.mesh import Material

if TYPE_CHECKING:
    from numpy.typing import NDArray

WOOD = int(Material.WOOD)
FABRIC = int(Material.FABRIC)
STRIPES = int(Material.STRIPES)
CARPET = int(Material.CARPET)
PLANKS = int(Material.PLANKS)
FLOOR_TILES = int(Material.FLOOR_TILES)
WALL_TILES = int(Material.WALL_TILES)
METAL = int(Material.METAL)
GLOSSY = int(Material.GLOSSY)
SCREEN = int(Material.SCREEN)
PICTURE = int(Material.PICTURE)
VIEW = int(Material.VIEW)
GLOWING = int(Material.GLOWING)
LEAF = int(Material.LEAF)
WICKER = int(Material.WICKER)
MIRROR = int(Material.MIRROR)
CARDBOARD = int(Material.CARDBOARD)
TEXT = int(Material.TEXT)
DIAL = int(Material.DIAL)


@njit(cache=True)
def _hash(a: int, b: int, c: int) -> float:
    """Uniform number in [0, 1) that depends on three integers."""
    h = (a * 374761393 + b * 668265263 + c * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@njit(cache=True)
def _noise(x: float, y: float, z: float) -> float:
    """Value noise in [0, 1): random numbers on the integer grid, blended trilinearly."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    low = (_hash(i, j, k) * (1 - u) + _hash(i + 1, j, k) * u) * (1 - v)
    low += (_hash(i, j + 1, k) * (1 - u) + _hash(i + 1, j + 1, k) * u) * v
    high = (_hash(i, j, k + 1) * (1 - u) + _hash(i + 1, j, k + 1) * u) * (1 - v)
    high += (_hash(i, j + 1, k + 1) * (1 - u) + _hash(i + 1, j + 1, k + 1) * u) * v
    return low * (1 - w) + high * w


@njit(cache=True)
def _near_line(value: float, period: float, width: float) -> bool:
    phase = value / period
    return bool(abs(phase - np.round(phase)) * period < width)


@njit(cache=True)
def _brightness(material: int, x: float, y: float, z: float) -> float:
    """Factor on the base colour at texture coordinates, about 1 on average."""
    if material == WOOD:
        across = y + 0.7 * z
        ring = _noise(x * 2.5, across * 45, 0.0)
        factor = 0.78 + 0.3 * ring + 0.14 * _noise(x * 12, across * 160, 5.0)
    elif material == FABRIC:
        factor = 0.8 + 0.2 * _noise(x * 300, y * 300, z * 300) + 0.2 * _noise(x * 9, y * 9, z * 9)
    elif material == STRIPES:
        band = 1.12 if (x + 50.0) % 0.12 < 0.06 else 0.72
        factor = band * (0.9 + 0.2 * _noise(x * 200, y * 200, z * 200))
    elif material == CARPET:
        factor = 0.65 + 0.55 * _noise(x * 150, y * 150, z * 150) + 0.15 * _noise(x * 6, y * 6, z * 6)
    elif material == PLANKS:
        factor = _planks(x, y)
    elif material == FLOOR_TILES:
        factor = _floor_tiles(x, y)
    elif material == WALL_TILES:
        factor = 0.72 if _near_line(x, 0.25, 0.003) or _near_line(z, 0.25, 0.003) else 1.0
    elif material == WICKER:
        factor = 0.8 + 0.3 * float(np.sin(z * 260) * np.sin((x + y) * 190))
    elif material == LEAF:
        factor = 0.7 + 0.6 * _noise(x * 40, y * 40, z * 40)
    else:
        factor = _small_marks(material, x, y, z)
    return factor


@njit(cache=True)
def _floor_tiles(x: float, y: float) -> float:
    if _near_line(x, 0.3, 0.004) or _near_line(y, 0.3, 0.004):
        return 0.62
    return 0.92 + 0.14 * _hash(int(np.round(x / 0.3 - 0.5)), int(np.round(y / 0.3 - 0.5)), 7)


@njit(cache=True)
def _planks(x: float, y: float) -> float:
    row = int(np.floor(y / 0.14))
    shifted = x + 0.37 * row
    if _near_line(y, 0.14, 0.0025) or _near_line(shifted, 1.2, 0.003):
        return 0.6
    board = _hash(row, int(np.floor(shifted / 1.2 + 0.5)), 3)
    return 0.82 + 0.2 * board + 0.16 * _noise(x * 3, y * 60, board * 90)


@njit(cache=True)
def _small_marks(material: int, x: float, y: float, z: float) -> float:
    if material == CARDBOARD:
        tape = 1.22 if abs(x) < 0.025 else 1.0
        return tape * (0.9 + 0.2 * _noise(x * 30, y * 30, z * 30))
    if material == TEXT:
        line = z % 0.07
        word = _noise(x * 28, np.floor(z / 0.07) * 5.3, 1.0)
        return 0.25 if line < 0.02 and word > 0.48 and _noise(x * 160, z * 40, 9) > 0.35 else 1.0
    if material == PICTURE:
        return 0.75 + 0.5 * _noise(x * 60, y * 60, z * 60)
    return 0.98 + 0.04 * _noise(x * 60, y * 60, z * 60)


@njit(cache=True)
def _art(x: float, z: float, key: int, rgb: NDArray[np.float32]) -> None:
    """Overwrite `rgb` with a painting: soft fields of three colours; `key` makes each its own."""
    shift = 17.0 * _hash(key, 1, 2)
    field = _noise(x * 5 + shift, z * 5, shift) + 0.5 * _noise(x * 14, z * 14 + shift, 2.0)
    step = int(field * 4.2)
    for c in range(3):
        tint = 0.06 + 0.8 * _hash(key + step * 31, c, 11)
        rgb[c] = 0.35 * rgb[c] + 0.65 * tint


@njit(cache=True)
def _outdoors(dx: float, dy: float, dz: float, rgb: NDArray[np.float32]) -> None:
    """Overwrite `rgb` with the view out of a window in direction (dx, dy, dz): sky over trees."""
    skyline = -0.05 + 0.16 * _noise(dx * 9 + 20, dy * 9 + 20, 0.0)
    if dz > skyline:
        rgb[0], rgb[1], rgb[2] = 1.5 - 0.6 * dz, 1.6 - 0.4 * dz, 1.75
    else:
        leaf = 0.3 + 0.4 * _noise(dx * 25, dy * 25, dz * 25) + 0.3 * _noise(dx * 90, dy * 90, dz * 90)
        rgb[0], rgb[1], rgb[2] = 0.55 * leaf, 0.85 * leaf, 0.42 * leaf


@njit(cache=True)
def _dial(x: float, z: float, rgb: NDArray[np.float32]) -> None:
    """Hands and hour marks of a clock face around (0, 0)."""
    radius = np.sqrt(x * x + z * z)
    hour = np.arctan2(x, z) / (2 * np.pi) * 12
    mark = abs(hour - np.round(hour)) * radius < 0.022 and radius > 0.095
    hand = (abs(x) < 0.006 and 0 < z < 0.1) or (abs(z) < 0.007 and 0 < x < 0.07)
    if mark or hand:
        rgb[0], rgb[1], rgb[2] = 0.02, 0.02, 0.02


@njit(cache=True)
def shade(
    origin: NDArray[np.float64],
    rays: NDArray[np.float32],
    distance: NDArray[np.float32],
    triangle: NDArray[np.uint32],
    uv: NDArray[np.float32],
    corner_normals: NDArray[np.float32],
    corner_texture: NDArray[np.float32],
    colours: NDArray[np.float32],
    materials: NDArray[np.uint8],
    keys: NDArray[np.int64],
    lamps: NDArray[np.float64],
    lit: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write linear RGB of each ray into `out`, all over N rays of any order.

    `origin` (N, 3), `rays` (N, 3) directions, `distance` (N,) in units of the ray, `triangle` (N,) hit
    numbers, `uv` (N, 2) barycentric; by triangle: `corner_normals` and `corner_texture` (T, 3, 3), linear
    `colours` (T, 3), `materials` (T,), `keys` (T,) a number per instance; `lamps` (L, 4) position and
    power; `lit` (N, L) share of each lamp that is not shadowed.
    """
    rgb = np.empty(3, np.float32)
    n = np.empty(3, np.float64)
    d = np.empty(3, np.float64)
    q = np.empty(3, np.float64)
    point = np.empty(3, np.float64)
    for i in range(len(distance)):
        if not np.isfinite(distance[i]):
            out[i, 0] = out[i, 1] = out[i, 2] = 0.0
            continue
        t = triangle[i]
        b, c = uv[i, 0], uv[i, 1]
        a = 1 - b - c
        for k in range(3):
            q[k] = a * corner_texture[t, 0, k] + b * corner_texture[t, 1, k] + c * corner_texture[t, 2, k]
            n[k] = a * corner_normals[t, 0, k] + b * corner_normals[t, 1, k] + c * corner_normals[t, 2, k]
            d[k] = rays[i, k]
            point[k] = origin[i, k] + distance[i] * rays[i, k]
        _normalise(d)
        _normalise(n)
        if _dot(n, d) > 0:
            n[0], n[1], n[2] = -n[0], -n[1], -n[2]
        material = materials[t]
        factor = _brightness(material, q[0], q[1], q[2])
        for k in range(3):
            rgb[k] = colours[t, k] * factor * factor
        if material == PICTURE:
            _art(q[0], q[2], keys[t], rgb)
        elif material == DIAL:
            _dial(q[0], q[2], rgb)
        elif material == VIEW:
            _outdoors(d[0], d[1], d[2], rgb)
        if material in (VIEW, GLOWING):
            brighter = 1.3 if material == GLOWING else 1.0
            for k in range(3):
                out[i, k] = brighter * rgb[k]
        else:
            _light(point, n, d, material, rgb, lamps, lit[i], out[i])


@njit(cache=True)
def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


@njit(cache=True)
def _normalise(a: NDArray[np.float64]) -> None:
    scale = 1.0 / max(np.sqrt(_dot(a, a)), 1e-9)
    for k in range(3):
        a[k] *= scale


@njit(cache=True)
def _light(
    point: NDArray[np.float64],
    n: NDArray[np.float64],
    d: NDArray[np.float64],
    material: int,
    rgb: NDArray[np.float32],
    lamps: NDArray[np.float64],
    lit: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Lambert with a soft sky term, and a Blinn-Phong highlight on what shines."""
    diffuse = 0.3 + 0.07 * n[2] + 0.03 * n[0]
    shine = 0.0
    for j in range(len(lamps)):
        x, y, z = lamps[j, 0] - point[0], lamps[j, 1] - point[1], lamps[j, 2] - point[2]
        square = x * x + y * y + z * z
        scale = 1.0 / np.sqrt(square)
        x, y, z = x * scale, y * scale, z * scale
        diffuse += lit[j] * lamps[j, 3] * max(n[0] * x + n[1] * y + n[2] * z, 0.0) / (1.3 + 0.3 * square)
        x, y, z = x - d[0], y - d[1], z - d[2]
        half = max((n[0] * x + n[1] * y + n[2] * z) / max(np.sqrt(x * x + y * y + z * z), 1e-9), 0.0)
        shine += lit[j] * half**40
    gloss, sky = 0.0, 0.0
    if material in (METAL, GLOSSY, MIRROR):
        gloss = 0.45
    elif material == WALL_TILES:
        gloss = 0.1
    elif material == SCREEN:
        gloss = 0.25
    elif material in (PLANKS, FLOOR_TILES, WOOD):
        gloss = 0.08
    if material in (METAL, SCREEN):
        # A smeared reflection of a bright ceiling and a dark floor.
        up = max(d[2] - 2 * _dot(n, d) * n[2], 0.0)
        sky = up * (0.25 if material == METAL else 0.06)
    for k in range(3):
        out[k] = rgb[k] * diffuse + gloss * shine + sky
