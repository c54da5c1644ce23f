"""The network of Open3DSG (Koch et al., CVPR 2024): a scene graph of points to embeddings of its parts."""

from open3dsg.training.network.network import SceneGraphNetwork
from open3dsg.training.network.pretrained import load_point_weights, load_published

__all__ = ["SceneGraphNetwork", "load_point_weights", "load_published"]
