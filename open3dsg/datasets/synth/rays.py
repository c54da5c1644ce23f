"""Rays into triangles, by Open3D's scene of Embree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from open3dsg.datasets.synth.mesh import Mesh


@dataclass(frozen=True)
class Hits:
    """What N rays met: `distance` (N,) in ray lengths (inf for a miss), `triangle` (N,) its number and
    `uv` (N, 2) the barycentric weights of its second and third corner.
    """

    distance: NDArray[np.float32]
    triangle: NDArray[np.uint32]
    uv: NDArray[np.float32]


class RayScene:
    """The triangles of one mesh, ready to be met by rays."""

    def __init__(self, mesh: Mesh) -> None:
        """Build the search tree over the triangles of `mesh`."""
        import open3d as o3d

        core: Any = o3d.core  # its stubs ask for arguments that have defaults
        self._tensor = core.Tensor
        self._scene: Any = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.triangles.astype(np.uint32))
        )

    def cast(self, origins: ArrayLike, directions: NDArray[np.floating[Any]]) -> Hits:
        """First hits of rays from `origins`, (3,) or (N, 3), along `directions` (N, 3)."""
        found = self._scene.cast_rays(self._tensor(_bundle(origins, directions)))
        return Hits(found["t_hit"].numpy(), found["primitive_ids"].numpy(), found["primitive_uvs"].numpy())

    def blocked(self, origins: ArrayLike, directions: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Whether anything lies between each of `origins` and it plus its direction, (N,)."""
        met = self._scene.test_occlusions(self._tensor(_bundle(origins, directions)), tnear=0.0, tfar=1.0)
        result: NDArray[np.bool_] = met.numpy()
        return result


def _bundle(origins: ArrayLike, directions: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    bundle = np.empty((len(directions), 6), dtype=np.float32)
    bundle[:, :3] = origins
    bundle[:, 3:] = directions
    return bundle
