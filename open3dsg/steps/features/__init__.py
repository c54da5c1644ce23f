"""Dumps of features: embeddings of instances and of pairs, once each, within any memory."""

from open3dsg.steps.features.nodes import DumpNodes
from open3dsg.steps.features.options import FeatureOptions, PairOptions, Running
from open3dsg.steps.features.pairs import DumpPairs

__all__ = ["DumpNodes", "DumpPairs", "FeatureOptions", "PairOptions", "Running"]
