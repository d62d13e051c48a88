"""``numgraph partition``: a dataset as shards, one for each process of a training by MPI."""

from __future__ import annotations

import argparse
from typing import Any

from numgraph.cli.options import Refused, add_json, output, path, positive, print_result, refusing
from numgraph.cli.train_options import DATASETS


def add_partition(commands: Any) -> None:
    command = commands.add_parser(
        "partition",
        help="write a dataset as shards, for a training on several machines",
        description="Write a dataset as shards: a folder for each part, which the process that trains with "
        "it opens alone.",
    )
    command.add_argument(
        "--parts", type=positive, required=True, metavar="N", help="how many: one for each process"
    )
    command.add_argument(
        "--out", type=path, required=True, metavar="FOLDER", help="what is made; it must not be there"
    )
    command.add_argument(
        "--method",
        choices=("metis", "random"),
        default="metis",
        help="default metis, which needs pymetis (extra mpi)",
    )
    command.add_argument(
        "--objective", choices=("cut", "volume"), default="cut", help="of METIS (default cut)"
    )
    add_json(command)
    given = command.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--data", type=path, metavar="FOLDER", help="a dataset that numgraph.data.save or GraphWriter wrote"
    )
    given.add_argument("--dataset", choices=DATASETS, help="one by name")
    command.add_argument("--data-dir", type=path, metavar="DIR", help="of --dataset, as for train")
    command.set_defaults(run=_partition)


def _partition(options: argparse.Namespace) -> int:
    import numgraph.data
    from numgraph.distributed import write_shards

    data: Any = numgraph.data
    with refusing():
        dataset = (
            data.open_dataset(options.data) if options.data else data.load(options.dataset, options.data_dir)
        )
        if options.parts > dataset.num_nodes:
            raise Refused(
                f"--parts is {options.parts}, and there are {dataset.num_nodes} nodes; a part needs one"
            )
        ghosts = write_shards(
            options.out, dataset, options.parts, method=options.method, objective=options.objective
        )
    share = ghosts.sum() / max(dataset.num_nodes, 1)
    print(
        f"{options.out}: {options.parts} parts of {dataset.num_nodes:,} nodes; {ghosts.sum():,} ghosts, "
        f"{share:.3g} for each node: "
        "the rows of an exchange",
        file=output(options),
    )
    facts = {
        "parts": options.parts,
        "num_nodes": dataset.num_nodes,
        "num_edges": dataset.graph.num_edges,
        "ghosts": ghosts.tolist(),
    }
    print_result(options, {"out": options.out, **facts, "ghosts_per_node": float(share)})
    return 0
