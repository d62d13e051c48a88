"""What the commands' options are made of, and errors that end a command with one line."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from numgraph.errors import did_you_mean

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
STDOUT = "-"
"""The FILE of ``--json`` where it is given none."""
DEVICES = ("cpu", "cuda")


class Refused(Exception):
    """What the user asked for cannot be done; its text is the whole message."""


@contextlib.contextmanager
def refusing(
    kinds: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, ImportError),
) -> Iterator[None]:
    """Errors that speak to the user (by default: a file or package that is missing, a bad value) end the
    command with their text alone.
    """
    try:
        yield
    except kinds as error:
        raise Refused(str(error)) from error


@contextlib.contextmanager
def noted(command: str) -> Iterator[None]:
    """Warnings about the user's data become lines on stderr, without Python's place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        show = warnings.showwarning

        def line(message: Any, category: Any, *place: Any, **more: Any) -> None:
            if issubclass(category, UserWarning):
                print(f"numgraph {command}: warning: {message}", file=sys.stderr, flush=True)
            else:
                show(message, category, *place, **more)

        warnings.showwarning = line
        yield


def add_json(command: argparse.ArgumentParser) -> None:
    """The option of every command, by which its result is one JSON object."""
    told = (
        "the result as one JSON line, the last on stdout, where all others go to stderr; or written to FILE"
    )
    command.add_argument("--json", nargs="?", const=STDOUT, type=path, metavar="FILE", help=told)


def output(options: argparse.Namespace) -> TextIO:
    """Where lines for people go."""
    return sys.stderr if options.json == STDOUT else sys.stdout


def check_json(options: argparse.Namespace) -> None:
    """An error if the FILE of ``--json`` could not be written, before the work and not after it."""
    if options.json not in (None, STDOUT):
        check_file("--json", options.json)


def check_file(option: str, file: str) -> None:
    """An error if the FILE of an option could not be written, for there is no folder for it, or it is one."""
    folder = os.path.dirname(os.path.abspath(file))
    if os.path.isdir(file):
        raise Refused(f"{option} {file} is a folder; give the name of a file")
    if not os.path.isdir(folder):
        raise Refused(f"{option} {file}: there is no folder {folder}; make it first")


def print_result(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """What ``--json`` asks for, if it was given: an object that begins with the command, and has null for
    numbers that are none.
    """
    if options.json is None:
        return
    line = json.dumps(_finite({"command": options.command, **result}), allow_nan=False)
    if options.json == STDOUT:
        print(line, flush=True)
    else:
        from numgraph.runtime import atomic

        with refusing():
            atomic.write(options.json, f"{line}\n".encode())
        print(f"result: {options.json}")


def _finite(value: Any) -> Any:
    """The same with None in place of NaN and infinities, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Parser(argparse.ArgumentParser):
    """Errors are one line that names what is near to a word that is unknown, and the command whose help tells
    more.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._negative_number_matcher = re.compile(
            r"-\d[-\d.,]*$"
        )  # what is a value, and no option: several numbers too, as -1,10

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def parsed(self, words: Sequence[str] | None) -> argparse.Namespace:
        """The options of a command; words that no option takes are an error of the command that they were
        given to.
        """
        options, unknown = self.parse_known_args(words)
        if unknown:
            subparsers = next(
                action for action in self._actions if isinstance(action, argparse._SubParsersAction)
            )
            command: argparse.ArgumentParser = subparsers.choices[options.command]
            near = (
                did_you_mean(unknown[0].partition("=")[0], command._option_string_actions)
                if unknown[0].startswith("-")
                else ""
            )
            command.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}, choose from {', '.join(map(str, action.choices))}{near}"
            )


def number(kind: type, low: float, high: float, *, open_high: bool = False) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        problem = (
            f"is not a {'whole ' if kind is int else ''}number"
            if math.isnan(value)
            else f"must be at least {low}"
            if value < low
            else f"must be {'below' if open_high else 'at most'} {high}"
            if value > high or (open_high and value == high)
            else None
        )
        if problem is not None:
            raise argparse.ArgumentTypeError(f"{text!r} {problem}")
        return value

    return parse


def path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def counts(text: str) -> tuple[int, ...]:
    return tuple(positive(one) for one in names(text))


def fanouts(text: str) -> tuple[int, ...]:
    return tuple(fanout(one) for one in names(text))


_INF = float("inf")
positive, natural, fanout = number(int, 1, 10**9), number(int, 0, 2**32 - 1), number(int, -1, 2**31 - 1)
rate, share = number(float, 0, _INF, open_high=True), number(float, 0, 1, open_high=True)
