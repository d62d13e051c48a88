"""graph.json: what a dataset on disk consists of, read with no trust in it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from numgraph.data import npy
from numgraph.data.record import TASKS
from numgraph.errors import bad_value, shown
from numgraph.graph.sorting import ids_dtype

ABOUT = "graph.json"
FORMAT, VERSION = "numgraph dataset", 1
LARGEST = 1 << 20
"""Bytes of graph.json, at most: nothing in it grows with the graph."""
EDGE_DATA = re.compile(r"edge_data_([A-Za-z0-9_]{1,100})")
SHA256 = re.compile(r"[0-9a-f]{64}")
DTYPE = re.compile(r"[<|][a-z][0-9]{1,2}")
MOST_AXES = 8
NUMBERS = "biuf"
"""Kinds of dtype that features and data of edges have."""
INT64, BYTES, BOOL = np.dtype("<i8"), np.dtype("u1"), np.dtype(bool)


def said(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {text:.300}"


def damaged(folder: Path, problem: str) -> ValueError:
    return bad_value(
        "open_dataset", f"{folder} is damaged: {problem}", "take another copy, or write it again"
    )


def foreign(folder: Path, problem: str) -> ValueError:
    return bad_value(
        "open_dataset", f"{folder} is no dataset of numgraph: {problem}", "numgraph.data.save writes one"
    )


def read(folder: Path) -> dict[str, Any]:
    """graph.json, with the entries that it must have."""
    if not folder.is_dir():
        raise foreign(folder, "it is no folder")
    try:
        with npy.plain_file(folder / ABOUT) as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        problem = f"{folder} is no dataset of numgraph: there is no {ABOUT}"
        fix = (
            "numgraph.data.save writes one; sets of graphs are read by --task graph or read_tu, triples by "
            "--task triples or load_triples"
        )
        raise bad_value("open_dataset", problem, fix) from None
    except (OSError, ValueError) as error:
        raise foreign(folder, f"{ABOUT}: {said(error)}") from error
    if len(raw) > LARGEST:
        raise foreign(folder, f"{ABOUT} is larger than {LARGEST} bytes")
    try:
        about = json.loads(raw.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise damaged(folder, f"{ABOUT}: {said(error)}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise foreign(folder, f'{ABOUT} does not say "format": "{FORMAT}"')
    if type(about.get("version")) is not int or about["version"] != VERSION:
        problem = (
            f"{folder} has version {shown(about.get('version'))} of the format, this numgraph reads {VERSION}"
        )
        raise bad_value("open_dataset", problem, "write it again, or open it with the numgraph that wrote it")
    _check_entries(folder, about)
    return about


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands there twice")
    return made


def _check_entries(folder: Path, about: dict[str, Any]) -> None:
    """The types of graph.json's entries, that none is missing and none is more than those."""
    kinds: dict[str, type] = dict.fromkeys(
        ("version", "num_nodes", "num_edges", "num_features", "num_classes"), int
    )
    kinds |= {"format": str, "name": str, "task": str, "label_scale": list, "arrays": dict}
    for name in kinds | about:
        if name not in about or name not in kinds:
            raise damaged(
                folder, f"{ABOUT} has {'no' if name in kinds else 'the unknown entry'} {shown(name)}"
            )
        value: Any = about[name]
        if type(value) is not kinds[name] or (isinstance(value, int) and not 0 <= value < 2**62):
            raise damaged(folder, f"{ABOUT}: {name} is {shown(value)}")
    if about["task"] not in TASKS:
        raise damaged(folder, f"{ABOUT}: task is {shown(about['task'])}")
    scale = about["label_scale"]
    if len(scale) != 2 or not all(type(one) in (int, float) and abs(one) < math.inf for one in scale):
        raise damaged(folder, f"{ABOUT}: label_scale is {shown(scale)}")
    for name, entry in about["arrays"].items():
        fits = isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "sha256"}
        fits = fits and isinstance(entry["dtype"], str) and DTYPE.fullmatch(entry["dtype"]) is not None
        fits = fits and isinstance(entry["sha256"], str) and SHA256.fullmatch(entry["sha256"]) is not None
        fits = fits and isinstance(entry["shape"], list) and 1 <= len(entry["shape"]) <= MOST_AXES
        if (
            not fits
            or not all(type(n) is int and 0 <= n < 2**62 for n in entry["shape"])
            or math.prod(entry["shape"]) >= 2**59
        ):
            raise damaged(folder, f"{ABOUT}: the array {shown(name)} is {shown(entry)}")


def layout(folder: Path, about: dict[str, Any]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """dtype and shape of each array; that they fit the numbers of nodes and edges, and that those are there
    which belong together.
    """
    nodes, edges, features = about["num_nodes"], about["num_edges"], about["num_features"]
    node_ids, positions = ids_dtype(nodes), ids_dtype(nodes, edges)
    found = {}
    for name, entry in about["arrays"].items():
        try:
            dtype = np.dtype(entry["dtype"])
        except TypeError as error:
            raise damaged(folder, f"{ABOUT}: the array {name} has dtype {entry['dtype']!r}") from error
        found[name] = dtype, tuple(entry["shape"])
    entries = found["features_data"][1][0] if "features_data" in found else 0
    label = INT64 if about["task"] == "classification" else np.dtype("<f4")
    exact: dict[str, tuple[np.dtype[Any] | None, tuple[int | None, ...]]] = {
        **dict.fromkeys(("src", "dst", "in_indices", "out_indices"), (node_ids, (edges,))),
        **dict.fromkeys(("in_edge_ids", "out_edge_ids"), (positions, (edges,))),
        **dict.fromkeys(("in_indptr", "out_indptr", "features_indptr"), (INT64, (nodes + 1,))),
        **dict.fromkeys(("train_mask", "val_mask", "test_mask"), (BOOL, (nodes,))),
        "labels": (label, (nodes,)),
        "features": (None, (nodes, features)),
        "features_data": (None, (entries,)),
        "features_indices": (INT64, (entries,)),
        "names": (INT64, (nodes,)),
        "names_ends": (INT64, (nodes,)),
        "names_text": (BYTES, (None,)),
        "columns": (BYTES, (None,)),
    }
    for name, (dtype, shape) in found.items():
        free = name == "edge_weight" or EDGE_DATA.fullmatch(name) is not None
        if name not in exact and not free:
            raise damaged(folder, f"{ABOUT} has an array {shown(name)}, which no dataset has")
        wanted, lengths = (None, (edges, *shape[1:])) if free else exact[name]
        fits = dtype.kind in NUMBERS and dtype.itemsize <= 8 if wanted is None else dtype == wanted
        if (
            not fits
            or len(shape) != len(lengths)
            or any(n is not None and n != m for n, m in zip(lengths, shape, strict=True))
        ):
            numbers = f"num_nodes {nodes}, num_edges {edges}, num_features {features}, task {about['task']}"
            raise damaged(
                folder,
                f"{ABOUT}: {name} has dtype {dtype} and shape {list(shape)}, which does not fit {numbers}",
            )
    needed = {"src", "dst", "in_indptr", "out_indptr", "labels", "train_mask", "val_mask", "test_mask"}
    sparse = {"features_data", "features_indices", "features_indptr"}
    needed |= sparse if found.keys() & sparse else {"features"}
    for some in (
        {"in_indices", "in_edge_ids"},
        {"out_indices", "out_edge_ids"},
        {"names_text", "names_ends"},
    ):
        needed |= some if found.keys() & some else set()
    if absent := sorted(needed - found.keys()):
        raise damaged(folder, f"{ABOUT} has no array {absent[0]}")
    return found
