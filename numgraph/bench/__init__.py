"""``numgraph bench``: kernels and training epochs against other libraries, in one run.

graphs: the graphs · measure: time, memory, bandwidth, machine · peers: the other libraries · kernels, epochs, scaling, locality: the
suites, each a table of rows · report, pictures: table, JSON, pictures · run: which rows and peers are asked for. A new row is one entry of its
suite's table, a new peer one class in peers.
"""

from numgraph.bench.run import bench
from numgraph.bench.session import Disagreement, Request

__all__ = ["Disagreement", "Request", "bench"]
