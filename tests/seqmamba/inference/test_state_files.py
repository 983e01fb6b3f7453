"""Taking states apart and together, and out of a process and back."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import torch
from causal_models import BACKBONES, language_model, prompt
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seqmamba.backbones import Backbone, BackboneConfig, BackboneState
from seqmamba.errors import UserError
from seqmamba.inference import begin, generate_blocks, load_state, save_state
from seqmamba.nn.state import MambaState, concatenate_states, describe_state, repeat_rows, select_rows

each_model = pytest.mark.parametrize("name", BACKBONES)


class Spiral(NamedTuple):
    """A state with everything in it that a state may have."""

    turn: Tensor
    inner: tuple[MambaState, None]
    phase: int


def spiral(rows=3):
    turn = torch.randn(rows, 4, dtype=torch.complex64)
    inner = MambaState(torch.randn(rows, 2, 5), torch.randn(rows, 5, 3, dtype=torch.float64))
    return Spiral(turn.conj(), (inner, None), 2)


def run(model, tokens, state=None):
    return model(tokens, state=state, return_state=True)


def assert_equal(left, right):
    assert describe_state(left) == describe_state(right)
    for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


@torch.no_grad()
@each_model
def test_a_stream_goes_on_bit_for_bit_from_a_file(name, tmp_path):
    model, tokens = language_model(name), prompt(2, 17)
    _, state = run(model, tokens[:, :10])
    save_state(tmp_path / "stream.safetensors", state)
    loaded = load_state(tmp_path / "stream.safetensors", model)
    assert type(loaded) is type(state)
    assert_equal(loaded, state)
    assert torch.equal(run(model, tokens[:, 10:], loaded)[0], run(model, tokens[:, 10:], state)[0])


@torch.no_grad()
@each_model
def test_rows_go_on_as_they_would_in_their_batch(name):
    model, tokens = language_model(name), prompt(3, 15)
    _, state = run(model, tokens[:, :8])
    whole = run(model, tokens[:, 8:], state)[0]
    rows = torch.tensor([2, 0])
    picked = run(model, tokens[rows, 8:], select_rows(state, rows))[0]
    torch.testing.assert_close(picked, whole[rows], atol=1e-5, rtol=1e-5)
    joined = concatenate_states([select_rows(state, slice(0, 1)), select_rows(state, slice(1, 3))])
    assert_equal(joined, state)
    copied = run(model, tokens[[0, 1], 8:], repeat_rows(select_rows(state, slice(0, 1)), 2))[0]
    torch.testing.assert_close(copied[0], whole[0], atol=1e-5, rtol=1e-5)


def test_a_backbone_state_has_these_as_methods():
    state = Backbone(BackboneConfig(8, 2, d_state=4)).init_state(2)
    state.layers[1].scan[1] = 1.0
    twice = state.repeat(2)
    assert isinstance(twice, BackboneState)
    assert twice.layers[1].scan.sum(dim=(1, 2)).tolist() == [0, 0, 64, 64]
    assert_equal(twice.select(torch.tensor([0, 2])), state)


def test_everything_a_state_may_have_comes_back(tmp_path):
    state = spiral()
    save_state(tmp_path / "state", state)
    loaded = load_state(tmp_path / "state", spiral(rows=1))
    assert isinstance(loaded, Spiral)
    assert isinstance(loaded.inner[0], MambaState)
    assert_equal(loaded, state)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_views_and_gradients_do_not_hinder_saving(tmp_path):
    memory = torch.randn(4, 6, 5, requires_grad=True)
    state = MambaState(memory[:1, :2].expand(3, 2, 5), memory[:3, :5, ::2])
    save_state(tmp_path / "state", state)
    loaded = load_state(tmp_path / "state", MambaState(torch.zeros(1, 2, 5), torch.zeros(1, 5, 3)))
    assert_equal(loaded, state)
    assert not loaded.scan.requires_grad


def test_the_file_holds_no_more_than_tensors_and_their_tree(tmp_path):
    save_state(tmp_path / "state", spiral())
    with safe_open(tmp_path / "state", "pt") as file:
        assert sorted(file.keys()) == ["inner.0.conv", "inner.0.scan", "turn"]
        metadata = file.metadata()
    assert metadata["format"] == "seqmamba state 1"
    assert json.loads(metadata["tree"])["parts"]["phase"] == {"value": 2}


@each_model
def test_a_generation_goes_on_from_a_file(name, tmp_path):
    model = language_model(name)
    start = begin(model, prompt(2, 5))
    blocks = list(generate_blocks(model, start, n_tokens=14, block=7))
    save_state(tmp_path / "run", blocks[0].state)
    loaded = load_state(tmp_path / "run", model)
    (again,) = generate_blocks(model, loaded, n_tokens=7)
    assert torch.equal(again.tokens, blocks[1].tokens)
    assert torch.equal(again.log_probs, blocks[1].log_probs)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (Spiral(*spiral()[:2], phase=None), "at phase expected int, got NoneType"),
        (spiral()._replace(turn=torch.zeros(3, 4)), "at turn expected complex64, got float32"),
        (spiral()._replace(turn=spiral().turn[:, :3]), r"at turn expected \('any', 4\), got \(3, 3\)"),
        (
            spiral()._replace(turn=spiral().turn[:2]),
            "expected one batch size, got {'turn': 2, 'inner.0.conv': 3",
        ),
        (spiral().inner[0], "expected Spiral, got MambaState"),
        (spiral()._replace(inner=(spiral(), None)), "at inner.0 expected MambaState, got Spiral"),
        (spiral()._replace(inner=()), r"at inner expected \['0', '1'\], got \[\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(saved, message, tmp_path):
    save_state(tmp_path / "state", saved)
    with pytest.raises(UserError, match=rf"state: does not fit the model: {message}.*another kind of state"):
        load_state(tmp_path / "state", spiral())


def test_states_of_other_models_are_refused(tmp_path):
    save_state(tmp_path / "state", language_model("mamba").init_state(2))
    wider = Backbone(BackboneConfig(16, 2, d_state=4))
    with pytest.raises(UserError, match=r"at layers.0.conv expected \('any', 3, 32\), got \(2, 3, 16\)"):
        load_state(tmp_path / "state", wider)
    with pytest.raises(UserError, match=r"at layers.0.conv expected float64, got float32"):
        load_state(tmp_path / "state", language_model("mamba").double())
    with pytest.raises(UserError, match=r"at layers expected \['0', '1', '2'\], got \['0', '1'\]"):
        load_state(tmp_path / "state", Backbone(BackboneConfig(8, 3, d_state=4)))


def test_files_that_are_no_states_are_refused(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(UserError, match="expected a state written by save_state, got No such file"):
        load_state(path, spiral())
    path.write_bytes(b"\x80\x04nonsense")
    with pytest.raises(UserError, match="expected a state written by save_state, got "):
        load_state(path, spiral())
    save_state(path, spiral())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="expected a state written by save_state, got "):
        load_state(path, spiral())
    save_file({"turn": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="expected 'seqmamba state 1', got None"):
        load_state(path, spiral())


@pytest.mark.parametrize("tree", ["{", "[]", '{"type": "Spiral"}'])
def test_a_damaged_tree_is_refused(tree, tmp_path):
    save_file({"turn": torch.zeros(1)}, tmp_path / "state", {"format": "seqmamba state 1", "tree": tree})
    with pytest.raises(UserError, match="its description of the state is damaged"):
        load_state(tmp_path / "state", spiral())


def test_what_is_no_state_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="expected tensors, whole numbers and named tuples, got dict"):
        save_state(tmp_path / "state", {"conv": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_states_of_another_form_are_not_joined():
    with pytest.raises(UserError, match="states: expected one form, got phase: 2 and 3"):
        concatenate_states([spiral(), spiral()._replace(phase=3)])
    with pytest.raises(UserError, match=r"got turn: complex64 \(0, 4\) and float32 \(0, 4\)"):
        concatenate_states([spiral(), spiral()._replace(turn=torch.zeros(1, 4))])
    with pytest.raises(UserError, match="expected at least one state"):
        concatenate_states([])
