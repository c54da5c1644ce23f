"""RGB-D pictures of a room, with the exact instance of every pixel."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import Material, join
from open3dsg.datasets.synth.rays import Hits, RayScene
from open3dsg.datasets.synth.shading import shade

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from open3dsg.datasets.synth.room import Room
    from open3dsg.geometry.pixels import PixelGrid

MISS = -1
_SHADOW_STEP = 3


@dataclass(frozen=True)
class Rendering:
    """One picture: `rgb` (H, W, 3) uint8, `depth_m` (H, W) float32 along the optical axis with 0 for a
    miss, `instance` (H, W) int32 with -1 for a miss.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    instance: NDArray[np.int32]


class Renderer:
    """Casts rays into one room with Open3D (Embree) and shades them.

    The same room, pose and intrinsics give the same picture: sensor noise is drawn from the three.
    """

    def __init__(self, room: Room) -> None:
        """Take in the geometry, materials and lamps of `room`."""
        mesh = join([instance.mesh for instance in room.instances])
        counts = [len(instance.mesh.triangles) for instance in room.instances]
        numbers = np.array([instance.number for instance in room.instances], dtype=np.int32)
        self._seed = room.seed
        self._instance = np.append(np.repeat(numbers, counts), np.int32(MISS))
        self._corner_normals = mesh.corner_normals
        self._corner_texture = mesh.texture[mesh.triangles]
        self._colours = ((mesh.colours / np.float32(255)) ** 2.2).astype(np.float32)
        self._materials = mesh.materials
        self._keys = np.repeat(numbers, counts).astype(np.int64) + room.seed % 100_003
        self._lamps = room.lamps
        self._vertices, self._triangles = mesh.vertices, mesh.triangles
        self._scene = RayScene(mesh)

    def frame(self, T_world_camera: NDArray[np.float64], intrinsics: PixelGrid) -> Rendering:
        """Render at `T_world_camera` (4, 4), OpenCV axes, on the pixel grid of `intrinsics`."""
        rays = _rays(T_world_camera, intrinsics)
        hits = self._scene.cast(T_world_camera[:3, 3], rays)
        shape = intrinsics.height, intrinsics.width
        linear = self._shaded(T_world_camera[:3, 3], rays, hits, shape)
        noise = self._noise(T_world_camera, 0)
        return Rendering(
            rgb=_developed(linear, noise).reshape(*shape, 3),
            depth_m=_measured(hits.distance, noise).reshape(shape),
            instance=self._named(hits).reshape(shape),
        )

    def depth(
        self, T_world_camera: NDArray[np.float64], intrinsics: PixelGrid
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Depth (H, W) float32 metres and instance (H, W) int32 alone, without the cost of shading."""
        hits = self._scene.cast(T_world_camera[:3, 3], _rays(T_world_camera, intrinsics))
        shape = intrinsics.height, intrinsics.width
        noise = self._noise(T_world_camera, 1)
        return _measured(hits.distance, noise).reshape(shape), self._named(hits).reshape(shape)

    def colours_at(self, triangle: NDArray[np.int64], uv: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Colours (N, 3) of points on the room's surface as a scan's texture has them, light included.

        `triangle` (N,) numbers the triangles of all instances one after the other; `uv` (N, 2) are the
        barycentric weights of their second and third corner. Each point is seen straight from the front.
        """
        corners = self._vertices[self._triangles[triangle]]
        weights = np.concatenate([1 - uv.sum(axis=1, keepdims=True), uv], axis=1)
        points = (corners * weights[:, :, None]).sum(axis=1)
        normals = self._corner_normals[triangle, 0]
        hits = Hits(np.ones(len(uv), dtype=np.float32), triangle.astype(np.uint32), uv.astype(np.float32))
        lit = np.ones((len(uv), len(self._lamps)), dtype=np.float32)
        linear = self._lit(points + normals, -normals, hits, lit)
        return _encoded(np.clip(linear * np.float32(1.15), 0, 1))

    def covered(self, points: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether something lies within 2 cm before each surface point (N, 3), so that nobody can see it."""
        return self._scene.blocked(points + 0.0015 * normals, 0.02 * normals)

    def _noise(self, T_world_camera: NDArray[np.float64], sensor: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(T_world_camera.tobytes()), sensor])

    def _named(self, hits: Hits) -> NDArray[np.int32]:
        return self._instance[np.where(np.isfinite(hits.distance), hits.triangle, len(self._instance) - 1)]

    def _shaded(
        self, origin: NDArray[np.float64], rays: NDArray[np.float32], hits: Hits, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Linear RGB (N, 3); what hits a mirror shows what the mirror shows, once."""
        origins = np.broadcast_to(origin, rays.shape).astype(np.float64)
        lit = self._unshadowed(origins, rays, hits, shape)
        linear = self._lit(origins, rays, hits, lit)
        mirrored = np.flatnonzero(
            np.isfinite(hits.distance)
            & (self._materials[np.minimum(hits.triangle, len(self._materials) - 1)] == Material.MIRROR)
        )
        if len(mirrored):
            normal = self._corner_normals[hits.triangle[mirrored], 0]
            points = origins[mirrored] + hits.distance[mirrored, None] * rays[mirrored]
            facing = (rays[mirrored] * normal).sum(axis=1, keepdims=True)
            bounced = (rays[mirrored] - 2 * facing * normal).astype(np.float32)
            start = points - 1e-3 * np.sign(facing) * normal
            seen = self._scene.cast(start, bounced)
            open_light = np.ones((len(mirrored), len(self._lamps)), dtype=np.float32)
            linear[mirrored] = 0.15 * linear[mirrored] + 0.8 * self._lit(start, bounced, seen, open_light)
        return linear

    def _lit(
        self,
        origins: NDArray[np.float64],
        rays: NDArray[np.float32],
        hits: Hits,
        lit: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        out = np.empty((len(rays), 3), dtype=np.float32)
        shade(
            origins,
            rays,
            hits.distance,
            hits.triangle,
            hits.uv,
            self._corner_normals,
            self._corner_texture,
            self._colours,
            self._materials,
            self._keys,
            self._lamps,
            lit,
            out,
        )
        return out

    def _unshadowed(
        self, origins: NDArray[np.float64], rays: NDArray[np.float32], hits: Hits, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Share of each lamp (N, L) that reaches the pixel, cast on every third pixel and spread softly."""
        coarse = np.arange(len(rays)).reshape(shape)[::_SHADOW_STEP, ::_SHADOW_STEP]
        chosen = coarse.reshape(-1)
        distance = np.where(np.isfinite(hits.distance[chosen]), hits.distance[chosen], 0)
        points = origins[chosen] + distance[:, None] * rays[chosen]
        lit = np.empty((len(rays), len(self._lamps)), dtype=np.float32)
        for column, lamp in enumerate(self._lamps):
            to_lamp = lamp[:3] - points
            blocked = self._scene.blocked(points + 0.01 * to_lamp, 0.98 * to_lamp)
            soft = _blurred(1 - blocked.reshape(coarse.shape).astype(np.float32))
            full = soft.repeat(_SHADOW_STEP, axis=0).repeat(_SHADOW_STEP, axis=1)
            lit[:, column] = full[: shape[0], : shape[1]].reshape(-1)
        return lit


def _rays(T_world_camera: NDArray[np.float64], intrinsics: PixelGrid) -> NDArray[np.float32]:
    """Directions in the world, row by row, of unit length along the optical axis: the hit is z-depth."""
    return _camera_rays(intrinsics) @ T_world_camera[:3, :3].T.astype(np.float32)


@lru_cache(maxsize=4)
def _camera_rays(intrinsics: PixelGrid) -> NDArray[np.float32]:
    rows, columns = np.mgrid[: intrinsics.height, : intrinsics.width]
    x = (columns - intrinsics.cx) / intrinsics.fx
    y = (rows - intrinsics.cy) / intrinsics.fy
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)


def _blurred(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Box blur of 5 x 5 pixels with repeated edges."""
    for axis in (0, 1):
        padded = np.pad(picture, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=axis)
        picture = windows.mean(axis=-1, dtype=np.float32)
    return picture


def _developed(linear: NDArray[np.float32], noise: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure of this picture, sensor noise, and the sRGB-like curve that cameras apply."""
    exposure = np.float32(noise.uniform(1.05, 1.35))
    grain = noise.standard_normal(linear.shape, dtype=np.float32) * np.float32(0.012)
    # A soft shoulder: bright walls stay short of white.
    compressed = np.float32(1.12) * (1 - np.exp(-1.25 * linear * exposure))
    return _encoded(compressed, grain)


def _encoded(linear: NDArray[np.float32], grain: NDArray[np.float32] | float = 0.0) -> NDArray[np.uint8]:
    encoded = np.clip(linear, 0, 1) ** np.float32(1 / 2.2) + grain
    rgb: NDArray[np.uint8] = (np.clip(encoded, 0, 1) * 255 + 0.5).astype(np.uint8)
    return rgb


def _measured(distance: NDArray[np.float32], noise: np.random.Generator) -> NDArray[np.float32]:
    """Depth with noise that grows with its square, as time-of-flight cameras have; 0 for a miss."""
    depth = np.where(np.isfinite(distance), distance, np.float32(0))
    sigma = np.float32(0.0015) * depth**2
    noisy: NDArray[np.float32] = depth + sigma * noise.standard_normal(depth.shape, dtype=np.float32)
    return noisy
