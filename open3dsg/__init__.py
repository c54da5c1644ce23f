"""Open-vocabulary 3D scene graphs in PostgreSQL, after Open3DSG (Koch et al., CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open3dsg.api import Store

__version__ = "0.1.0"


def connect(url: str | None = None) -> Store:
    """Open the store at `url`, or that of the settings; see `open3dsg.api`."""
    from open3dsg.api import connect as connect_store  # `import open3dsg` stays light

    return connect_store(url)
