"""DistributedDataParallel: two processes that train on halves of the graphs agree with one that trains on all
of them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

PROGRAM = """
import os, sys
import numpy as np, torch, torch.distributed as dist, numgraph as ng
rank, port, out, alone = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 8), torch.nn.Linear(8, 1)
    def forward(self, g, x):
        h = torch.relu(ng.ops.copy_u_mean(g, self.first(x)))
        return ng.attend(g, lambda u, v: (u.h * v.h).sum(-1, keepdims=True), lambda u: u.z, u={"h": h, "z": self.second(h)}, v={"h": h})

rng = np.random.default_rng(0)
graphs = [ng.Graph(rng.integers(0, 6, 12), rng.integers(0, 6, 12), 6) for _ in range(4)]
xs = [torch.as_tensor(rng.standard_normal((6, 3)), dtype=torch.float32) for _ in graphs]

def train(mine, out, wrapped=lambda net: net):
    torch.manual_seed(0)
    net = Net()
    model = wrapped(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = sum(model(graphs[i], xs[i]).square().mean() for i in mine) / len(mine)
        loss.backward()
        optimizer.step()
    np.savez(out, **{name: p.detach().numpy() for name, p in net.named_parameters()})

if rank == 0:
    train(range(4), alone)
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
train(range(rank, 4, 2), out, torch.nn.parallel.DistributedDataParallel)
dist.barrier()  # who leaves early takes the other's threads along
dist.destroy_process_group()
"""


def start(rank, port, out, alone):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(rank), str(port), str(out), str(alone)],
        env=environment,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch has no gloo here",
)
def test_two_processes_agree_with_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outs = [tmp_path / f"{name}.npz" for name in ("one", "first", "second")]
    runs = [start(rank, port, outs[1 + rank], outs[0]) for rank in (0, 1)]
    for run in runs:
        _, said = run.communicate(timeout=240)
        assert run.returncode == 0, said.decode()
    alone, *together = (dict(np.load(out)) for out in outs)
    for one in together:
        assert one.keys() == alone.keys()
        for name in alone:
            np.testing.assert_allclose(one[name], alone[name], rtol=1e-4, atol=1e-6)
