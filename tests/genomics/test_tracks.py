"""Tracks against values computed directly, window by window or on whole chromosomes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from track_cases import (
    BOTH_WAYS,
    CAUSAL,
    LocalModel,
    bases,
    causal,
    classifier,
    masked,
    other_strand,
    scores_of,
    sharpened,
    tokens_of,
    track_values,
    turned,
    write_genome,
)

import genomics.track_outputs
import genomics.tracks
from genomics.alphabet import MASK, A, T
from genomics.fasta import Fasta
from genomics.track_outputs import write_track
from genomics.track_regions import Regions
from genomics.tracks import Track, TrackConfig
from seqmamba.backbones import Backbone, LanguageModel, LanguageModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import AttentionOptions

SEQUENCES = {
    "chr2": bases(700, 1, ((0, 40), (300, 400), (505, 507))),
    "chr10": bases(301, 2),
    "tiny": bases(5, 3),
    "unknown": "N" * 90,
}


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return write_genome(tmp_path / "g.fa", SEQUENCES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genomics.tracks, "BLOCK_BASES", 128)  # several blocks a chromosome
    monkeypatch.setattr(genomics.track_outputs, "_ROWS", 50)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=atol, err_msg=name)


@torch.no_grad()
def windows_by_hand(
    model: nn.Module, window: int, step: int, max_n: float = 0.5, both: bool = False
) -> dict[str, np.ndarray]:
    """One value a step: the probability of the second class for the window around its middle."""
    result = {}
    for name, letters in SEQUENCES.items():
        values = np.full(len(letters), np.nan)
        for start in range(0, len(letters), step):
            left = start + step // 2 - window // 2
            piece = letters[max(0, left) : left + window]
            own = letters[start : start + step]
            if not piece or set(own) == {"N"} or piece.count("N") / len(piece) > max_n:
                continue
            value = model.predict(tokens_of(piece))[0, 1]
            if both:
                value = (value + model.predict(turned(tokens_of(piece)))[0, 1]) / 2
            values[start : start + step] = value
        result[name] = values
    return result


@pytest.mark.parametrize(("window", "step"), [(30, 7), (31, 10), (64, 64), (10, 25), (1, 1)])
def test_one_value_a_window(genome: Path, tmp_path: Path, window: int, step: int) -> None:
    (found,) = track_values(classifier(), genome, tmp_path / "s", window=window, step=step)
    assert_same(found, windows_by_hand(classifier(), window, step))


@pytest.mark.parametrize("max_n", [0.0, 0.25, 1.0])
def test_windows_with_more_n_are_left_out(genome: Path, tmp_path: Path, max_n: float) -> None:
    (found,) = track_values(classifier(), genome, tmp_path / "s", window=20, step=5, max_n=max_n)
    assert_same(found, windows_by_hand(classifier(), 20, 5, max_n))
    assert np.isnan(found["unknown"]).all()


def test_both_strands_of_a_model_that_reads_one(genome: Path, tmp_path: Path) -> None:
    model = classifier("forward")
    (one,) = track_values(model, genome, tmp_path / "s", window=30, step=10)
    (both,) = track_values(model, genome, tmp_path / "s", window=30, step=10, both_strands=True)
    assert_same(both, windows_by_hand(model, 30, 10, both=True))
    assert np.nanmax(np.abs(both["chr2"] - one["chr2"])) > 1e-4


def test_targets_of_several_classes(genome: Path, tmp_path: Path) -> None:
    model = classifier(classes=("x", "y", "z"))
    everything = track_values(model, genome, tmp_path / "s", window=20, step=10)
    total = sum(target["chr10"] for target in everything)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    (chosen,) = track_values(model, genome, tmp_path / "s", window=20, step=10, targets=["y"])
    assert_same(chosen, everything[1], atol=0)


@pytest.mark.parametrize("batch_bases", [1, 100, 100_000])
def test_batches_do_not_matter(genome: Path, tmp_path: Path, batch_bases: int) -> None:
    for model, options in ((classifier(), {"step": 9}), (masked(), {}), (causal(), {"window": 80})):
        reference = track_values(model, genome, tmp_path / "s", **options)
        found = track_values(model, genome, tmp_path / "s", batch_bases=batch_bases, **options)
        for one, two in zip(reference, found, strict=True):
            assert_same(one, two)


@pytest.mark.parametrize("unit", [1, 8])
@pytest.mark.parametrize("window", [24, 64, 1024])
def test_trimmed_windows_are_the_whole_chromosome(
    genome: Path, tmp_path: Path, unit: int, window: int
) -> None:
    """With an overlap that covers what the model sees, no window can be told from the whole."""
    model = LocalModel(reach=4, track_bin=unit)
    overlap = 16
    found = track_values(model, genome, tmp_path / "s", window=window, overlap=overlap, max_n=1)
    for target in range(2):
        expected = {}
        for name, letters in SEQUENCES.items():
            filled = letters + "N" * (-len(letters) % unit)
            values = model.predict_track(tokens_of(filled), torch.tensor([len(filled)]))[0, :, target]
            known = np.array([set(letters[i : i + unit]) != {"N"} for i in range(0, len(letters), unit)])
            rows = np.where(known, values.detach().numpy(), np.nan)
            expected[name] = np.repeat(rows, unit)[: len(letters)]
        assert_same(found[target], expected)


def test_both_strands_of_a_head_for_bins(genome: Path, tmp_path: Path) -> None:
    model = LocalModel(reach=2, track_bin=8)
    found, _ = track_values(
        model, genome, tmp_path / "s", chroms=["chr10"], window=64, overlap=16, both_strands=True
    )
    letters = SEQUENCES["chr10"] + "N" * 3
    tokens, lengths = tokens_of(letters), torch.tensor([len(letters)])
    values = model.predict_track(tokens, lengths)
    values = (values + other_strand(model.predict_track(turned(tokens), lengths))) / 2
    expected = np.repeat(values[0, :, 0].detach().numpy(), 8)[:-3]
    np.testing.assert_allclose(found["chr10"], expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("every", [0, 1, 5])
def test_masked_model_scores_hidden_bases(
    genome: Path, tmp_path: Path, equivariant: bool, every: int
) -> None:
    model = masked(equivariant)
    (found,) = track_values(
        model, genome, tmp_path / "s", chroms=["10"], window=1000, overlap=0, mask_every=every
    )
    letters = SEQUENCES["chr10"]
    tokens = tokens_of(letters)
    expected = np.full(len(letters), np.nan)
    for phase in range(max(1, every)):
        hidden = tokens.clone()
        if every:
            hidden[:, phase::every] = MASK
        chosen = slice(phase, None, every or None)
        expected[chosen] = scores_of(model(hidden)[0], letters)[chosen]
    np.testing.assert_allclose(found["chr10"], expected, atol=1e-5)
    assert np.isnan(found["chr2"]).all()  # not asked for


def test_masks_do_not_depend_on_the_windows(genome: Path, tmp_path: Path) -> None:
    """A model that sees two bases gives the same scores whatever the windows are."""
    attention = AttentionOptions(n_heads=2, window=3)
    local = replace(BOTH_WAYS, mixer="attention", attention=attention, n_layers=2)
    torch.manual_seed(0)
    model = sharpened(LanguageModel(LanguageModelConfig(local, vocab_size=12))).eval()
    options = {"mask_every": 7, "max_n": 1}
    (one,) = track_values(model, genome, tmp_path / "s", window=100, overlap=20, **options)
    (two,) = track_values(model, genome, tmp_path / "s", window=64, overlap=10, **options)
    assert_same(one, two)


@torch.no_grad()
def test_masked_both_strands_is_symmetric(tmp_path: Path) -> None:
    letters = bases(50, 7)
    other = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    genome = write_genome(tmp_path / "g.fa", {"one": letters, "other": other})
    options = {"window": 50, "overlap": 0, "mask_every": 0, "both_strands": True}
    for model in (masked(), masked(equivariant=True)):
        (found,) = track_values(model, genome, tmp_path / "s", **options)
        np.testing.assert_allclose(found["one"], found["other"][::-1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("both", [False, True])
def test_carried_state_is_the_whole_chromosome(genome: Path, tmp_path: Path, both: bool) -> None:
    model = causal()
    (found,) = track_values(model, genome, tmp_path / "s", both_strands=both)
    expected = {}
    for name, letters in SEQUENCES.items():
        values = next_base_scores(model, letters)
        if both:
            flipped = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            other = next_base_scores(model, flipped)[::-1]
            values = np.where(
                np.isnan(values), other, (values + np.where(np.isnan(other), values, other)) / 2
            )
        expected[name] = values
    assert_same(found, expected)


def next_base_scores(model: LanguageModel, letters: str) -> np.ndarray:
    logits = model(tokens_of(letters))[0]
    scores = scores_of(torch.cat((logits[:1], logits[:-1])), letters)
    scores[0] = np.nan
    return scores


@pytest.mark.parametrize("chunk", [1, 13, 5000])
def test_chunks_do_not_matter(genome: Path, tmp_path: Path, chunk: int) -> None:
    (reference,) = track_values(causal(), genome, tmp_path / "s")
    (found,) = track_values(causal(), genome, tmp_path / "s", batch_bases=chunk)
    assert_same(found, reference)


def test_causal_windows_have_their_context_on_the_left(genome: Path, tmp_path: Path) -> None:
    (found,) = track_values(causal(), genome, tmp_path / "s", window=60, overlap=40, chroms=["chr10"])
    letters = SEQUENCES["chr10"]
    expected = np.full(len(letters), np.nan)
    with torch.no_grad():
        for start in range(0, len(letters), 20):
            left = max(0, start - 40)
            piece = next_base_scores(causal(), letters[left : start + 20])
            expected[start : start + 20] = piece[start - left :]
    np.testing.assert_allclose(found["chr10"], expected, atol=1e-5)


@torch.no_grad()
def test_causal_windows_of_both_strands_have_context_on_both_sides(genome: Path, tmp_path: Path) -> None:
    options = {"window": 60, "overlap": 20, "chroms": ["chr10"], "both_strands": True}
    (found,) = track_values(causal(), genome, tmp_path / "s", **options)
    letters = SEQUENCES["chr10"]
    for start in range(0, len(letters), 40):
        left = max(0, start - 10)
        piece = letters[left : start + 50]
        one = next_base_scores(causal(), piece)
        other = next_base_scores(causal(), piece.translate(str.maketrans("ACGT", "TGCA"))[::-1])[::-1]
        mean = np.where(np.isnan(one), other, np.where(np.isnan(other), one, (one + other) / 2))
        expected = mean[start - left :][:40]
        np.testing.assert_allclose(found["chr10"][start : start + 40], expected, atol=1e-5)


def test_entropy_is_in_bits(genome: Path, tmp_path: Path) -> None:
    likelihood, entropy = track_values(
        causal(), genome, tmp_path / "s", targets=["log_likelihood", "entropy"], chroms=["chr10"]
    )
    letters = SEQUENCES["chr10"]
    with torch.no_grad():
        p = causal()(tokens_of(letters))[0, :-1, A : T + 1].double().softmax(-1).numpy()
    np.testing.assert_allclose(entropy["chr10"][1:], -(p * np.log2(p)).sum(axis=1), atol=1e-5)
    assert np.nanmax(likelihood["chr10"]) <= 0


@pytest.mark.parametrize("bin_size", [10, 50, 1000])
def test_bins_average_what_is_known(genome: Path, tmp_path: Path, bin_size: int) -> None:
    (fine,) = track_values(causal(), genome, tmp_path / "s")
    (coarse,) = track_values(causal(), genome, tmp_path / "s", bin_size=bin_size)
    for name, values in fine.items():
        for start in range(0, len(values), bin_size):
            piece = values[start : start + bin_size]
            expected = np.nan if np.isnan(piece).all() else np.nanmean(piece)
            np.testing.assert_allclose(coarse[name][start : start + bin_size], expected, atol=1e-5)


REGIONS = "2\t35\t44\nchr2\t100\t210\nchr2\t200\t215\tname\t0\t-\nchr10\t300\t301\n"


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bin_size", [None, 36])
@pytest.mark.parametrize("kind", ["sequence", "masked", "causal", "head"])
def test_regions_have_the_values_of_the_whole_genome(
    genome: Path, tmp_path: Path, kind: str, bin_size: int | None, both: bool
) -> None:
    model, options = {
        "sequence": (classifier("forward"), {"window": 30, "step": 12}),
        "masked": (masked(), {"window": 50, "overlap": 20}),
        "causal": (causal(), {}),
        "head": (LocalModel(), {"window": 50, "overlap": 20}),
    }[kind]
    bed = tmp_path / "r.bed"
    bed.write_text(REGIONS)
    options = {**options, "bin_size": bin_size, "both_strands": both}
    whole = track_values(model, genome, tmp_path / "s", **options)
    parts = track_values(model, genome, tmp_path / "s", bed=bed, **options)
    mask = {name: np.zeros(len(letters), dtype=bool) for name, letters in SEQUENCES.items()}
    mask["chr2"][35:44] = mask["chr2"][100:215] = mask["chr10"][300:] = True
    for one, two in zip(whole, parts, strict=True):
        assert_same(two, {name: np.where(mask[name], values, np.nan) for name, values in one.items()})


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_genome_and_any_options(data: st.DataObject, tmp_path: Path) -> None:
    """Every known base of every contig has one value, and no other base has any."""
    contigs = data.draw(
        st.dictionaries(
            st.from_regex(r"[A-Za-z0-9_.|*]{1,8}", fullmatch=True),
            st.text("ACGTNacgtnRYK", min_size=1, max_size=150),
            min_size=1,
            max_size=5,
        )
    )
    window = 2 * data.draw(st.integers(1, 40))
    overlap = 2 * data.draw(st.integers(0, (window - 1) // 2))
    genome = write_genome(tmp_path / "g.fa", contigs, data.draw(st.integers(1, 80)))
    (tmp_path / "g.fa.fai").unlink(missing_ok=True)
    found = track_values(
        LocalModel(),
        genome,
        tmp_path / "s",
        window=window,
        overlap=overlap,
        max_n=1,
        batch_bases=data.draw(st.integers(1, 300)),
    )
    for name, letters in contigs.items():
        known = np.array([letter in "ACGT" for letter in letters.upper()])
        assert (np.isfinite(found[0][name]) == known).all()


def test_memory_does_not_grow_with_the_chromosome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genomics.tracks, "BLOCK_BASES", 2**15)
    monkeypatch.setattr(genomics.track_outputs, "_ROWS", 2**14)
    model = LocalModel(targets=("a",))

    def peak(length: int) -> int:
        genome = write_genome(tmp_path / f"{length}.fa", {"c": bases(length)})
        track = Track(model, Fasta(genome), Regions(Fasta(genome)), TrackConfig(batch_bases=2**14))
        tracemalloc.start()
        write_track(track, tmp_path / f"{length}.bw")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(50_000)  # what is imported and cached on first use
    short, long = peak(150_000), peak(900_000)
    assert long < short + 100_000  # a value a base alone would be 3.6 MB


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (classifier, {"window": 65}, "--window: expected at most 64 bases"),
        (classifier, {"overlap": 4}, "--overlap: is not for models that give one value a window"),
        (causal, {"overlap": 4}, "--overlap: is not for models that carry their state"),
        (masked, {"step": 4}, "--step: is for models that give one value a window"),
        (masked, {"window": 10, "overlap": 10}, "--overlap: expected 0 to 9"),
        (masked, {"mask_every": -1}, "--mask-every: expected 0"),
        (masked, {"max_n": 1.5}, "--max-n: expected a share from 0 to 1, got 1.5"),
        (masked, {"batch_bases": 0}, "--batch-bases: expected a positive number, got 0"),
        (masked, {"bin_size": 0}, "--bin: expected a multiple of the 1 bases"),
        (classifier, {"step": 7, "bin_size": 10}, "--bin: expected a multiple of the 7 bases"),
        (masked, {"targets": ["x"]}, "--target: expected one of log_likelihood, entropy, got 'x'"),
        (classifier, {"chroms": ["chrZ"]}, "has no sequence named 'chrZ'"),
        (lambda: Backbone(CAUSAL), {}, "got Backbone"),
        (lambda: LanguageModel(LanguageModelConfig(CAUSAL, vocab_size=8)), {}, "at least 12 token ids"),
    ],
)
def test_refusals(genome: Path, tmp_path: Path, model: object, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        track_values(model(), genome, tmp_path / "s", **options)  # type: ignore[operator]


def test_a_model_that_gives_nan_is_named(genome: Path, tmp_path: Path) -> None:
    for model, options in ((classifier(), {}), (masked(), {}), (causal(), {}), (causal(), {"window": 50})):
        with torch.no_grad():
            next(model.backbone.parameters()).fill_(torch.nan)
        with pytest.raises(UserError, match="the model gives NaN or infinite values"):
            track_values(model, genome, tmp_path / "s", **options)
        for left in (tmp_path / "s").iterdir():
            left.unlink()


@pytest.mark.parametrize(
    ("bed", "words"),
    [
        ("chr2\t0\t701\n", "r.bed:1: chr2:0-701 ends past the end of chr2, which has 700 bases"),
        ("chr2\t0\t10\nchr7\t0\t10\n", "r.bed:2: .* has no sequence named 'chr7'"),
        ("chr10\t0\t10\n", "r.bed: has no interval on the chosen chromosomes"),
    ],
)
def test_regions_that_do_not_fit(genome: Path, tmp_path: Path, bed: str, words: str) -> None:
    (tmp_path / "r.bed").write_text(bed)
    with pytest.raises(UserError, match=words):
        Regions(Fasta(genome), ["chr2"], tmp_path / "r.bed")
