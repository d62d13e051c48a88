"""``numgraph bench``: kernels and training epochs against other libraries, in one run.

graphs: what is measured on · measure, machine: time, memory, bandwidth · peers, torchmodels: the other
libraries · kernels with comparison, epochs, scaling, locality: the suites · session: what they do alike ·
report, pictures: tables, JSON, pictures · gpu, gpupeers: the same on a CUDA device · run: one run.
A new row is one entry of its suite's table, a new peer one class in peers.
"""

from numgraph.bench.run import bench
from numgraph.bench.session import Disagreement, Request

__all__ = ["Disagreement", "Request", "bench"]
