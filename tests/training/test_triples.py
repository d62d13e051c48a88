"""Knowledge graphs: files of triples, filtered ranks against a loop over all entities, and trainings that
find a rule.
"""

from __future__ import annotations

import numpy as np
import pytest

from numgraph import nn
from numgraph.data import Triples, load_triples
from numgraph.optim import Adam
from numgraph.training import fit_triples, rank_triples
from numgraph.training.triples import Truth, filtered_ranks


def family(people=18):
    """r0: the next person, r1: the one before, r2: the same parity; a share is held out that the others
    imply.
    """
    rows = [(i, 0, (i + 1) % people) for i in range(people)] + [
        ((i + 1) % people, 1, i) for i in range(people)
    ]
    rows += [(i, 2, j) for i in range(people) for j in range(people) if i != j and i % 2 == j % 2]
    rows = np.random.default_rng(0).permutation(np.array(rows))
    names = [f"p{i}" for i in range(people)]
    return Triples("family", rows[40:], rows[:20], rows[20:40], names, ["next", "before", "like"])


class Table:
    """A scorer whose scores are given: few distinct numbers, so that there are ties."""

    def __init__(self, entities, relations, distinct):
        self.num_entities = entities
        self.scores = (
            np.random.default_rng(2).integers(0, distinct, (entities, relations, entities)).astype(np.float64)
        )

    def score_tails(self, h, r):
        return self.scores[h, r]

    def score_heads(self, r, t):
        return self.scores[:, r, t].T


@pytest.mark.parametrize("distinct", [2, 1000])
def test_ranks_are_those_of_a_loop(distinct, monkeypatch):
    monkeypatch.setattr("numgraph.training.triples._NUMBERS", 70)  # several pieces
    data = family()
    model, known = Table(18, 3, distinct), {tuple(row) for row in data.known.tolist()}
    wanted = []
    for ask in ("tail", "head"):
        for h, r, t in data.test.tolist():
            best = worst = 1
            for e in range(18):
                other = (h, r, e) if ask == "tail" else (e, r, t)
                if other == (h, r, t) or other in known:
                    continue
                score = model.scores[other]
                best += score > model.scores[h, r, t]
                worst += score >= model.scores[h, r, t]
            wanted.append((best + worst) / 2)
    found = filtered_ranks(model, data.test, Truth(data))
    assert found.tolist() == wanted
    values = rank_triples(model, data.test, data)
    assert values["mrr"] == pytest.approx(np.mean(1 / np.array(wanted)))
    assert values["hits@3"] == np.mean(np.array(wanted) <= 3)
    assert values["mean_rank"] == np.mean(wanted)


def test_a_model_that_scores_all_alike_gains_nothing_and_nan_is_an_error():
    data = family()
    model = Table(18, 3, 1)
    assert rank_triples(model, data.test, data)["hits@1"] == 0
    model.scores[:] = np.nan
    with pytest.raises(ValueError, match="the model's scores are NaN"):
        rank_triples(model, data.test, data)
    assert np.isnan(rank_triples(model, data.test[:0], data)["mrr"])


TRAININGS = {
    "ComplEx": (lambda: nn.ComplEx(18, 3, 16, reciprocal=True, rng=0), {"penalty": 0.003, "epochs": 60}, 0.8),
    "DistMult": (lambda: nn.DistMult(18, 3, 16, rng=0), {"epochs": 30}, 0.3),
    "TransE, negatives": (
        lambda: nn.TransE(18, 3, 16, rng=0),
        {"loss": "negatives", "margin": 2.0, "negatives": 8, "epochs": 60},
        0.3,
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_find_the_rule(name):
    make, options, least = TRAININGS[name]
    data, model = family(), make()
    before = rank_triples(model, data.test, data)["mrr"]
    history = fit_triples(model, data, Adam(model.parameters(), lr=0.03), batch_size=64, **options)
    after = rank_triples(model, data.test, data)["mrr"]
    assert history.score == "mrr"
    assert history.train_loss[-1] < history.train_loss[0]
    assert (
        rank_triples(model, data.val, data)["mrr"]
        == max(history.val_score)
        == history.val_score[history.best_epoch - 1]
    )
    assert after > max(least, 1.5 * before)
    assert not model.training


def test_trainings_repeat_and_stop():
    data = family()
    losses = []
    for _ in range(2):
        model = nn.ComplEx(18, 3, 16, reciprocal=True, rng=0)
        history = fit_triples(model, data, epochs=3, batch_size=64, seed=5)
        losses.append((history.train_loss, model.state_dict()["entities"].tobytes()))
    assert losses[0] == losses[1]
    history = fit_triples(model, data, epochs=50, batch_size=64, callback=lambda epoch, history: epoch == 2)
    assert (history.stopped, history.epochs) == ("callback", 2)
    history = fit_triples(model, data, Adam(model.parameters(), lr=0.0), epochs=50, batch_size=64, patience=2)
    assert (history.stopped, history.epochs) == ("patience", 3)


ERRORS = [
    (
        lambda data, model: fit_triples(model, [1, 2]),
        TypeError,
        "triples is a list; give what numgraph.data.load_triples",
    ),
    (lambda data, model: fit_triples(model, data, loss="soft"), ValueError, "did you mean 'softmax'"),
    (lambda data, model: fit_triples(model, data, batch_size=0), ValueError, "batch_size is 0"),
    (
        lambda data, model: Triples("x", [[0, 0, 9]], data.val, data.test, data.entities[:3], ["r"]),
        ValueError,
        r"train\[0, 2\] is 9",
    ),
    (
        lambda data, model: Triples("x", [0, 1], data.val, data.test, data.entities, ["r"]),
        TypeError,
        "train has dtype int64 and shape",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_say_what_to_do(call, kind, text):
    with pytest.raises(kind, match=text):
        call(family(), nn.ComplEx(18, 3, 16, reciprocal=True, rng=0))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.txt").write_text("ann\tknows\tben\nben\tknows\tcid d\n\nann\tlikes\tcid d\n", "utf-8")
    (tmp_path / "valid.txt").write_text("ann\tlikes\tben\n", "utf-8")
    (tmp_path / "test.txt").write_text("cid d\tlikes\tann\r\n", "utf-8")
    return tmp_path


def test_a_folder_is_read(folder):
    data = load_triples(folder)
    assert data.entities == ["ann", "ben", "cid d"]
    assert data.relations == ["knows", "likes"]
    assert data.train.tolist() == [[0, 0, 1], [1, 0, 2], [0, 1, 2]]
    assert data.val.tolist() == [[0, 1, 1]]
    assert data.test.tolist() == [[2, 1, 0]]
    assert len(data.known) == 5
    assert "entities=3, relations=2, triples=3/1/1" in repr(data)
    h = data.to_hetero()
    assert h.edge_types == [("entity", "knows", "entity"), ("entity", "likes", "entity")]
    assert h["knows"].dst.tolist() == [1, 2]


def test_three_files_and_other_formats(folder, tmp_path):
    (tmp_path / "a.csv").write_text(
        'head,relation,tail\n"ann","knows, well",ben\nben,likes,ann\n', "utf-8-sig"
    )
    data = load_triples(tmp_path / "a.csv", valid=folder / "valid.txt")
    assert data.relations == ["knows, well", "likes"]
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 0)
    (tmp_path / "b.txt").write_text("1 2 7\n2 1 7\n", "utf-8")
    assert load_triples(tmp_path / "b.txt", split=(1, 0, 0), order="htr").relations == ["7"]


def test_a_header_is_no_triple_and_tells_the_order(tmp_path):
    for i, header in enumerate(["From,Rel,To", "subject,predicate,object", "\n h , r, t"]):
        (tmp_path / f"{i}.csv").write_text(f"{header}\nann,likes,ben\n", "utf-8")
        assert load_triples(tmp_path / f"{i}.csv", split=(1, 0, 0)).entities == ["ann", "ben"]
    turned = tmp_path / "turned.csv"
    turned.write_text("head,tail,relation\nann,ben,likes\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"turned.csv has the columns head, tail, relation; give order='htr'"
    ):
        load_triples(turned, split=(1, 0, 0))
    assert load_triples(turned, split=(1, 0, 0), order="htr").relations == ["likes"]
    turned.write_text("h,ben,likes\nr,t,h\n", "utf-8")  # no header: "ben" and "likes" are no columns
    assert len(load_triples(turned, split=(1, 0, 0)).train) == 2


def test_one_file_is_dealt_out(tmp_path):
    (tmp_path / "all.tsv").write_text("".join(f"{i}\tr\t{(i * 7) % 20}\n" for i in range(20)) * 2, "utf-8")
    data, again, other = (load_triples(tmp_path / "all.tsv", rng=seed) for seed in (0, 0, 1))
    assert [len(part) for part in (data.train, data.val, data.test)] == [32, 4, 4]
    assert np.array_equal(data.test, again.test)
    assert not np.array_equal(data.test, other.test)


def test_what_training_never_sees_is_told(folder):
    (folder / "test.txt").write_text("dora\thates\tann\n", "utf-8")
    with pytest.warns(UserWarning, match="1 of ") as told:
        load_triples(folder)
    assert [
        "1 of 4 entities, 'dora' first" in str(told[0].message),
        "1 of 3 relations, 'hates'" in str(told[1].message),
    ] == [True, True]


BAD = {
    "two columns": (
        "train.txt",
        b"a\tb\tc\nd\te\n",
        ValueError,
        "train.txt, line 2 has 2 columns; a triple has three names between tabs",
    ),
    "empty name": ("train.txt", b"a\t\tc\n", ValueError, "train.txt, line 1 has an empty name"),
    "no text": ("test.txt", b"\xff\xfe\x00a", ValueError, "test.txt is no text in UTF-8"),
    "empty": ("train.txt", b"", ValueError, "has no triple for training"),
    "twice": ("train.csv", b"a,b,c\n", ValueError, "has train.csv and train.txt; leave one"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(name, folder):
    file, content, kind, text = BAD[name]
    (folder / file).write_bytes(content)
    with pytest.raises(kind, match=text):
        load_triples(folder)


def test_files_that_are_not_there(folder):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing.txt"):
        load_triples(folder / "nothing.txt")
    (folder / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no train.txt, train.tsv or train.csv"):
        load_triples(folder)
    with pytest.raises(ValueError, match="order is"):
        load_triples(folder, order="hr")
    with pytest.raises(TypeError, match="load_triples: path is an int"):
        load_triples(3)


SCORER = nn.DistMult(18, 3, 4, rng=0)
CALLS = [
    (
        lambda d: rank_triples(SCORER, [[0, 0, 1], [0, 0, 18]], d),
        IndexError,
        r"part\[1, 2\] is 18; entities run from 0 to 17",
    ),
    (
        lambda d: rank_triples(SCORER, [[0, 3, 1]], d),
        IndexError,
        r"part\[0, 1\] is 3; relations run from 0 to 2",
    ),
    (lambda d: rank_triples(SCORER, [[-1, 0, 1]], d), IndexError, r"part\[0, 0\] is -1; entities"),
    (lambda d: rank_triples(SCORER, [[0, 0]], d), TypeError, r"part has dtype int64 and shape \[1, 2\]"),
    (lambda d: rank_triples(SCORER, [0, 0, 1], d), TypeError, r"shape \[3\]; give ids, integers \[n, 3\]"),
    (lambda d: rank_triples(SCORER, [[0.5, 0, 1]], d), TypeError, "part has dtype float64"),
    (lambda d: rank_triples(SCORER, None, d), TypeError, "rank_triples: part is None"),
    (lambda d: rank_triples(SCORER, d.test, None), TypeError, "truth is None; give the Triples"),
    (lambda d: rank_triples(SCORER, d.test, d.known), TypeError, "truth is a ndarray; give the Triples"),
    (lambda d: fit_triples(nn.GCN(2, 2, 2), d), TypeError, "model is .*GCN; give a scorer"),
    (lambda d: fit_triples(SCORER, d, 3), TypeError, "fit_triples: optimizer is an int"),
    (
        lambda d: fit_triples(SCORER, d, Adam(nn.DistMult(18, 3, 4).parameters())),
        ValueError,
        "none of the model's parameters; make it after",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), CALLS)
def test_what_is_neither_triples_nor_a_scorer(call, kind, text):
    with pytest.raises(kind, match=text):
        call(family())
