"""What an installed numgraph must be able to do, with nothing beside it: `make dist` runs this program in
environments that have just it.

It takes the package from where it is installed, not from a checkout: run it as ``python -P tests/smoke.py``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

import numgraph as ng
from numgraph.cli import main


def ran(*arguments: str) -> str:
    """What a command prints; it must end well."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert main(arguments) == 0
    return out.getvalue()


rng = np.random.default_rng(0)
src, dst = rng.integers(0, 30, 200), rng.integers(0, 30, 200)
x, w = rng.normal(size=(30, 4)), rng.normal(size=(200, 1))
dense = np.zeros((30, 30))
np.add.at(dense, (dst, src), w[:, 0])
with ng.Tape() as tape:
    tx = tape.watch(x)
    z = ng.update_all(ng.Graph(src, dst, 30), lambda u, e: u.x * e.w, "sum", u={"x": tx}, e={"w": w})
    loss = (z * z).sum()
(dx,) = tape.gradient(loss, [tx])
np.testing.assert_allclose(z.data, dense @ x, atol=1e-12)
np.testing.assert_allclose(dx, 2 * dense.T @ (dense @ x), atol=1e-12)

assert Path(ng.__file__).is_relative_to(sys.prefix), f"{ng.__file__} is not the installed package"
assert importlib.metadata.version("numgraph") == ng.__version__
assert files("numgraph").joinpath("py.typed").is_file()
with tempfile.TemporaryDirectory() as folder:
    model = Path(folder) / "model.npz"
    result = json.loads(
        ran("train", "--dataset", "digits", "--epochs", "60", "--save", str(model), "--json").splitlines()[-1]
    )
    assert result["test_accuracy"] > 0.85
    assert model.stat().st_size > 1000
assert "reversed graph" in ran("explain", "--model", "gat").lower()
assert json.loads(ran("info", "--json"))["versions"]["numgraph"] == ng.__version__
print(f"numgraph {ng.__version__} works on Python {sys.version.split()[0]} with NumPy {np.__version__}")
