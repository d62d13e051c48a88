"""``numgraph explain``: the tape of a training step, or of a message that is written on the command line, as
text and as a page.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from numgraph.cli.options import STDOUT, Refused, add_json, check_file, path, print_result, refusing
from numgraph.cli.train import chosen_by
from numgraph.cli.train_options import add_model_options

if TYPE_CHECKING:
    from numgraph import Tape

FEATURES, EDGE_FEATURES = (3,), (1,)
"""Shapes of fields that --field does not name: of nodes and of edges."""


_OF_MODEL = ("dataset", "data", "data_dir", "model", "hidden", "layers", "heads", "dropout", "seed")


def add_explain(commands: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="the tape of one training step, or of a message: each record, and how its gradient is computed",
        description="Print the tape of one training step: each record, and which kernel replays it, on the "
        "graph or on the reversed graph.",
    )
    add_model_options(command, "karate")
    command.set_defaults(model=None, seed=None)  # what is given is told from what is not
    command.add_argument(
        "--kernel",
        action="store_true",
        help="also how each kernel runs: what it loops over, what is in lanes",
    )
    command.add_argument(
        "--html",
        type=path,
        metavar="FILE",
        help="write a page with pictures instead: walks, gradients, matrices, schedules",
    )
    add_json(command)
    own = command.add_argument_group(
        "a message of your own", 'in place of a model, as in --message "relu(u.x - v.x) * e.w"'
    )
    own.add_argument(
        "--message",
        metavar="TEXT",
        help="an expression of u, v and e in Python, with np, ng and the functions of numgraph",
    )
    own.add_argument(
        "--reduce", default=None, metavar="NAME", help="of update_all (default sum); edge for apply_edges"
    )
    own.add_argument(
        "--field",
        action="append",
        default=[],
        type=_field,
        metavar="U.X=SHAPE",
        help="as u.h=2,4 (default 3, of edges 1)",
    )
    command.set_defaults(run=_explain, edges=None)


def _field(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, shape = text.partition("=")
    sizes = [size for size in shape.split(",") if size]
    if (
        name[:2] not in ("u.", "v.", "e.")
        or not name[2:].isidentifier()
        or not all(size.isdigit() and int(size) for size in sizes)
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is no field with its shape, as u.h=2,4 or e.w=1")
    return name, tuple(map(int, sizes))


def _explain(options: argparse.Namespace) -> int:
    if options.message is None and (options.reduce or options.field):
        raise Refused("--reduce and --field belong to --message; give one, as in --message 'u.x * e.w'")
    if options.message is not None and (
        given := [name for name in _OF_MODEL if getattr(options, name) is not None]
    ):
        told = f"--{given[0].replace('_', '-')} is of a model's training"
        raise Refused(f"{told}, and --message stands in its place; leave one out")
    options.model, options.seed = options.model or "gcn", options.seed or 0
    if options.html is not None:
        check_file("--html", options.html)
    if options.message is None:
        tape, about = _of_model(options)
    else:
        tape = _of_message(options.message, options.reduce or "sum", dict(options.field))
        about = {"message": options.message, "reduce": options.reduce or "sum"}
    if options.html is not None:
        with refusing():
            tape.explain(html=options.html)
    if options.json != STDOUT:
        print(tape.explain(kernel=options.kernel) if options.html is None else f"wrote {options.html}")
    print_result(options, {**about, "records": tape._explained(options.kernel), "html": options.html})
    return 0


def _of_model(options: argparse.Namespace) -> tuple[Tape, dict[str, Any]]:
    """One step of the training of a model, and which."""
    import numpy as np

    from numgraph.autodiff.tape import Tape
    from numgraph.training.objectives import objective_of
    from numgraph.training.recipes import build

    chosen, dataset, _ = chosen_by(options)
    model, _ = build(chosen, dataset, options.seed)
    objective = objective_of("explain", dataset)
    with Tape() as tape:
        objective.loss(model, np.random.default_rng(options.seed))
    return tape, {
        "dataset": objective.data.name,
        "model": chosen.model,
    }  # not replayed: its records keep the graph, on which the schedules depend


def _of_message(text: str, reduce: str, shapes: dict[str, tuple[int, ...]]) -> Tape:
    """A message on a graph of four nodes, whose fields are random numbers away from 0."""
    import numpy as np

    import numgraph as ng

    message, fields = _message(text)
    unread = sorted(set(shapes) - {f"{target}.{name}" for target, names in fields.items() for name in names})
    if unread:
        raise Refused(f"--field names {unread[0]}, which the message does not read")
    graph = ng.Graph([0, 0, 1, 3, 2, 1], [1, 2, 2, 2, 0, 3], 4)
    rng = np.random.default_rng(0)
    given: dict[str, dict[str, Any]] = {"u": {}, "v": {}, "e": {}}
    with refusing((ValueError, TypeError, AttributeError)), _named(), ng.Tape() as tape:
        for target, names in fields.items():
            for name in names:
                shape = shapes.get(f"{target}.{name}", EDGE_FEATURES if target == "e" else FEATURES)
                rows = graph.num_edges if target == "e" else graph.num_nodes
                given[target][name] = tape.watch(rng.uniform(0.5, 1.5, (rows, *shape)))
        if reduce == "edge":
            ng.apply_edges(graph, message, **given)
        else:
            ng.update_all(graph, message, reduce, **given)
    return tape


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """A name that the message does not have is told with those that it has."""
    try:
        yield
    except NameError as error:
        import numpy as np

        known = f"; write np.{error.name}" if hasattr(np, error.name or "") else ""
        raise Refused(
            f"--message: {error}; it has u, v, e, np, ng and the functions of numgraph{known}"
        ) from None


def _message(text: str) -> tuple[Callable[..., Any], dict[str, list[str]]]:
    """The function that a text is, and the fields that it reads, by u, v and e."""
    import numpy as np

    import numgraph as ng

    try:
        body: Any = ast.parse(text.strip(), "--message", "eval").body
    except SyntaxError as error:
        raise Refused(f"--message is no expression of Python: {error.msg}; write it as u.x * e.w") from None
    found: dict[str, list[str]] = {}
    for node in ast.walk(body):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("u", "v", "e")
        ):
            names = found.setdefault(node.value.id, [])
            if node.attr not in names:
                names.append(node.attr)
    if not found:
        raise Refused("--message reads no field of u, v or e; write it as u.x * e.w")
    known = {name: getattr(ng, name) for name in ng.__all__} | {"np": np, "ng": ng}
    source = (
        text.strip()
        if isinstance(body, ast.Lambda)
        else f"lambda {', '.join(sorted(found))}: ({text.strip()})"
    )
    return eval(source, known), found  # what whoever types the command wants to run
