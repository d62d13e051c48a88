"""The page of ``Tape.explain(html=…)``: one file that loads nothing, well formed, whose arrows and matrices
are those of the graph.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import browser
import numpy as np
import pytest

import numgraph as ng
from numgraph.message.drawing import EXAMPLE

SRC, DST = [0, 0, 1, 3, 2, 1], [1, 2, 2, 2, 0, 3]
G = ng.Graph(SRC, DST, 4)
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(4, 3)), RNG.normal(size=(6, 1))
LARGE = ng.Graph(RNG.integers(0, 40, 200), RNG.integers(0, 40, 200), 40)
BIPARTITE = ng.Graph([0, 1, 2, 1], [1, 0, 1, 1], num_src=3, num_dst=2)


def recorded(compute, *arrays, replay=False):
    with ng.Tape() as tape:
        watched = [tape.watch(array) for array in arrays]
        loss = np.sum(compute(*watched))
    if replay:
        tape.gradient(loss, watched)
    return tape


def relu_minus(x, y, w):
    return ng.update_all(
        G, lambda u, v, e: ng.relu(u.x - v.y) * e.w, "sum", u={"x": x}, v={"y": y}, e={"w": w}
    )


def gat():
    model = ng.nn.GAT(3, 4, 2, heads=2, rng=0)
    return recorded(lambda x: model(G, x), X.astype(np.float32))


PAGES = {
    "relu(u - v) * w": lambda: recorded(relu_minus, X, X + 1, W),
    "after the replay": lambda: recorded(relu_minus, X, X + 1, W, replay=True),
    "gat": gat,
    "sddmm": lambda: recorded(
        lambda x, y: ng.apply_edges(G, lambda u, v: (u.x * v.y).sum(-1), u={"x": x}, v={"y": y}), X, X + 1
    ),
    "several reduces": lambda: recorded(
        lambda x: sum(ng.update_all(G, lambda u: u.x, ("mean", "max", "std"), u={"x": x})), X
    ),
    "captured": lambda: recorded(
        lambda x, a: ng.update_all(G, lambda u: np.tanh(u.x * a), "sum", u={"x": x}), X, np.ones(3)
    ),
    "two graphs, one large": lambda: recorded(
        lambda x, y: (
            ng.update_all(G, lambda u: u.x, "sum", u={"x": x}).sum()
            + ng.update_all(LARGE, lambda u: u.x, "sum", u={"x": y}).sum()
        ),
        X,
        RNG.normal(size=(40, 3)),
    ),
    "bipartite": lambda: recorded(
        lambda x: ng.update_all(BIPARTITE, lambda u: u.x, "sum", u={"x": x}), X[:3]
    ),
    "a zero gradient": lambda: recorded(
        lambda x: ng.update_all(G, lambda u: np.sign(u.x) + u.y, "sum", u={"x": x, "y": x}), X
    ),
    "long names": lambda: recorded(
        lambda x, w: ng.update_all(
            G,
            lambda u, v, e: u.position * v.velocity * e.stiffness * e.length,
            "sum",
            u={"position": x},
            v={"velocity": x},
            e={"stiffness": w, "length": w},
        ),
        X[:, None, None] * np.ones((4, 5, 6, 3)),
        W[:, None, None],
    ),
    "no message": lambda: recorded(lambda x: np.tanh(x @ x.T), X),
    "<odd> & 'names'": lambda: recorded(
        lambda x: ng.update_all(G, lambda u: u['<b>&"x'], "sum", u={'<b>&"x': x}), X
    ),
    "nothing": ng.Tape,
}


@pytest.fixture(scope="module")
def pages():
    return {name: make() for name, make in PAGES.items()}


class Checker(HTMLParser):
    """That tags close in order, and that nothing is loaded or run."""

    VOID = ("meta", "br", "img", "link", "hr", "input")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        for name, value in attrs:
            assert name not in ("src", "srcset", "onload", "onclick", "xlink:href"), (tag, name)
            if name == "href":
                assert value.startswith("#")
                self.targets.append(value[1:])
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.targets) <= set(checker.ids)
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    return "".join(checker.text)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_one_whole_file(name, pages, tmp_path):
    tape = pages[name]
    told = tape.explain(html=tmp_path / "page.html")
    assert told == tape.explain()
    page = (tmp_path / "page.html").read_text("utf-8")
    text = checked(page)
    assert page.startswith("<!DOCTYPE html>")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "prefers-color-scheme: dark" in page
    for line in told.splitlines():  # every formula that the text has
        formula = re.split(" {2,}", line.strip())[0]
        if line.startswith("     ") and formula.startswith(("z", "∂")) and " = " in formula:
            assert formula in text
    assert checked(tape._repr_html_())
    assert tape._repr_html_() in page


def cards(tape, number=0):
    """The cards of a record, by title."""
    root = ElementTree.fromstring(tape._repr_html_())
    section = next(one for one in root.iter("section") if one.get("id") == f"numgraph-{number}")
    return {card.find("h3").text: card for card in section.iter("div") if card.get("class") == "card"}


def card(tape, start, number=0):
    (found,) = [one for title, one in cards(tape, number).items() if title.startswith(start)]
    return found


def arrows(drawn, paint=None):
    """Start and head of every arrow, or of those of a colour."""
    lines, heads = list(drawn.iter("line")), list(drawn.iter("polygon"))
    pairs = []
    for line, head in zip(lines, heads, strict=True):
        if paint is None or paint in line.get("stroke"):
            pairs.append((float(line.get("x1")), float(head.get("points").split(",")[0])))
    return pairs


def cells(grid):
    """Filled and marked entries of a drawn matrix, as dense arrays."""
    found = []
    for rect in grid.iter("rect"):
        found.append((float(rect.get("y")), float(rect.get("x")), rect.get("fill")))
    rows, columns = sorted({y for y, _, _ in found}), sorted({x for _, x, _ in found})
    filled, marked = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    for y, x, fill in found:
        filled[rows.index(y), columns.index(x)] = fill != "var(--paper)"
        marked[rows.index(y), columns.index(x)] = fill not in ("var(--paper)", "var(--soft)")
    return filled, marked


ADJACENCY = np.zeros((4, 4))
ADJACENCY[DST, SRC] = 1


def test_the_forward_goes_along_the_edges(pages):
    drawn, grid = card(pages["relu(u - v) * w"], "The forward").iter("svg")
    assert len(arrows(drawn)) == 6
    assert all(head > start for start, head in arrows(drawn))
    assert len(arrows(drawn, "--forward")) == max(np.bincount(DST))  # those of one destination
    filled, marked = cells(grid)
    np.testing.assert_array_equal(filled, ADJACENCY)
    row = int(np.argmax(ADJACENCY.sum(1)))
    np.testing.assert_array_equal(marked[row], ADJACENCY[row])
    assert marked.sum() == ADJACENCY[row].sum()


def test_the_gradient_of_sources_goes_against_them_on_the_transpose(pages):
    drawn, grid = card(pages["relu(u - v) * w"], "∂u.x: the arrows are reversed").iter("svg")
    assert len(arrows(drawn)) == 6
    assert all(head < start for start, head in arrows(drawn))
    assert len(arrows(drawn, "--backward")) == max(np.bincount(SRC))
    filled, marked = cells(grid)
    np.testing.assert_array_equal(filled, ADJACENCY.T)
    row = int(np.argmax(ADJACENCY.T.sum(1)))
    np.testing.assert_array_equal(marked[row], ADJACENCY.T[row])
    assert "every out-edge of u read u.x" in "".join(card(pages["relu(u - v) * w"], "∂u.x").itertext())


def test_the_gradient_of_destinations_goes_along_the_edges(pages):
    drawn, grid = card(pages["relu(u - v) * w"], "∂v.y: along the edges").iter("svg")
    assert all(head > start for start, head in arrows(drawn))
    np.testing.assert_array_equal(cells(grid)[0], ADJACENCY)


def test_the_gradient_of_edges_is_made_from_both_ends(pages):
    drawn, grid = card(pages["relu(u - v) * w"], "∂e.w: a value for each edge").iter("svg")
    pairs = arrows(drawn)
    assert len(pairs) == 12  # two an edge
    assert sum(head > start for start, head in pairs) == 6
    assert len(arrows(drawn, "--both")) == 2
    filled, marked = cells(grid)
    np.testing.assert_array_equal(filled, ADJACENCY)
    assert marked.sum() == 1
    assert (ADJACENCY * marked).sum() == 1
    assert "6 entries of 4 × 4" in "".join(card(pages["relu(u - v) * w"], "∂e.w").itertext())


def test_other_walks(pages):
    assert set(cards(pages["sddmm"])) == {
        "The graph",
        "The forward",
        "∂u.x: the arrows are reversed, summed at u",
        "∂v.y: along the edges, summed at v",
    }
    assert "∂captured0: over all edges" in cards(pages["captured"])
    drawn, grid = card(pages["bipartite"], "∂u.x").iter("svg")
    assert cells(grid)[0].shape == (3, 2)
    assert len(arrows(drawn)) == 4


def test_a_large_graph_has_an_example_in_its_place(pages):
    texts = [
        "".join(cards(pages["two graphs, one large"], number)["The graph"].itertext()) for number in (0, 2)
    ]
    assert "4 nodes and 6 edges, drawn as they are." in texts[0]
    assert "Yours has 40 nodes and 200 edges; drawn is an example of 4 nodes and 6 edges." in texts[1]
    assert len(EXAMPLE.edges) == 6


def test_schedules_are_there(pages):
    text = pages["relu(u - v) * w"]._repr_html_()
    for line in pages["relu(u - v) * w"].explain(kernel=True).splitlines():
        if line.strip().startswith("kernel of"):
            assert line.strip() in text


def test_equal_sections_stand_once():
    tape = recorded(lambda x: relu_minus(x, X, W) + relu_minus(x, X, W), X)
    page = tape._repr_html_()
    assert page.count("<section") == 1
    assert page.count('href="#numgraph-0"') == 2


WRONG = """<!DOCTYPE html><link rel="icon" href="data:,"><body><p style="width: 600px">wide</p><img src="none.png">
<svg viewBox="0 0 100 20" style="width: 100px"><text x="90" y="15">beyond the picture</text></svg>
<script>console.error("oh"); nothing()</script>"""


@pytest.mark.slow
@pytest.mark.skipif(browser.PATH is None, reason=browser.MISSING)
def test_a_browser_shows_the_pages(pages, tmp_path):
    """Each on a wide window and on a telephone's: nothing is cut off, nothing fails, no other file is asked
    for. What is wrong shows.
    """
    file = tmp_path / "page.html"
    with browser.running(tmp_path) as tab:
        for name, tape in pages.items():
            tape.explain(html=file)
            for width in (1280, 400):
                assert tab.open(file.as_uri(), width) == ([], [file.as_uri()], []), f"{name} at {width}"
        file.write_text(WRONG, "utf-8")
        seen = tab.open(file.as_uri(), 400)
    assert {said.split(":")[0] for said in seen.errors} >= {"console", "exception", "not loaded"}
    assert (tmp_path / "none.png").as_uri() in seen.requests
    assert {said.split(":")[0].split(" ")[0] for said in seen.cut_off} == {"the", "P", "outside"}
