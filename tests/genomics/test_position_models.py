"""What every model with values for positions promises: padding, strands, files, tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import seqmamba
from genomics.allele_models import PairedAlleleModel, PairedAlleleModelConfig
from genomics.alphabet import PAD
from genomics.bin_models import BinnedTrackModel, BinnedTrackModelConfig
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.gene_labels import CODING, GENES, UNKNOWN, reverse_complement_labels
from genomics.segmentation import SegmentationModel, SegmentationModelConfig
from genomics.track_models import TrackModel, predictor
from seqmamba.backbones import BackboneConfig, MultiScaleConfig
from seqmamba.errors import UserError

OUTER = BackboneConfig(8, 1, d_state=4, direction="bidirectional")
BACKBONES = {
    "bidirectional": OUTER,
    "causal": BackboneConfig(8, 1, d_state=4),
    "mamba2": BackboneConfig(64, 1, mixer="mamba2", direction="bidirectional"),
    "multi-scale": MultiScaleConfig(OUTER, pool=(4,)),
}
each_backbone = pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)


def segmenter(backbone: Any = OUTER, **options: Any) -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(SegmentationModelConfig(backbone, **options)).eval()


def tokens_of(batch: int = 2, length: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(7, 12, (batch, length), generator=generator)


@each_backbone
def test_both_strands_agree_with_strand_and_frame_swapped(backbone: Any) -> None:
    tokens, lengths = tokens_of(), torch.tensor([40, 23])
    swapped = list(CODING.complement)
    for strand in ("conjoin", "equivariant"):
        model = segmenter(backbone, strand=strand)
        there = model(reverse_complement_tokens(tokens, lengths), lengths)
        back, here = mirror(there, lengths)[..., swapped], model(tokens, lengths)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(here[row, :length], back[row, :length], rtol=1e-4, atol=1e-5)
        assert model.symmetry_error(2, 33) < 1e-5
    forward = segmenter(backbone, strand="forward")
    assert forward.symmetry_error(2, 33) is None
    there = mirror(forward(reverse_complement_tokens(tokens)))[..., swapped]
    assert (there - forward(tokens)).abs().max() > 1e-2


@each_backbone
def test_padding_does_not_matter(backbone: Any) -> None:
    model = segmenter(backbone)
    tokens, lengths = tokens_of(), torch.tensor([40, 23])
    padded = tokens.clone()
    padded[1, 23:] = PAD
    ours = model(padded, lengths)
    torch.testing.assert_close(ours[1:, :23], model(tokens[1:, :23]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[:1], model(tokens[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strand", ["augment", "equivariant"])
def test_the_loss_is_that_of_the_logits_whatever_the_slices(strand: str) -> None:
    model = segmenter(strand=strand, slice_bases=7).train()
    tokens, lengths = tokens_of(), torch.tensor([40, 23])
    labels = torch.randint(-1, 7, (2, 40), generator=torch.Generator().manual_seed(3))
    labels[1, 23:] = UNKNOWN
    logits = model(tokens, lengths)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN)
    loss = model.loss(tokens, labels.to(torch.int8), lengths)
    torch.testing.assert_close(loss, expected)
    turned = reverse_complement_labels(labels, lengths, CODING)
    other = model.loss(reverse_complement_tokens(tokens, lengths), turned, lengths)
    assert torch.allclose(loss, other) == (strand == "equivariant")
    parts = torch.cat([part for _, part in model.logit_slices(tokens, lengths)], dim=1)
    torch.testing.assert_close(parts, logits)


@pytest.mark.parametrize(
    "name",
    [
        "bidirectional",
        pytest.param("causal", marks=pytest.mark.slow),
        pytest.param("multi-scale", marks=pytest.mark.slow),
    ],
)
def test_it_compiles_as_one_graph(name: str) -> None:
    model = segmenter(BACKBONES[name])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens_of()), model(tokens_of()))


def test_conjoined_training_reads_one_strand() -> None:
    model = segmenter().train()
    given, other = model.strands(tokens_of())
    assert other is None
    assert model.augments
    model.eval()
    assert model.strands(tokens_of())[1] is not None
    torch.testing.assert_close(model.strands(tokens_of())[0], given)


def test_the_gradient_reaches_every_parameter() -> None:
    model = segmenter(BACKBONES["multi-scale"], strand="equivariant", slice_bases=16).train()
    model.loss(tokens_of(), torch.randint(0, 7, (2, 40))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@each_backbone
def test_saved_and_loaded(backbone: Any, tmp_path: Path) -> None:
    tokens, other = tokens_of(1, 20), tokens_of(1, 21, 1)
    models: list[tuple[Any, Callable[[Any], Tensor]]] = [
        (segmenter(backbone, scheme="genes"), lambda m: m.predict(tokens)),
        (BinnedTrackModel(BinnedTrackModelConfig(backbone, bin_size=5)).eval(), lambda m: m(tokens)),
        (
            PairedAlleleModel(PairedAlleleModelConfig(backbone)).eval(),
            lambda m: m(tokens, other),
        ),
    ]
    for model, call in models:
        model.save_pretrained(tmp_path)
        loaded = seqmamba.from_pretrained(tmp_path)
        assert type(loaded) is type(model)
        assert loaded.config == model.config
        assert torch.equal(call(loaded), call(model))


class TestTracks:
    def test_probabilities_along_a_genome(self) -> None:
        model = segmenter(scheme="genes")
        assert isinstance(model, TrackModel)
        tokens, lengths = tokens_of(), torch.tensor([40, 40])
        values = predictor(model)(tokens, lengths, torch.zeros(2, dtype=torch.int64))
        assert predictor(model).targets == GENES.classes
        assert predictor(model).probability
        torch.testing.assert_close(values, model(tokens).softmax(-1))
        torch.testing.assert_close(values.sum(-1), torch.ones(2, 40))

    def test_both_strands_swap_the_targets_that_have_one(self) -> None:
        tokens, lengths = tokens_of(), torch.tensor([40, 31])
        starts = torch.zeros(2, dtype=torch.int64)
        both = predictor(segmenter(strand="forward"), both_strands=True)
        here = both(tokens, lengths, starts)
        there = both(reverse_complement_tokens(tokens, lengths), lengths, starts)
        back = mirror(there, lengths)[..., list(CODING.complement)]
        torch.testing.assert_close(here[0], back[0])
        torch.testing.assert_close(here[1, :31], back[1, :31])

    @pytest.mark.parametrize("loss", ["poisson", "mse"])
    def test_bins(self, loss: Any) -> None:
        config = BinnedTrackModelConfig(OUTER, targets=("a", "b"), bin_size=8, loss=loss)
        model = BinnedTrackModel(config).eval()
        assert isinstance(model, TrackModel)
        values = predictor(model)(tokens_of(), torch.tensor([40, 40]), torch.zeros(2, dtype=torch.int64))
        assert not predictor(model).probability
        assert values.shape == (2, 5, 2)
        assert model.symmetry_error(2, 35) < 1e-5
        targets = torch.rand(2, 5, 2)
        model.train().loss(tokens_of(), targets).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


class TestAlleles:
    def test_alleles_of_different_lengths(self) -> None:
        model = PairedAlleleModel(PairedAlleleModelConfig(OUTER, targets=("x", "y"))).eval()
        one, other = tokens_of(2, 30), tokens_of(2, 33, seed=1)
        effect = model(one, other)
        assert effect.shape == (2, 2)
        assert torch.equal(model(other, one), -effect)
        assert not model(one, one).any()
        padded = torch.nn.functional.pad(one, (0, 4), value=PAD)
        torch.testing.assert_close(model(padded, other, torch.tensor([30, 30])), effect)

    def test_the_strand_does_not_matter(self) -> None:
        model = PairedAlleleModel(PairedAlleleModelConfig(OUTER)).eval()
        one, other = tokens_of(2, 30), tokens_of(2, 33, seed=1)
        there = model(reverse_complement_tokens(one), reverse_complement_tokens(other))
        torch.testing.assert_close(model(one, other), there, rtol=1e-4, atol=1e-6)
        assert model.symmetry_error(2, 30) < 1e-5


def test_a_causal_segmenter_sees_the_left_only() -> None:
    model = segmenter(BACKBONES["causal"], strand="forward", stem_width=1)
    tokens = tokens_of(1)
    changed = tokens.clone()
    changed[0, 30:] = 7
    torch.testing.assert_close(model(tokens)[:, :30], model(changed)[:, :30])


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheme": "exons"},
        {"strand": "both"},
        {"stem_width": 4},
        {"slice_bases": 0},
    ],
)
def test_refused_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))}: expected"):
        SegmentationModelConfig(OUTER, **wrong)
    with pytest.raises(UserError, match="targets"):
        BinnedTrackModelConfig(OUTER, targets=("a", "a"))
    with pytest.raises(UserError, match="targets"):
        PairedAlleleModelConfig(OUTER, targets=())


@pytest.mark.gpu
def test_a_million_bases_train_in_bounded_memory() -> None:
    """One step at 1,048,576 bases; the logits of 15 classes alone would be 63 MB a copy, in float32."""
    backbone = BackboneConfig(64, 2, direction="bidirectional", checkpoint_activations=True)
    model = segmenter(backbone, scheme="genes").cuda().train()
    tokens = tokens_of(1, 1 << 20).cuda()
    labels = torch.randint(-1, 15, tokens.shape, device="cuda", dtype=torch.int8)
    with torch.autocast("cuda", torch.bfloat16):
        states = model.hidden(tokens).detach().requires_grad_()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss = model.head.loss(labels, states)
    loss.backward()
    peak = torch.cuda.max_memory_allocated() - before
    assert loss.isfinite()
    # The gradient of the hidden states, once in slices and once put together, and a slice's work.
    assert peak < 2 * states.numel() * states.element_size() + (64 << 20)
    with torch.autocast("cuda", torch.bfloat16):
        model.loss(tokens, labels).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
