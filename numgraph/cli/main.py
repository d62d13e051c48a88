"""The command line: ``numgraph train | predict | explain | partition | bench | info``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from numgraph import __version__
from numgraph.cli.bench import add_bench
from numgraph.cli.explain import add_explain
from numgraph.cli.options import INTERRUPTED, STDOUT, Parser, Refused, add_json, check_json, print_result
from numgraph.cli.partition import add_partition
from numgraph.cli.predict import add_predict
from numgraph.cli.shared import run_train
from numgraph.cli.train_options import add_train


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 cannot be done, 2 a bad option, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # formulas have letters that an ASCII terminal has not
            stream.reconfigure(errors="replace")
    options = _parser().parsed(argv)
    try:
        check_json(options)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except Refused as error:
        print(f"numgraph {options.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"numgraph {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"numgraph {options.command}: error: there is not enough memory ({error})", file=sys.stderr)
        return 1
    except OSError as error:  # stdout cannot be written; Python would complain once more when it closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whose reader has left
            print(f"numgraph {options.command}: error: {error}", file=sys.stderr)
        return 1


def _parser() -> Parser:
    parser = Parser(prog="numgraph", description="Message passing on graphs for NumPy.")
    parser.add_argument("--version", action="version", version=f"numgraph {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train|predict|explain|partition|bench|info"
    )
    add_train(commands, run_train)
    add_predict(commands)
    add_explain(commands)
    add_partition(commands)
    add_bench(commands)
    command = commands.add_parser("info", help="versions, threads, threading layer, cache folders, devices")
    add_json(command)
    command.set_defaults(run=_info)
    return parser


def _info(options: argparse.Namespace) -> int:
    from numgraph.info import describe, info

    facts = info()
    if options.json != STDOUT:
        print(describe(facts))
    print_result(options, facts)
    return 0
