"""Open-vocabulary 3D scene graphs in PostgreSQL, after Open3DSG (Koch et al., CVPR 2024)."""

__version__ = "0.1.0"
