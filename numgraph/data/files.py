"""Tables in files, read by pyarrow (the extra ``tables``): CSV, TSV, Parquet and Arrow, and tables that are
in memory already.

What is wrong in a file is an error that names the file, the line and the value.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, did_you_mean, missing, shown
from numgraph.runtime import atomic

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_COLUMNAR = (".parquet", ".pq", ".arrow", ".feather")
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")

Types = Callable[[list[str]], Mapping[str, Any]]
"""From the names of a file's columns to the Arrow types of those that are read."""


class Names(Sequence[str]):
    """Names of nodes by id, kept as Arrow keeps text: ``names[3]``, ``list(names)``,
    ``names.index("ann")``.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Names: ...

    def __getitem__(self, place: int | slice) -> str | Names:
        return Names(self.array[place]) if isinstance(place, slice) else str(self.array[place].as_py())

    def __iter__(self) -> Iterator[str]:
        return iter(self.array.to_pylist())

    def __repr__(self) -> str:
        return f"Names({shown(list(self[:3]))[1:-1]}{', …' if len(self) > 3 else ''}: {len(self):,} nodes)"


class Source:
    """A table with the words that messages have for its rows and columns.

    Attributes
    ----------
    name : the file's path, or "the table of nodes"
    table : pyarrow.Table, its columns in the file's order
    columns, rows : the names of the columns, the number of rows
    """

    def __init__(self, name: str, table: Any, path: str | None = None) -> None:
        self.name, self.table, self._path = name, table, path
        self.columns, self.rows = list(table.column_names), table.num_rows
        self._one_line_a_row: bool | None = None

    def forget(self, columns: Sequence[str]) -> None:
        """Let the values of columns go; their names stay known."""
        self.table = self.table.drop_columns(list(columns))

    def at(self, row: int, column: str | None = None) -> str:
        """Where a row is: "nodes.csv, line 7, column 'age'"; rows of what is no text file count from 0."""
        where = f"row {row}" if self._path is None else f"line {self._line(row)}"
        return f"{self.name}, {where}" + ("" if column is None else f", column {column!r}")

    def _line(self, row: int) -> int:
        assert self._path is not None
        if self._one_line_a_row is None:
            self._one_line_a_row = _count_lines(self._path) <= self.rows + 1
        return row + 2 if self._one_line_a_row else line_of(self._path, row)[0]

    def column(self, op: str, name: str, what: str) -> Any:
        """The column of a name, in one piece; an error with the name that is near where there is none."""
        if name not in self.columns:
            fix = f"it has {', '.join(map(repr, self.columns[:40]))}{did_you_mean(name, self.columns)}"
            raise bad_value(
                op,
                f"{self.name} has no column {name!r} for the {what}"
                if what != "column"
                else f"{self.name} has no column {name!r}",
                fix,
            )
        return self.table[name].combine_chunks()


def arrow(op: str) -> Any:
    """pyarrow, or an error that says how to get it."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise missing(
            op, "tables are read by the package pyarrow", "pip install 'numgraph[tables]'"
        ) from None
    return pyarrow


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The extension that tells the format, in small letters; that of a compressed file is the one before."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return (
        suffixes[-2]
        if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED
        else suffixes[-1]
        if suffixes
        else ""
    )


def read(op: str, what: str, given: Any, types: Types) -> Source:
    """A file by its extension, or a table in memory (pandas, Polars, Arrow, a dict of columns).

    types: the columns that are wanted and the types in which they are read; others are left out.
    """
    pa = arrow(op)
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if not os.path.exists(path):
            raise FileNotFoundError(f"{op}: there is no file {path}; give the path of the {what}")
        if suffix_of(path) in SEPARATORS:
            return _text_file(op, path, types)
        if suffix_of(path) not in _COLUMNAR:
            fix = f"give a file of {', '.join((*SEPARATORS, *_COLUMNAR))}"
            raise bad_value(op, f"{path} has the extension {suffix_of(path)!r}, which is no table's", fix)
        name, table = path, _columnar_file(op, path)
    else:
        name, table = f"the table of {what}", _in_memory(op, what, given)
    wanted = types(_distinct(op, name, table.column_names))
    columns = {}
    for column, kind in wanted.items():
        try:
            columns[column] = _cast(pa, table[column], kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise bad_value(
                op, f"{name}, column {column!r}: {error!s:.200}", f"it is {table[column].type}, give {kind}"
            ) from error
    return Source(name, pa.table(columns))


def _cast(pa: Any, column: Any, kind: Any) -> Any:
    """A column of another type; whole floats become the text of integers, as 3.0 is a name or a class 3."""
    if pa.types.is_string(kind) and pa.types.is_floating(column.type):
        import pyarrow.compute as pc

        if pc.all(
            pc.or_kleene(pc.equal(pc.floor(column), column), pc.is_null(column, nan_is_null=True))
        ).as_py():
            column = pc.if_else(pc.is_nan(column), None, column).cast(pa.int64(), safe=False)
    return column.cast(kind)


def _in_memory(op: str, what: str, given: Any) -> Any:
    pa = arrow(op)
    if isinstance(given, pa.Table):
        return given
    try:
        if isinstance(given, Mapping):
            return pa.table({name: pa.array(values) for name, values in given.items()})
        if type(given).__module__.split(".")[0] == "pandas":
            return pa.Table.from_pandas(given, preserve_index=False)
        if hasattr(type(given), "__arrow_c_stream__"):
            return pa.table(given)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise bad_value(
            op, f"the table of {what} cannot be read: {error!s:.300}", "a column has values of one kind"
        ) from error
    raise bad_type(
        op,
        f"{what} is {kind_of(given)}",
        "give the path of a file, or a table of pandas, Polars or Arrow, or a dict of columns",
    )


def _columnar_file(op: str, path: str) -> Any:
    pa = arrow(op)
    try:
        if suffix_of(path) in (".parquet", ".pq"):
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path)
        import pyarrow.feather

        return pyarrow.feather.read_table(path)
    except (pa.ArrowException, OSError) as error:
        size = os.path.getsize(path)
        raise bad_value(
            op, f"{path} ({size} bytes) is damaged: {error!s:.200}", "take another copy of it"
        ) from error


def _distinct(op: str, name: str, columns: Sequence[str]) -> list[str]:
    twice = [column for i, column in enumerate(columns) if column in columns[:i]]
    if twice:
        raise bad_value(op, f"{name} has two columns {twice[0]!r}", "rename one")
    return list(columns)


def _text_file(op: str, path: str, types: Types) -> Source:
    """The wanted columns of a CSV or TSV file, parsed on all threads.

    Where that fails the file is parsed again on one thread, which knows the rows that it is in, and texts
    that run over several lines."""
    pa = arrow(op)
    import pyarrow.csv

    parse = pyarrow.csv.ParseOptions(delimiter=SEPARATORS[suffix_of(path)])
    try:
        with pyarrow.csv.open_csv(path, parse_options=parse) as reader:
            header = reader.schema.names
    except UnicodeDecodeError as error:
        raise bad_value(op, f"{path}, line 1 is no text in UTF-8: {error}", "save it as UTF-8") from error
    except (pa.ArrowException, OSError) as error:
        header = _header(op, path, error)
        if "Empty" in str(error):  # a first line that does not end
            kinds = types(_distinct(op, path, header))
            return Source(
                path, pa.table({column: pa.array([], kind) for column, kind in kinds.items()}), path
            )
    _check_separator(op, path, header)
    wanted = types(_distinct(op, path, header))
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict(wanted),
        include_columns=list(wanted),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    try:
        table = pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError):
        parse.newlines_in_values = True
        try:
            one_thread = pyarrow.csv.ReadOptions(use_threads=False)
            table = pyarrow.csv.read_csv(
                path, read_options=one_thread, parse_options=parse, convert_options=convert
            )
        except (pa.ArrowException, OSError) as error:
            raise _explained(op, path, str(error)) from error
    return Source(path, table, path)


def _check_separator(op: str, path: str, header: Sequence[str]) -> None:
    """An error where the first line is one column because its columns stand between other characters."""
    used = SEPARATORS[suffix_of(path)]
    other = next((one for one in "\t;|," if one != used and len(header) == 1 and one in header[0]), None)
    if other is not None:
        names = {"\t": "tabs", ",": "commas"}
        fix = {"\t": "name it .tsv", ",": "name it .csv"}.get(
            other, f"save it with {names[used]}, or give pandas.read_csv(path, sep={other!r})"
        )
        fix = f"there are {names.get(other, repr(other))} between its values, not {names[used]}: {fix}"
        raise bad_value(op, f"{path} has one column, {shown(header[0])}", fix)


def _header(op: str, path: str, error: Exception) -> list[str]:
    """The first line of a file, whose other lines are no table or no text; the error's own words where that
    fails too.
    """
    try:
        columns = line_of(path, -1)[1]
    except (StopIteration, OSError, EOFError, csv.Error):
        columns = []
    if "Empty" in str(error) and not any(column.strip() for column in columns):
        raise bad_value(op, f"{path} is empty", "its first line has the names of the columns") from error
    if not columns:
        raise _explained(op, path, str(error)) from error
    if any("\\x" in column for column in columns):
        raise bad_value(op, f"{path}, line 1 is no text in UTF-8", "save it as UTF-8") from error
    return columns


def _explained(op: str, path: str, problem: str) -> ValueError:
    """An error of pyarrow's with the line and the value."""
    found = re.match(
        r"(?:In CSV column #(\d+): )?(?:CSV parse error: )?Row #(\d+): (?:CSV conversion error )?(.*)",
        problem,
        re.S,
    )
    if found is None:
        return bad_value(
            op,
            f"{path} cannot be read: {problem:.200}",
            "its lines are values between commas, or tabs in .tsv",
        )
    column, row, problem = found.groups()
    try:
        line, values = line_of(path, int(row) - 2)
    except (StopIteration, csv.Error):
        line, values = int(row), []
    where = f"{path}, line {line}"
    if column is None:
        expected = re.match(r"Expected (\d+) columns, got (\d+)", problem)
        problem = f"{expected[2]} values, the first line has {expected[1]}" if expected else problem
        return bad_value(
            op,
            f"{where}: {problem}",
            "give a value for each column; texts with separators stand in double quotes",
        )
    place = int(column)
    value = f"'{values[place]:.100}'" if place < len(values) else "a value"
    name = repr(line_of(path, -1)[1][place])
    if "invalid UTF8" in problem:
        return bad_value(op, f"{where}, column {name}: {value} is no text in UTF-8", "save the file as UTF-8")
    return bad_value(
        op,
        f"{where}, column {name}: {value} is no number" if "double" in problem else f"{where}: {problem}",
        "correct it",
    )


def _count_lines(path: str) -> int:
    """How many lines a file has, the last one also where it does not end with a line feed."""
    import pyarrow

    count, last = 0, b"\n"
    with pyarrow.input_stream(path) as raw:
        while part := raw.read(1 << 24):
            count, last = count + part.count(b"\n"), part[-1:]
    return count + (last != b"\n")


def line_of(path: str, row: int) -> tuple[int, list[str]]:
    """The line of a file, from 1, at which a row begins, and its values; row −1 is the header. Lines without
    a value are no rows.
    """
    import pyarrow

    with (
        pyarrow.input_stream(path) as raw,
        io.TextIOWrapper(raw, "utf-8-sig", errors="backslashreplace", newline="") as text,
    ):
        reader = csv.reader(text, delimiter=SEPARATORS[suffix_of(path)])
        line = 1
        for values in reader:
            if values and row < 0:
                return line, values
            row -= bool(values)
            line = reader.line_num + 1
    raise StopIteration


def check_table(op: str, path: str | os.PathLike[str]) -> None:
    """An error if a table cannot be written to ``path``: its extension, its folder, pyarrow."""
    arrow(op)
    if Path(path).suffix.lower() not in (*SEPARATORS, *_COLUMNAR):
        raise bad_value(
            op,
            f"{path} has the extension {Path(path).suffix!r}",
            f"give one of {', '.join((*SEPARATORS, *_COLUMNAR))}",
        )
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{op}: {path}: there is no folder {folder}; make it first")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{op}: {path} is a folder; give the name of a file")


def write_table(op: str, path: str | os.PathLike[str], columns: Mapping[str, Any]) -> None:
    """Write columns to a file in the format of its extension, in one step: a crash leaves the old file as it
    was.
    """
    check_table(op, path)
    pa = arrow(op)
    table = pa.table(
        {name: values.array if isinstance(values, Names) else values for name, values in columns.items()}
    )
    suffix = Path(path).suffix.lower()

    def fill(file: Any) -> None:
        if suffix in SEPARATORS:
            import pyarrow.csv

            pyarrow.csv.write_csv(
                table, file, pyarrow.csv.WriteOptions(delimiter=SEPARATORS[suffix], quoting_style="needed")
            )
        elif suffix in (".parquet", ".pq"):
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, file)
        else:
            import pyarrow.feather

            pyarrow.feather.write_feather(table, file)

    atomic.write(path, fill)
