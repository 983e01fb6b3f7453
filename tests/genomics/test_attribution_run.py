from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from track_cases import bases, classifier

from genomics.alphabet import TokenArray, decode, encode, reverse_complement
from genomics.attribution import gradient_x_input
from genomics.attribution_run import (
    AttributionConfig,
    Explained,
    explain,
    explained_part,
    resolve_target,
)
from genomics.embedding_inputs import Item
from genomics.intervals import Interval
from genomics.models import SequenceModel
from genomics.mutagenesis import in_silico_mutagenesis
from seqmamba.errors import UserError


def item(name: str, text: str, interval: Interval | None = None) -> Item:
    tokens = encode(text)

    def cut(tokens: TokenArray, start: int, end: int) -> TokenArray:
        return tokens[start:end]

    return Item(name, interval or Interval(name, 0, len(text)), partial(cut, tokens))


def model_of(strand: str = "conjoin", **changes: object) -> SequenceModel:
    model = classifier(strand)
    with torch.no_grad():
        model.head.weight.mul_(30)
    model.config = replace(model.config, **changes)  # type: ignore[arg-type]
    return model


def results(model: SequenceModel, items: list[Item], **options: object) -> list[Explained]:
    return list(explain(model, items, AttributionConfig(**options)))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients", "ism"])
def test_batches_change_nothing_and_keep_the_order(method: str) -> None:
    model = model_of()
    items = [item(f"s{i}", bases(int(n), i)) for i, n in enumerate((30, 7, 64, 1, 45))]
    together = results(model, items, method=method, steps=4)
    alone = results(model, items, method=method, steps=4, batch_bases=1)
    assert [one.name for one in together] == [f"s{i}" for i in range(5)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.output == pytest.approx(other.output, abs=1e-5)
        assert len(one.scores) == len(one.interval) == len(one.tokens)
        assert (one.effects is None) == (method != "ism")


def test_scores_are_those_of_the_method_and_long_sequences_are_read_in_their_middle() -> None:
    model = model_of()
    assert model.config.max_length == 64
    text = bases(101, 4)
    (one,) = results(model, [item("s", text, Interval("c", 1000, 1101, "+"))])
    middle = text[18:82]
    assert decode(one.tokens) == middle
    assert one.interval == Interval("c", 1018, 1082, "+")
    tokens = torch.from_numpy(encode(middle).astype(np.int64))[None]
    np.testing.assert_allclose(one.scores, gradient_x_input(model, tokens, None, 1)[0], atol=1e-6)


@pytest.mark.parametrize("strand", ["+", "-"])
def test_the_centre_of_an_interval_keeps_its_place(strand: str) -> None:
    model = model_of()
    text = bases(41, 5)
    place = Interval("c", 200, 241, strand)
    everything, part = (
        results(model, [item("s", text, place)], method="ism", central=central)[0] for central in (None, 10)
    )
    # 41 - 10 leaves 31: 15 in front of the part as it is read, 16 behind it.
    assert decode(part.tokens) == text[15:25]
    assert part.interval == (Interval("c", 215, 225, "+") if strand == "+" else Interval("c", 216, 226, "-"))
    np.testing.assert_allclose(part.scores, everything.scores[15:25], atol=1e-5)
    assert part.effects is not None
    tokens = torch.from_numpy(encode(text).astype(np.int64))[None]
    direct = in_silico_mutagenesis(model, tokens, None, 1, start=15, end=25)[0]
    np.testing.assert_allclose(part.effects, direct, atol=1e-5)


@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients", "ism"])
def test_both_strands_make_any_model_symmetric(method: str) -> None:
    model = model_of("forward")
    text = bases(40, 6)
    turned = decode(reverse_complement(encode(text)))
    options = {"method": method, "both_strands": True, "steps": 4, "central": 20}
    one, other = results(model, [item("a", text), item("b", turned)], **options)
    np.testing.assert_allclose(one.scores, other.scores[::-1], atol=1e-5)
    if one.effects is not None and other.effects is not None:
        np.testing.assert_allclose(one.effects, other.effects[::-1, ::-1], atol=1e-5)
    assert one.output == pytest.approx(other.output_rc, abs=1e-5)
    assert abs(one.output - one.output_rc) > 1e-3
    (plain,) = results(model, [item("a", text)], **{**options, "both_strands": False})
    assert np.abs(plain.scores - one.scores).max() > 1e-4


def test_integrated_gradients_of_a_part_say_what_the_whole_misses() -> None:
    model = model_of()
    (whole,) = results(model, [item("a", bases(50, 7))], method="integrated_gradients", steps=16)
    (part,) = results(model, [item("a", bases(50, 7))], method="integrated_gradients", steps=16, central=8)
    assert part.gap == pytest.approx(whole.gap, abs=1e-6)
    assert abs(whole.gap) < 0.1 * np.abs(whole.scores).sum()


@pytest.mark.parametrize(
    ("length", "limit", "central", "expected"),
    [
        (10, None, None, (0, 10, 0, 10)),
        (10, 4, None, (3, 7, 0, 4)),
        (11, 4, 2, (3, 7, 1, 3)),
        (5, 9, 3, (0, 5, 1, 4)),
        (5, 9, 30, (0, 5, 0, 5)),
    ],
)
def test_parts(length: int, limit: int | None, central: int | None, expected: tuple[int, ...]) -> None:
    assert explained_part(length, limit, central) == expected


def test_targets_by_name_number_and_default() -> None:
    two, three = classifier(), classifier(classes=("a", "b", "2x"))
    assert resolve_target(two, None) == 1
    assert resolve_target(two, "no") == 0
    assert resolve_target(three, "2x") == resolve_target(three, "2") == 2
    for word, expected in ((None, "has to be chosen, the model has 0 a, 1 b, 2 2x"), ("3", "got '3'")):
        with pytest.raises(UserError, match=expected):
            resolve_target(three, word)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "guess"}, "method: expected one of"),
        ({"central": 0}, "central: expected a positive"),
        ({"steps": 0}, "steps"),
        ({"batch_bases": 0}, "batch_bases"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AttributionConfig(**options)  # type: ignore[arg-type]
