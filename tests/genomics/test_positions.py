"""Models of sequences that are aligned to a site: every position has a vector of its own."""

from __future__ import annotations

import pytest
import torch

from genomics.alphabet import PAD, encode
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones import BackboneConfig, from_pretrained
from seqmamba.errors import UserError

BACKBONE = BackboneConfig(d_model=8, n_layers=1, direction="bidirectional", d_state=4)


def model(positions: int) -> SequenceModel:
    torch.manual_seed(0)
    config = SequenceModelConfig(BACKBONE, classes=("no", "yes"), strand="forward", positions=positions)
    return SequenceModel(config).eval()


def test_what_a_base_means_depends_on_where_it_stands() -> None:
    placed, plain = model(20), model(0)
    with torch.no_grad():
        placed.positions[5] += 3  # type: ignore[index]
    tokens = torch.from_numpy(encode("ACGTACGTACGTACGTACGT")).long()[None]
    assert not torch.allclose(placed(tokens), plain(tokens), atol=1e-3)
    short, lengths = tokens[:, :12], torch.tensor([12])
    padded = placed(torch.cat((short, torch.full((1, 3), 4)), dim=1), lengths)
    torch.testing.assert_close(padded, placed(short))


def test_a_flat_head_has_weights_for_every_place() -> None:
    torch.manual_seed(0)
    config = SequenceModelConfig(
        BACKBONE, classes=("no", "yes"), strand="forward", positions=20, pooling="flatten", dropout=0.0
    )
    flat = SequenceModel(config).eval()
    assert flat.head.in_features == 20 * BACKBONE.d_model
    tokens = torch.from_numpy(encode("ACGTACGTACGT")).long()[None]
    padded = flat(torch.cat((tokens, torch.full((1, 3), PAD)), dim=1), torch.tensor([12]))
    torch.testing.assert_close(padded, flat(tokens))
    with torch.no_grad():
        flat.head.weight[:, 12 * BACKBONE.d_model :] += 5  # of places that the sequence does not reach
    torch.testing.assert_close(flat(tokens), padded)


def test_it_can_be_saved_and_learns(tmp_path) -> None:
    placed = model(20)
    placed.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert torch.equal(again.positions, placed.positions)
    tokens = torch.from_numpy(encode("ACGTACGTACGTACGTACGT")).long()[None]
    placed(tokens)[0, 0].backward()
    assert placed.positions.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_longer_sequences_and_other_strands_are_refused() -> None:
    with pytest.raises(UserError, match="positions: expected at most 4 bases, got 5"):
        model(4)(torch.full((1, 5), 7))
    for options, message in (
        ({"strand": "conjoin"}, "positions: expected strand forward beside them, got 'conjoin'"),
        ({"strand": "forward", "frames": 3}, "positions: expected frames 1 beside them"),
    ):
        with pytest.raises(UserError, match=message):
            SequenceModelConfig(BACKBONE, classes=("no", "yes"), positions=9, **options)
    with pytest.raises(UserError, match="positions"):
        SequenceModelConfig(BACKBONE, positions=-1)
