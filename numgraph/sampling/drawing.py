"""The kernels of a hop: which in-edges of each node are drawn, and the numbers of their sources in the batch.

All are serial and release the GIL. What is drawn for a node depends on the key and the node alone.
"""

from __future__ import annotations

import numpy as np

from numgraph.runtime.compiling import njit
from numgraph.sampling.memory import ask, ask_near
from numgraph.sampling.random import below, below_short, state_of, unit

_AHEAD = 16
"""Nodes, and _AHEAD_IDS edges, whose memory is asked for before it is read: a line from DRAM takes as long as
they do. The edges' go into the second cache, which waits for more lines at once than the first: half the
time, if as many are asked for."""
_AHEAD_IDS = 96
_SHORT = 2**32 - 1
"""Numbers below which ``below_short`` gives."""
_ONE, _SLOTS = np.uint64(1), np.uint64(63)
_RARE = 4
"""In rows that are so many times as long as what is drawn, a banned edge is seldom drawn: no need to look at
all for it.
"""
_TRIES = 8
_PAGE, _PAGES = 512, 4
"""Ids that fit into a page whatever their dtype, and pages of a node that are read before it is known what is
drawn.
"""
_FEW = 64
"""Draws up to which, and up to twice the root of the degree, each is compared with those before; above, every
edge is looked at.
"""


@njit()
def begin(table, stamp, seeds, nodes):
    """Number the seeds; the position of the first one that was there before, or -1."""
    for i in range(len(seeds)):
        node = seeds[i]
        if (table[node] >> 32) == stamp:
            return i
        table[node] = (stamp << 32) | i
        nodes[i] = node
    return -1


@njit()
def measure(indptr, nodes, fanout, replace, plan):
    """plan: the most edges that can be drawn, and the largest degree."""
    total, largest = np.int64(0), np.int64(0)
    for i in range(len(nodes)):
        if i + _AHEAD < len(nodes):
            ask(indptr, np.int64(nodes[i + _AHEAD]))
        node = nodes[i]
        degree = np.int64(indptr[node + 1] - indptr[node])
        largest = degree if degree > largest else largest
        if fanout < 0 or (degree < fanout and not replace):
            total += degree
        elif degree > 0:
            total += fanout
    plan[0], plan[1] = total, largest


@njit()
def touch(indptr, indices, nodes, first, last):
    """Have the pages of these nodes' in-edges read, a few of a node that has many; the sum of what was read,
    so that it is.
    """
    total = np.int64(0)
    for i in range(first, last):
        start, stop = np.int64(indptr[nodes[i]]), np.int64(indptr[nodes[i] + 1])
        for position in range(start, min(stop, start + _PAGES * _PAGE), _PAGE):
            total += indices[position]
        if stop > start:
            total += indices[stop - 1]
    return total


@njit()
def draw(
    indptr,
    indices,
    weights,
    banned_rows,
    banned,
    largest,
    fanout,
    replace,
    key,
    nodes,
    starts,
    sources,
    positions,
):
    """Draw up to fanout in-edges of each node, all for -1; how many there are; sources are as the file or
    array has them, see ``relabel``.

    weights: by position, or empty. banned: sources that are not drawn by the node at the same place of
    banned_rows; sorted by both. starts: first edge of each node. sources, positions: of each edge.
    """
    weighted, limited = len(weights) > 0, len(banned_rows) > 0
    allowed = np.empty(largest if weighted or limited else 0, np.int64)
    values = np.empty(largest if weighted else 0, np.float64)
    arrivals = np.empty(max(fanout, 0) if weighted else 0, np.float64)
    place = 0
    for i in range(len(nodes)):
        if i + _AHEAD < len(nodes):
            ask(indptr, np.int64(nodes[i + _AHEAD]))
        node = nodes[i]
        start, stop = np.int64(indptr[node]), np.int64(indptr[node + 1])
        count, first = stop - start, place
        starts[i] = place
        filtered = weighted
        if limited:
            low = np.searchsorted(banned_rows, node)
            high = np.searchsorted(banned_rows, node, "right")
            if low < high:
                filtered = True
                if not weighted and fanout >= 0 and count > _FEW and _RARE * fanout <= count:
                    after = _without_banned(
                        state_of(key, node),
                        indices,
                        start,
                        count,
                        fanout,
                        replace,
                        banned,
                        low,
                        high,
                        positions,
                        place,
                    )
                    if after >= 0:
                        for k in range(place, after):
                            positions[k] += start
                        place = after
                        continue
        if filtered:
            count = np.int64(0)
            for position in range(start, stop):
                if weighted and not weights[position] > 0:
                    continue
                if limited and is_among(banned, low, high, indices[position]):
                    continue
                allowed[count] = position
                if weighted:
                    values[count] = weights[position]
                count += 1
        if fanout < 0 or (count <= fanout and not replace) or count == 0:
            for k in range(count):
                positions[place] = k
                place += 1
        elif weighted and replace:
            place = _weighted_with(state_of(key, node), values, count, fanout, positions, place)
        elif weighted:
            place = _weighted_without(state_of(key, node), values, count, fanout, arrivals, positions, place)
        elif replace:
            state = state_of(key, node)
            for k in range(fanout):
                positions[place] = below(state, k, count)
                place += 1
        else:
            place = _without(state_of(key, node), count, fanout, positions, place)
        for k in range(first, place):
            positions[k] = allowed[positions[k]] if filtered else start + positions[k]
    starts[len(nodes)] = place
    for k in range(place):  # once all are drawn: other nodes' lines come at once, too
        if k + _AHEAD_IDS < place:
            ask_near(indices, np.int64(positions[k + _AHEAD_IDS]))
        sources[k] = indices[positions[k]]
    return place


@njit()
def _without_banned(state, indices, start, count, fanout, replace, banned, low, high, positions, place):
    """Draws of a long row, made again where one is banned: each set without such is as likely. -1 after some
    that were not.
    """
    for attempt in range(_TRIES):
        one = state_of(state, attempt)
        if replace:
            for k in range(fanout):
                positions[place + k] = below(one, k, count)
        else:
            _without(one, count, fanout, positions, place)
        k = place
        while k < place + fanout and not is_among(banned, low, high, indices[start + positions[k]]):
            k += 1
        if k == place + fanout:
            return k
    return -1


@njit(inline="always")
def is_among(ids, low, stop, one):
    """Whether sorted ids have it between two places."""
    high = stop
    while low < high:
        middle = (low + high) >> 1
        if ids[middle] < one:
            low = middle + 1
        else:
            high = middle
    return low < stop and ids[low] == one


@njit()
def _without(state, count, fanout, positions, place):
    """fanout of count numbers, each set of them as likely (Floyd; Bentley, A Sample of Brilliance, CACM
    1987), or by looking at all.
    """
    if count <= _SHORT and (fanout <= _FEW or fanout * fanout <= 4 * count):
        first, least, draws = np.uint64(place), np.uint64(count - fanout), np.uint64(fanout)
        for i in range(draws):  # by itself, so that many are made at once
            positions[first + i] = below_short(state, least + i, least + i + _ONE)
        drawn = np.uint64(0)  # a bit for each number modulo 64: where it is not set, the number was not drawn
        for i in range(draws):
            chosen = positions[first + i]
            bit = _ONE << (np.uint64(chosen) & _SLOTS)
            if drawn & bit:
                for k in range(i):
                    if positions[first + k] == chosen:
                        positions[first + i] = least + i
                        bit = _ONE << (least + i & _SLOTS)
                        break
            drawn |= bit
        return place + fanout
    wanted = fanout
    for k in range(count):
        if below(state, k, count - k) < wanted:
            positions[place] = k
            place += 1
            wanted -= 1
    return place


@njit()
def _weighted_with(state, values, count, fanout, positions, place):
    """fanout times one of count, as likely as its value is large; the values become their sums."""
    for k in range(1, count):
        values[k] += values[k - 1]
    for k in range(fanout):
        target = unit(state, k) * values[count - 1]
        low, high = 0, count - 1
        while low < high:
            middle = (low + high) >> 1
            if values[middle] > target:
                high = middle
            else:
                low = middle + 1
        positions[place] = low
        place += 1
    return place


@njit()
def _weighted_without(state, values, count, fanout, arrivals, positions, place):
    """The first fanout of count to arrive at exponential times with the values as rates: draws one by one, in
    their order, each in proportion to the values that are left (Efraimidis and Spirakis, Information
    Processing Letters 2006)."""
    held = 0
    for k in range(count):
        time = -np.log(unit(state, k)) / values[k]
        if held == fanout and not time < arrivals[held - 1]:
            continue
        slot = held if held < fanout else fanout - 1
        while slot > 0 and arrivals[slot - 1] > time:
            arrivals[slot] = arrivals[slot - 1]
            positions[place + slot] = positions[place + slot - 1]
            slot -= 1
        arrivals[slot] = time
        positions[place + slot] = k
        held = min(held + 1, fanout)
    return place + held


@njit()
def relabel(table, stamp, sources, nodes, known, numbers):
    """numbers: of the sources in the batch, new ones after the known; returns how many nodes there are then;
    -1: a source is none.

    table: by node, the stamp of the batch that last numbered it, and the number. Nothing needs clearing
    between batches."""
    for k in range(len(sources)):
        if k + _AHEAD_IDS < len(sources):
            ask_near(table, np.int64(sources[k + _AHEAD_IDS]))
        node = sources[k]
        if node < 0 or node >= len(table):  # of a file, whose ids nobody has checked
            return -1
        entry = table[node]
        new = (entry >> 32) != stamp
        number = (
            known if new else entry & 0xFFFFFFFF
        )  # and written in any case: nobody can tell which of the two it will be
        table[node] = (stamp << 32) | number
        nodes[known] = node
        numbers[k] = number
        known += np.int64(new)
    return known


@njit()
def induce(indptr, indices, table, stamp, nodes, starts, numbers, positions):
    """The in-edges of numbered nodes from each other, as rows; how many there are."""
    place = 0
    for i in range(len(nodes)):
        starts[i] = place
        start, stop = np.int64(indptr[nodes[i]]), np.int64(indptr[nodes[i] + 1])
        for position in range(start, stop):
            if position + _AHEAD < stop:
                ask(table, np.int64(indices[position + _AHEAD]))
            entry = table[indices[position]]
            if (entry >> 32) == stamp:
                numbers[place] = entry & 0xFFFFFFFF
                positions[place] = position
                place += 1
    starts[len(nodes)] = place
    return place
