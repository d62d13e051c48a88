"""The name that NumPy 2.5 has no longer and numba-cuda 0.30 reads when its compiler starts: with it,
numba-cuda works.

Python runs this file in every process that has its folder on PYTHONPATH: the stages of gpu_report.py, where
they need it, and nothing else."""

import numpy as np

if not hasattr(np, "row_stack"):
    np.row_stack = np.vstack  # noqa: NPY201
