"""Kernels: what a walk over a graph's edges computes (walk.py), and the targets that compute it."""

from numgraph.kernels.cpu import execute

__all__ = ["execute"]
