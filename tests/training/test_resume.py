"""A training goes on with the same bits after an interruption: through files, state dicts and pickle. Copies
share nothing.
"""

from __future__ import annotations

import copy
import pickle
import random
import re

import numpy as np
import pytest

import numgraph as ng
from numgraph.data import load as load_data
from numgraph.serialize import save_parameters

KARATE = load_data("karate")
EPOCHS = 3

MODELS = {
    "gcn": lambda: ng.nn.GCN(KARATE.num_features, 4, KARATE.num_classes, dropout=0.5, rng=0),
    "gat": lambda: ng.nn.GAT(KARATE.num_features, 4, KARATE.num_classes, heads=2, rng=1),
    "gin with batch normalisation": lambda: ng.nn.GIN(
        KARATE.num_features, 4, KARATE.num_classes, norm=True, rng=2
    ),
    "generators of all kinds": lambda: Mixed(),
}
OPTIMIZERS = {
    "sgd": lambda p: ng.optim.SGD(p, lr=0.1),
    "momentum": lambda p: ng.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: ng.optim.Adam(p, lr=0.01, weight_decay=1e-3),
    "adamw": lambda p: ng.optim.AdamW(p, lr=0.01),
}


class Mixed(ng.nn.Module):
    def __init__(self):
        kinds = {
            "philox": np.random.Philox(1),
            "twister": np.random.MT19937(2),
            "sfc": np.random.SFC64(3),
            "pcg": np.random.PCG64DXSM(4),
        }
        self.drops = {name: ng.nn.Dropout(0.2, rng=np.random.Generator(bits)) for name, bits in kinds.items()}
        self.out = ng.nn.GCNConv(KARATE.num_features, KARATE.num_classes, rng=5)

    def forward(self, g, x):
        for drop in self.drops.values():
            x = drop(x)
        return self.out(g, x)


def train(model, optimizer, epochs=EPOCHS):
    for _ in range(epochs):
        with ng.Tape() as tape:
            loss = ng.cross_entropy(model(KARATE.graph, KARATE.features), KARATE.labels, KARATE.train_mask)
        optimizer.step(tape.gradient(loss, optimizer.parameters))


def through_a_file(model, optimizer, make_model, make_optimizer, folder):
    ng.save(folder / "state.npz", model, optimizer)
    other = make_model()
    other_optimizer = make_optimizer(other.parameters())
    train(other, other_optimizer, 1)  # whatever it was before
    ng.load(folder / "state.npz", other, other_optimizer)
    return other, other_optimizer


def through_safetensors(model, optimizer, make_model, make_optimizer, folder):
    ng.save(folder / "state.safetensors", model, optimizer)
    other = make_model()
    other_optimizer = make_optimizer(other.parameters())
    ng.load(folder / "state.safetensors", other, other_optimizer)
    return other, other_optimizer


def through_dicts(model, optimizer, make_model, make_optimizer, folder):
    other = make_model()
    other_optimizer = make_optimizer(other.parameters())
    other.load_state_dict(model.state_dict())
    other.load_random_state(model.random_state())
    other_optimizer.load_state_dict(optimizer.state_dict())
    return other, other_optimizer


def through_pickle(model, optimizer, make_model, make_optimizer, folder):
    return pickle.loads(pickle.dumps((model, optimizer)))


def through_deepcopy(model, optimizer, make_model, make_optimizer, folder):
    return copy.deepcopy((model, optimizer))


@pytest.mark.parametrize(
    "way", [through_a_file, through_safetensors, through_dicts, through_pickle, through_deepcopy]
)
@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("model_name", MODELS)
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(model_name, optimizer_name, way, tmp_path):
    make_model, make_optimizer = MODELS[model_name], OPTIMIZERS[optimizer_name]
    whole = make_model()
    whole_optimizer = make_optimizer(whole.parameters())
    train(whole, whole_optimizer, 2 * EPOCHS)

    first = make_model()
    first_optimizer = make_optimizer(first.parameters())
    train(first, first_optimizer)
    rest, rest_optimizer = way(first, first_optimizer, make_model, make_optimizer, tmp_path)
    kept = first.state_dict()
    train(rest, rest_optimizer)

    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(rest.state_dict()[name], value, err_msg=name)
        np.testing.assert_array_equal(
            first.state_dict()[name], kept[name], err_msg=f"{name} is shared with the copy"
        )
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            whole_optimizer.state_dict().values(), rest_optimizer.state_dict().values(), strict=True
        )
    )


def test_a_generator_beside_the_model_is_saved_too(tmp_path):
    model, rng = ng.nn.Linear(2, 2, rng=0), np.random.default_rng(5)
    rng.random(3)
    ng.save(tmp_path / "a.npz", model, rng=rng)
    want = rng.random(4)
    other = np.random.default_rng(0)
    ng.load(tmp_path / "a.npz", model, rng=other)
    np.testing.assert_array_equal(other.random(4), want)


def test_loading_for_predictions_needs_no_optimizer(tmp_path):
    model = MODELS["gcn"]()
    ng.save(tmp_path / "a.npz", model, OPTIMIZERS["adam"](model.parameters()))
    other = ng.nn.GCN(KARATE.num_features, 4, KARATE.num_classes, rng=9)
    ng.load(tmp_path / "a.npz", other)
    assert all(np.array_equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    model = MODELS["gcn"]()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, 1)
    ng.save(tmp_path / "plain.npz", model)
    ng.save(tmp_path / "sgd.npz", model, OPTIMIZERS["momentum"](model.parameters()))
    ng.save(tmp_path / "twister.npz", model, rng=np.random.Generator(np.random.MT19937(1)))
    for drop in model.modules():
        if isinstance(drop, ng.nn.Dropout):
            drop.rng.random(2)
    train(model, optimizer, 1)
    before = pickle.dumps((model.state_dict(), model.random_state(), optimizer.state_dict()))
    rng = np.random.default_rng(0)
    cases = [
        (lambda: ng.load(tmp_path / "plain.npz", model, optimizer), "saved without optimizer="),
        (lambda: ng.load(tmp_path / "sgd.npz", model, optimizer), "m.0"),
        (
            lambda: ng.load(tmp_path / "twister.npz", model, rng=rng),
            r"'rng' is a MT19937 in .*here a PCG64; make it .*MT19937\(\)",
        ),
        (lambda: ng.load(tmp_path / "plain.npz", ng.nn.Linear(2, 2)), "does not fit the model"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
        assert pickle.dumps((model.state_dict(), model.random_state(), optimizer.state_dict())) == before
    ng.nn.Module.load_random_state(model, model.random_state())
    with pytest.raises(ValueError, match="generators"):
        model.load_random_state({})


NO_NUMBERS = [np.array([1, 2]), "a", None, np.nan, -1, 1j, np.array(["x"]), np.inf]
NO_STATE = [
    None,
    "a",
    1j,
    np.zeros(3),
    [[1.0], [2.0, 3.0]],
    np.full((34, 4), "a"),
    np.full((34, 4), 1j),
    np.full((34, 4), None),
]


def states(of_optimizer, of_random):
    """What is changed in a state, by which method it is loaded, and the name that must be said."""
    for value in NO_NUMBERS:
        yield from (
            ("optimizer", {"m.0": of_optimizer["m.0"] + 1, key: value}, key) for key in ("lr", "steps")
        )
    yield "optimizer", {"steps": 2.5}, "steps"
    for value in NO_STATE:
        yield "optimizer", {"lr": 0.5, "v.1": value}, "v.1"
        yield "model", {"layers.0.weight": value}, "layers.0.weight"
    last = list(of_random)[-1]
    for value in (
        None,
        3,
        {},
        {"bit_generator": "PCG64"},
        {"bit_generator": "MT19937", "state": {}},
        {**of_random[last], "state": 3},
    ):
        yield "random", {last: value}, last


def test_states_that_are_none_are_named_and_change_nothing():
    model = ng.nn.GAT(34, 4, 2, rng=0)
    optimizer = ng.optim.Adam(model.parameters())
    train(model, optimizer, 1)
    gives = {"optimizer": optimizer.state_dict, "model": model.state_dict, "random": model.random_state}
    takes = {
        "optimizer": optimizer.load_state_dict,
        "model": model.load_state_dict,
        "random": model.load_random_state,
    }
    before = pickle.dumps([give() for give in gives.values()])
    for place, change, name in states(optimizer.state_dict(), model.random_state()):
        with pytest.raises((ValueError, TypeError), match=rf"^(Adam\.)?load_\w+: .*{re.escape(name)}"):
            takes[place]({**gives[place](), **change})
        assert pickle.dumps([give() for give in gives.values()]) == before
    for place in takes:
        with pytest.raises(TypeError, match="state is None"):
            takes[place](None)


def test_a_state_may_be_lists():
    model = ng.nn.Linear(3, 2, rng=0)
    other = ng.nn.Linear(3, 2, rng=1)
    other.load_state_dict({name: array.tolist() for name, array in model.state_dict().items()})
    assert np.array_equal(other.weight.data, model.weight.data)


@pytest.mark.parametrize("call", [ng.save, ng.load])
def test_what_is_saved_and_loaded_is_a_model(call, tmp_path):
    path = tmp_path / "a.npz"
    model = ng.nn.Linear(3, 2, rng=0)
    ng.save(path, model)
    before = path.read_bytes()
    for arguments, words in (
        ((None,), "the model is None"),
        ((model.state_dict(),), "the model is a dict"),
        ((model.parameters(),), "the model is a list"),
        ((ng.nn.Linear,), "the model is the class Linear"),
        ((model, "adam"), "optimizer is a str"),
        ((model, np.random.default_rng(0)), "optimizer is a Generator"),
        ((model, None, 3), "rng is an int"),
        ((model, None, np.random.RandomState(0)), "rng is a RandomState"),
    ):
        with pytest.raises(TypeError, match=f"{call.__name__}: {words}"):
            call(path, *arguments)
    assert path.read_bytes() == before


# Pickles and copies of everything public.

WAYS = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("way", WAYS)
def test_copies_of_tensors_and_parameters(way):
    a = np.arange(3.0)
    tensor, parameter = WAYS[way](ng.Tensor(a)), WAYS[way](ng.Parameter(a, "w"))
    assert type(tensor) is ng.Tensor
    assert type(parameter) is ng.Parameter
    assert parameter.name == "w"
    np.testing.assert_array_equal(tensor.data, a)
    np.testing.assert_array_equal(parameter.data, a)
    if way != "copy":
        assert not np.shares_memory(parameter.data, a)
    whole_numbers = WAYS[way](ng.Tensor(np.arange(3)))
    assert type(whole_numbers) is ng.Tensor


def test_a_copy_of_a_tensor_keeps_its_gradient():
    for way in (copy.copy, copy.deepcopy):
        with ng.Tape() as tape:
            x = tape.watch(np.arange(3.0))
            loss = (way(x * x) * way([x, x])[1]).sum() if way is copy.deepcopy else (way(x) ** 3).sum()
        np.testing.assert_allclose(tape.gradient(loss, x), 3 * np.arange(3.0) ** 2)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_copies_of_graphs_and_datasets_compute_the_same(way):
    data = load_data("karate")
    model = MODELS["gcn"]().eval()
    want = model(data.graph, data.sparse_features)  # graphs and derived data are in use
    again = WAYS[way](data)
    np.testing.assert_array_equal(model(again.graph, again.sparse_features), want)
    np.testing.assert_array_equal(
        WAYS[way](model)(WAYS[way](data.graph), data.features), model(data.graph, data.features)
    )
    assert (again.name, again.num_classes) == (data.name, data.num_classes)


def test_a_tape_cannot_be_copied_and_says_so():
    for way in WAYS.values():
        with pytest.raises(TypeError, match="Tape: it cannot be copied or pickled"):
            way(ng.Tape())


def test_a_deepcopy_of_a_model_shares_nothing():
    model = MODELS["gin with batch normalisation"]()
    twin = copy.deepcopy(model)
    own = dict(model._walk())
    for name, value in twin._walk():
        assert not np.shares_memory(np.asarray(value), np.asarray(own[name])), name
    assert not set(map(id, model._generators().values())) & set(map(id, twin._generators().values()))


def test_a_file_of_parameters_alone_fills_a_model(tmp_path):
    """As `numgraph train --save` writes it."""
    model, other = MODELS["gcn"](), MODELS["gcn"]()
    save_parameters(tmp_path / "m.npz", model.state_dict())
    for p in other.parameters():
        p.data[...] = 7
    ng.load(tmp_path / "m.npz", other)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])
    with pytest.raises(ValueError, match="was saved without optimizer="):
        ng.load(tmp_path / "m.npz", other, OPTIMIZERS["adam"](other.parameters()))


@pytest.mark.parametrize(
    "generator", [np.random.RandomState(0), random.Random(0)], ids=["RandomState", "Random"]
)
def test_generators_whose_state_is_not_kept_are_errors(generator, tmp_path):
    model = MODELS["gcn"]()
    model.noise = generator
    with pytest.raises(
        TypeError, match=r"noise is .*, whose state is not kept; make it np.random.default_rng"
    ):
        ng.save(tmp_path / "m.npz", model)
    assert not (tmp_path / "m.npz").exists()
