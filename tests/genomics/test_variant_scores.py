"""Every score against a computation written out base by base, for every kind of allele and place."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from variant_cases import (
    BIDIRECTIONAL,
    allele_model,
    expected_windows,
    genome_letters,
    language_model,
    masked_model,
    other_base,
    plant_model,
    sequence_model,
    tokens,
    variant,
    write_genome,
)

from genomics.allele_models import PairedAlleleModel
from genomics.alphabet import MASK, encode
from genomics.fasta import Fasta
from genomics.masked_model import MaskedModel
from genomics.models import SequenceModel
from genomics.variant_likelihoods import FLANK, STRIDE
from genomics.variant_scores import VariantScorer
from genomics.variants import Haplotypes, VariantWindows
from seqmamba.backbones import Backbone, LanguageModel
from seqmamba.errors import UserError

LETTERS = genome_letters()
WINDOW = 64
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")

# In the middle, at both ends, in the repeat, beside the unknown bases: (position, length of REF, ALT).
CASES = {
    "snv": (120, 1, "+"),
    "snv at the start": (1, 1, "+"),
    "snv near the end": (398, 1, "+"),
    "snv at the end": (400, 1, "+"),
    "snv beside N": (299, 1, "+"),
    "mnv with a base that stays": (200, 3, "+?+"),
    "insertion": (120, 1, "?GATTACA"),
    "insertion at the end": (400, 1, "?GATTACA"),
    "insertion in a repeat": (150, 1, "?CA"),
    "deletion": (220, 9, "?"),
    "deletion in a repeat": (150, 3, "?"),
    "deletion at the start": (1, 5, "?"),
    "deletion at the end": (392, 9, "?"),
    "deletion beside N": (290, 8, "?"),
    "replacement": (70, 5, "GG"),
}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Fasta:
    return write_genome(tmp_path_factory.mktemp("g") / "g.fa", chr1=LETTERS)


def alleles(case: str) -> tuple[int, str, str]:
    position, length, pattern = CASES[case]
    ref = LETTERS[position - 1 : position - 1 + length]
    alt = "".join(
        {"+": other_base(ref[i % length]), "?": ref[i % length]}.get(c, c) for i, c in enumerate(pattern)
    )
    return position, ref, alt


def haplotypes(genome: Fasta, case: str) -> Haplotypes:
    position, ref, alt = alleles(case)
    found = VariantWindows(genome, WINDOW).at(variant("chr1", position, ref, alt)).alleles[0]
    assert isinstance(found, Haplotypes)
    return found


def turned(letters: str) -> str:
    return letters.translate(COMPLEMENT)[::-1]


def log_p(model: nn.Module, letters: Tensor) -> np.ndarray:
    """ln p of A, C, G and T at every position, one sequence at a time."""
    ids = letters
    if isinstance(model, MaskedModel):
        ids = torch.from_numpy(model.config.vocabulary.from_alphabet(letters.numpy().astype(np.uint8))).long()
        columns = list((model.config.vocabulary.bases or ())[:4])
    else:
        columns = [7, 8, 9, 10]
    with torch.no_grad():
        logits = model(ids)[0].double().numpy()[:, columns]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def masked_by_hand(model: nn.Module, case: str, *, reverse: bool) -> tuple[float, float]:
    """LLR and PLLR."""
    position, ref, alt = alleles(case)
    expected = expected_windows(LETTERS, position, ref, alt, WINDOW)
    sequences, spans = [expected.ref, expected.alt], [expected.ref_span, expected.alt_span]
    if reverse:
        sequences = [turned(letters) for letters in sequences]
        spans = [(len(expected.ref) - end, len(expected.ref) - start) for start, end in spans]
    if len(ref) == len(alt):
        hidden = tokens(sequences[0])
        places = [i for i, (r, a) in enumerate(zip(*sequences, strict=True)) if r != a]
        hidden[0, places] = MASK
        rows = log_p(model, hidden)
        total = sum(
            rows[i, "ACGT".index(sequences[1][i])] - rows[i, "ACGT".index(sequences[0][i])] for i in places
        )
        return total, math.nan
    means = []
    for letters, (start, end) in zip(sequences, spans, strict=True):
        places = [
            i for i in range(max(start - FLANK, 0), min(end + FLANK, len(letters))) if letters[i] != "N"
        ]
        values = []
        for phase in range(STRIDE):
            hidden = tokens(letters)
            hidden[0, places[phase::STRIDE]] = MASK
            rows = log_p(model, hidden)
            values += [rows[i, "ACGT".index(letters[i])] for i in places[phase::STRIDE]]
        assert len(values) == len(places)
        means.append(sum(values) / len(values))
    return math.nan, means[1] - means[0]


def causal_by_hand(model: nn.Module, case: str, *, reverse: bool) -> tuple[float]:
    expected = expected_windows(LETTERS, *alleles(case), WINDOW)
    sums = []
    for letters in (expected.ref, expected.alt):
        read = turned(letters) if reverse else letters
        rows = log_p(model, tokens(read))
        sums.append(sum(rows[i - 1, "ACGT".index(read[i])] for i in range(1, len(read)) if read[i] != "N"))
    return (sums[1] - sums[0],)


def features_by_hand(model: nn.Module, case: str, *, reverse: bool) -> tuple[float, float]:
    expected = expected_windows(LETTERS, *alleles(case), WINDOW)
    rows = []
    for letters in (expected.ref, expected.alt):
        ids = tokens(turned(letters) if reverse else letters)
        with torch.no_grad():
            if isinstance(model, MaskedModel):
                own = model.config.vocabulary.from_alphabet(ids.numpy().astype(np.uint8))
                found = model.embed(torch.from_numpy(own).long())[0]
            elif isinstance(model, SequenceModel):
                found = model.embed(ids)[0]
            elif isinstance(model, PairedAlleleModel):
                found = model.features(ids)[0]
            else:
                assert isinstance(model, LanguageModel)
                found = model.backbone(model.embedding(ids))[0].mean(dim=0)
        rows.append(found.double().numpy())
    ref, alt = rows
    cosine = ref @ alt / math.sqrt((ref @ ref) * (alt @ alt))
    return 1 - cosine, math.sqrt(((alt - ref) ** 2).sum())


def delta_by_hand(model: nn.Module, case: str, *, reverse: bool) -> tuple[float, ...]:
    assert isinstance(model, SequenceModel)
    expected = expected_windows(LETTERS, *alleles(case), WINDOW)
    rows = []
    for letters in (expected.ref, expected.alt):
        with torch.no_grad():
            logits = model(tokens(turned(letters) if reverse else letters))[0].double()
        p = model.to_predictions(logits).numpy()
        rows.append(p if model.config.task == "regression" else np.log(p) - np.log1p(-p))
    return tuple(rows[1] - rows[0])


def effect_by_hand(model: nn.Module, case: str, *, reverse: bool) -> tuple[float, ...]:
    expected = expected_windows(LETTERS, *alleles(case), WINDOW)
    ref, alt = (tokens(turned(letters) if reverse else letters) for letters in (expected.ref, expected.alt))
    with torch.no_grad():
        return tuple(model(ref, alt)[0].tolist())


MODELS: dict[str, tuple[Callable[[], nn.Module], str, Callable[..., tuple[float, ...]], bool]] = {
    "equivariant masked": (masked_model, "llr", masked_by_hand, True),
    "plant vocabulary": (plant_model, "llr", masked_by_hand, False),
    "bidirectional language": (lambda: language_model(BIDIRECTIONAL), "llr", masked_by_hand, False),
    "causal": (language_model, "llr", causal_by_hand, False),
    "masked features": (masked_model, "embedding", features_by_hand, True),
    "plant features": (plant_model, "embedding", features_by_hand, False),
    "causal features": (lambda: language_model(head=False), "embedding", features_by_hand, False),
    "pooled features": (lambda: sequence_model(strand="forward"), "embedding", features_by_hand, False),
    "classes": (sequence_model, "delta", delta_by_hand, True),
    "classes, one strand": (lambda: sequence_model(strand="forward"), "delta", delta_by_hand, False),
    "labels": (lambda: sequence_model("multilabel", "augment"), "delta", delta_by_hand, False),
    "effects": (allele_model, "delta", effect_by_hand, True),
    "effects, one strand": (lambda: allele_model("augment"), "delta", effect_by_hand, False),
    "allele features": (allele_model, "embedding", features_by_hand, True),
    "values": (lambda: sequence_model("regression", "equivariant"), "delta", delta_by_hand, True),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_score_of_every_allele_is_the_one_computed_by_hand(genome: Fasta, name: str) -> None:
    build, kind, by_hand, symmetric = MODELS[name]
    model = build()
    pairs = [haplotypes(genome, case) for case in CASES]
    scorer = VariantScorer(model, [kind], "each", batch_bases=5 * WINDOW)
    values, failed = scorer(pairs)
    assert not failed.any()
    averaged, _ = VariantScorer(model, [kind], "both")(pairs)
    forward, _ = VariantScorer(model, [kind], "forward")(pairs)
    for row, case in enumerate(CASES):
        plus = np.array(by_hand(model, case, reverse=False))
        minus = np.array(by_hand(model, case, reverse=True))
        found = values[row].reshape(-1, 3)
        assert found[:, 1] == pytest.approx(plus, abs=2e-5, nan_ok=True), case
        assert found[:, 2] == pytest.approx(minus, abs=2e-5, nan_ok=True), case
        assert found[:, 0] == pytest.approx((plus + minus) / 2, abs=2e-5, nan_ok=True), case
        assert averaged[row] == pytest.approx(found[:, 0], abs=2e-5, nan_ok=True)
        assert forward[row] == pytest.approx(found[:, 1], abs=2e-5, nan_ok=True)
        if symmetric:
            assert minus == pytest.approx(plus, abs=2e-5, nan_ok=True)
    largest = np.nanmax(np.abs(values), axis=0)
    assert (largest > 1e-3).all()  # the comparison is not one of zeros
    if not symmetric:
        apart = values.reshape(len(pairs), -1, 3)
        assert (np.nanmax(np.abs(apart[..., 1] - apart[..., 2]), axis=0) > 1e-3).all()


@pytest.mark.parametrize("build", [lambda: masked_model(equivariant=False), language_model, sequence_model])
def test_the_genome_read_from_the_other_end_swaps_the_strands(
    genome: Fasta, tmp_path: Path, build: Callable[[], nn.Module]
) -> None:
    other = write_genome(tmp_path / "rc.fa", chr1=turned(LETTERS))
    here, there = [], []
    for position in (1, 7, 120, 250, 399, 400):
        ref, alt = LETTERS[position - 1], other_base(LETTERS[position - 1])
        # An odd window has the same bases around a substitution whichever way it is read.
        site = VariantWindows(genome, 63).at(variant("chr1", position, ref, alt))
        mirrored = variant("chr1", len(LETTERS) + 1 - position, turned(ref), turned(alt))
        here += list(site.alleles)
        there += list(VariantWindows(other, 63).at(mirrored).alleles)
    scorer = VariantScorer(build(), None, "each")
    (values, _), (swapped, _) = scorer(here), scorer(there)  # type: ignore[arg-type]
    values, swapped = (rows.reshape(len(here), -1, 3) for rows in (values, swapped))
    np.testing.assert_allclose(swapped, values[..., [0, 2, 1]], atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_gives_the_scores_of_the_cpu(genome: Fasta, name: str) -> None:
    build, kind, _, _ = MODELS[name]
    pairs = [haplotypes(genome, case) for case in CASES]
    expected, _ = VariantScorer(build(), [kind], "each")(pairs)
    found, failed = VariantScorer(build().cuda(), [kind], "each", batch_bases=5 * WINDOW)(pairs)
    assert not failed.any()
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


def test_names_follow_the_model_and_the_strands() -> None:
    def names(model: nn.Module, *kinds: str, strands: str = "both") -> list[str]:
        return [score.name for score in VariantScorer(model, kinds or None, strands).scores]  # type: ignore[arg-type]

    assert names(masked_model()) == ["LLR", "PLLR"]
    assert names(language_model()) == ["LLR"]
    assert names(language_model(), strands="each") == ["LLR", "LLR_FWD", "LLR_RC"]
    assert names(allele_model()) == ["DELTA_liver", "DELTA_brain"]
    assert names(sequence_model()) == ["DELTA_a", "DELTA_b c", "DELTA_d"]
    assert names(sequence_model(), "embedding", "delta", "embedding")[:3] == ["COSINE", "L2", "DELTA_a"]
    assert names(language_model(head=False)) == ["COSINE", "L2"]


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (masked_model, "delta", "--scores delta: a MaskedModel gives llr and embedding"),
        (sequence_model, "llr", "--scores llr: a SequenceModel gives delta and embedding"),
        (lambda: language_model(head=False), "llr", "gives embedding (it has no head)"),
        (
            lambda: Backbone(BIDIRECTIONAL),
            "llr",
            "expected a sequence model, a model of pairs",
        ),
    ],
)
def test_a_score_that_the_model_cannot_give_is_refused(
    build: Callable[[], nn.Module], kind: str, message: str
) -> None:
    with pytest.raises(UserError) as failure:
        VariantScorer(build(), [kind])
    assert message in failure.value.message


def test_equal_windows_are_run_once(genome: Fasta) -> None:
    model = masked_model()
    rows = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    handle = model.register_forward_pre_hook(count)
    ref = LETTERS[119]
    site = VariantWindows(genome, WINDOW).at(
        variant("chr1", 120, ref, *(other_base(ref, i) for i in (1, 2, 3)))
    )
    pairs = [pair for pair in site.alleles if isinstance(pair, Haplotypes)]
    VariantScorer(model)(pairs * 2)
    handle.remove()
    assert len(pairs) == 3
    assert rows == 1  # the site is hidden, so three alleles and their repetition ask one question


def test_what_is_no_number_is_reported_and_stays_with_its_allele(genome: Fasta) -> None:
    model = masked_model()
    pairs = [haplotypes(genome, case) for case in ("snv", "snv at the end", "insertion")]
    scorer = VariantScorer(model)
    clean, _ = scorer(pairs)
    broken = pairs[1].ref.copy()
    broken[5] = encode("N")[0]
    poisoned = Haplotypes(broken, broken.copy(), (63, 64), (63, 64), substitution=True)
    poisoned.alt[63] = pairs[1].alt[63]
    with torch.no_grad():
        model.language_model.embedding.weight[11] = torch.nan  # N
    values, failed = scorer([pairs[0], poisoned, pairs[2]])
    assert failed.tolist() == [False, True, False]
    assert np.isnan(values[1]).all()
    np.testing.assert_allclose(values[[0, 2]], clean[[0, 2]], atol=1e-6)


def test_no_pairs_give_no_rows() -> None:
    values, failed = VariantScorer(sequence_model())([])
    assert values.shape == (0, 3)
    assert failed.shape == (0,)


def test_an_allele_alone_among_unknown_bases_has_no_mean(tmp_path: Path) -> None:
    genome = write_genome(tmp_path / "g.fa", c="N" * 30 + "ACG" + "N" * 30)
    site = VariantWindows(genome, 32).at(variant("c", 31, "ACG", "N", "A"))
    pairs = [found for found in site.alleles if isinstance(found, Haplotypes)]
    values, failed = VariantScorer(masked_model())(pairs)
    assert np.isfinite(values[:, 1]).tolist() == [True]
    alone = Haplotypes(
        encode("N" * 8 + "ACG" + "N" * 21), encode("N" * 32), (8, 11), (8, 8), substitution=False
    )
    values, failed = VariantScorer(masked_model())([alone])
    assert np.isnan(values).all()
    assert not failed.any()
