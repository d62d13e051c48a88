"""``numgraph bench``."""

from __future__ import annotations

import argparse
from typing import Any

from numgraph.cli.options import (
    DEVICES,
    STDOUT,
    add_json,
    counts,
    names,
    natural,
    number,
    output,
    path,
    positive,
    print_result,
    rate,
    refusing,
)

_SUITES = ("kernels", "epochs", "scaling", "locality", "frameworks")
_PEERS = ("scipy", "mkl", "torch", "dgl", "pyg")
_DEVICE_PEERS = ("cusparse", "torch", "scatter", "pyg", "atomic")


def add_bench(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="time kernels and training epochs beside SciPy, MKL, torch, DGL and PyG",
        description="Time kernels and training epochs beside the peers that are installed, alternately, "
        "after a check that the results "
        "agree. A ratio above 1 means that numgraph is faster. By default a few minutes.",
    )
    command.add_argument(
        "--suite",
        type=names,
        default=("kernels", "epochs"),
        metavar="S,…",
        help=f"{', '.join(_SUITES)} or all",
    )
    command.add_argument(
        "--rows",
        type=names,
        metavar="R,…",
        help="rows of the tables, for example copy_u_sum,gat,cora_gcn (default all)",
    )
    command.add_argument(
        "--features", type=counts, metavar="F,…", help="widths of the kernels (default: each row's own)"
    )
    command.add_argument(
        "--nodes-log2",
        type=number(int, 1, 30),
        default=17,
        metavar="N",
        help="2^N nodes of the R-MAT graph (default 17)",
    )
    command.add_argument(
        "--edges", type=positive, default=2_000_000, metavar="N", help="its edges (default 2000000)"
    )
    command.add_argument(
        "--edge-order",
        choices=("random", "destination"),
        default="random",
        help="of its edge ids (default random)",
    )
    command.add_argument(
        "--max-edges",
        type=positive,
        default=10_000_000,
        metavar="N",
        help="largest of the scaling series (default 10^7)",
    )
    command.add_argument(
        "--peers",
        type=names,
        metavar="P,…",
        help=f"{', '.join(_PEERS)}; on a device {', '.join(_DEVICE_PEERS)}; or none (default all that are "
        "installed)",
    )
    command.add_argument(
        "--repeats", type=positive, default=9, metavar="N", help="pairs of samples at most (default 9)"
    )
    command.add_argument(
        "--seconds",
        type=rate,
        default=10.0,
        metavar="X",
        help="about the longest for one comparison (default 10)",
    )
    command.add_argument(
        "--threads", type=positive, metavar="N", help="of numgraph and of the peers (default: all cores)"
    )
    command.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of the graph and the operands (default 0)"
    )
    command.add_argument(
        "--data-dir", type=path, metavar="DIR", help="DIR/planetoid has Cora's files, for the epochs"
    )
    command.add_argument(
        "--device",
        choices=(*DEVICES, "both"),
        default="cpu",
        help="cuda: on a GPU; both: with the host beside it (default cpu)",
    )
    add_json(command)
    command.add_argument("--plot", type=path, metavar="DIR", help="draw a roofline and the ratios into DIR")
    command.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    from numgraph.bench import Request, bench
    from numgraph.bench.report import check_targets, summary, write_json

    asked = {name: getattr(options, name) for name in Request.__dataclass_fields__ if hasattr(options, name)}
    asked["suites"] = (
        (_SUITES if options.device == "cpu" else _SUITES[:2]) if "all" in options.suite else options.suite
    )
    asked["peers"] = () if options.peers == ("none",) else options.peers
    out = output(options)

    def keep(results: dict[str, Any]) -> None:
        """What there is until now: of a run that is ended the rows before stay."""
        if options.json not in (None, STDOUT):
            write_json({"command": options.command, **results}, options.json)

    with refusing():
        check_targets(options.plot)  # before minutes of measuring, not after them
        results = bench(Request(**asked), lambda line: print(line, file=out, flush=True), keep)
        print(f"\n{summary(results)}", file=out)
        if options.plot:
            from numgraph.bench.pictures import draw

            for picture in draw(results, options.plot):
                print(f"plot: {picture}", file=out)
    print_result(options, results)
    return 1 if results["errors"] else 0
