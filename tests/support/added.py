"""What a test adds by numgraph.extend is gone after it: other tests enumerate the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from numgraph.autodiff import rules
from numgraph.compiler import reduces as steps
from numgraph.expressions import elementary, reduces


@contextmanager
def taken_back() -> Iterator[None]:
    tables = [elementary.TABLE, elementary.BY_FUNCTION, reduces.REDUCES, steps.REDUCES, rules.RULES]
    before, names = [dict(table) for table in tables], list(reduces.NAMES)
    try:
        yield
    finally:
        for table, entries in zip(tables, before):
            table.clear()
            table.update(entries)
        reduces.NAMES[:] = names
