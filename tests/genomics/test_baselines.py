from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled import make_records, random_dna, reverse_complement

from genomics.alphabet import encode
from genomics.baselines import Problem, composition_baseline, run_baselines
from genomics.cnn import (
    MAX_LENGTH,
    BothStrandsCnn,
    CodedSequences,
    fit_cnn,
    predict_cnn,
    reverse_complement_codes,
)
from genomics.datasets.records import LabelledSequences
from genomics.kmers import base_codes
from seqmamba.errors import UserError
from seqmamba.linear import fit_linear

MOTIF = "TGACTCAGCA"


def with_motif(rng: np.random.Generator, n: int, length: int = 80) -> tuple[LabelledSequences, np.ndarray]:
    """Half of the sequences hold a motif, on either strand."""
    sequences, labels = [], []
    for i in range(n):
        sequence = random_dna(rng, length)
        if i % 2:
            motif = MOTIF if rng.random() < 0.5 else reverse_complement(MOTIF)
            at = int(rng.integers(0, length - len(motif)))
            sequence = sequence[:at] + motif + sequence[at + len(motif) :]
        sequences.append(sequence)
        labels.append(i % 2)
    parts = np.array((["train"] * 3 + ["validation", "test"]) * (n // 5) + ["test"] * (n % 5))
    return make_records(sequences, labels), rng.permutation(parts)


def test_each_baseline_sees_what_it_should() -> None:
    records, parts = with_motif(np.random.default_rng(0), 1500)
    results = run_baselines(records, parts, cnn_seconds=5)
    accuracy = {name: result.metrics["accuracy"].value for name, result in results.items()}
    assert list(accuracy) == ["length_gc", "kmer", "cnn"]
    assert accuracy["length_gc"] < 0.65
    assert accuracy["kmer"] > 0.8
    assert accuracy["cnn"] > 0.95
    n_test = int(np.sum(parts == "test"))
    for result in results.values():
        assert result.probabilities.shape == (n_test, 2)
        np.testing.assert_allclose(result.probabilities.sum(1), 1, atol=1e-5)


def test_the_same_seed_gives_the_same_numbers() -> None:
    records, parts = with_motif(np.random.default_rng(0), 300)
    state = torch.get_rng_state()
    first, second = (run_baselines(records, parts, seed=3, cnn_seconds=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name in first:
        np.testing.assert_array_equal(first[name].probabilities, second[name].probabilities)
    other = run_baselines(records, parts, seed=4, cnn_seconds=1)
    assert (other["cnn"].probabilities != first["cnn"].probabilities).any()
    np.testing.assert_array_equal(other["kmer"].probabilities, first["kmer"].probabilities)


def test_a_length_that_only_one_class_has_is_found() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    # Means and quartiles agree; the classes differ in being even or odd.
    lengths = 100 + 2 * rng.integers(0, 10, 400) + labels
    records = make_records([random_dna(rng, int(length)) for length in lengths], labels)
    parts = np.array(["train", "train", "train", "train", "validation", "validation", "test", "test"] * 50)
    problem = Problem.build(records, parts)
    assert composition_baseline(problem, "length", ("length",)).metrics["accuracy"].value > 0.95
    assert composition_baseline(problem, "gc", ("gc",)).metrics["accuracy"].value < 0.7


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks(task: str) -> None:
    rng = np.random.default_rng(0)
    content = rng.uniform(0.2, 0.8, 400)
    records = make_records(
        [random_dna(rng, 100, gc) for gc in content],
        np.stack([content > 0.5, content < 0.3], 1).astype(np.float32)
        if task == "multilabel"
        else np.stack([100 * content + 500, content], 1).astype(np.float32),
        task=task,
        classes=("a", "b"),
    )
    parts = rng.permutation(np.array(["train"] * 240 + ["validation"] * 80 + ["test"] * 80))
    results = run_baselines(records, parts, cnn_seconds=2)
    metric = "auroc" if task == "multilabel" else "pearson"
    for name in ("length_gc", "kmer"):
        assert results[name].metrics[metric].value > 0.85, name
    assert results["cnn"].metrics[metric].value > 0.6
    if task == "regression":
        assert results["kmer"].probabilities[:, 0].mean() == pytest.approx(550, abs=5)


def test_an_empty_part_is_named() -> None:
    records = make_records(["ACGT"] * 2, [0, 1])
    with pytest.raises(UserError, match="the validation part has no sequence"):
        run_baselines(records, np.array(["train", "test"]))


def test_ridge_regression_recovers_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 3, generator=generator) * torch.tensor([1.0, 50.0, 0.01]) + 7
    features = torch.cat([features, torch.ones(500, 1)], 1)  # a constant feature must do no harm
    truth = torch.tensor([[2.0], [0.1], [30.0], [0.0]])
    targets = features @ truth + 5
    model = fit_linear(features[:400], targets[:400], (features[400:], targets[400:]), "regression", 1)
    torch.testing.assert_close(model(features), targets, atol=0.1, rtol=0.01)


def coded(*sequences: str) -> CodedSequences:
    return CodedSequences.from_flat(*base_codes([encode(sequence) for sequence in sequences]))


def test_reverse_complement_of_padded_codes() -> None:
    sequences = coded("AACGN", "GT")
    other = reverse_complement_codes(*sequences.take(torch.tensor([0, 1])))
    assert other.tolist() == [[4, 1, 2, 3, 3], [0, 1, 4, 4, 4]]


def test_padding_does_not_change_the_cnn() -> None:
    rng = np.random.default_rng(0)
    texts = [random_dna(rng, length) for length in (1, 7, 33, 50, 301)]
    model = BothStrandsCnn(3).eval()
    together = predict_cnn(model, coded(*texts), torch.arange(5))
    alone = torch.cat([predict_cnn(model, coded(text), torch.tensor([0])) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_predictions_come_in_the_order_asked_for() -> None:
    rng = np.random.default_rng(0)
    sequences = coded(*(random_dna(rng, length) for length in (90, 20, 60)))
    model = BothStrandsCnn(2).eval()
    forward = predict_cnn(model, sequences, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(predict_cnn(model, sequences, torch.tensor([2, 0])), forward[[2, 0]])


def test_long_sequences_keep_their_middle() -> None:
    sequences = coded("A" * 1000 + "C" * MAX_LENGTH + "A" * 1000, "G")
    codes, lengths = sequences.take(torch.tensor([0]))
    assert lengths.tolist() == [MAX_LENGTH]
    assert set(codes[0].tolist()) == {1}


def test_one_training_batch_of_one_sequence_does_not_break_normalisation() -> None:
    sequences = coded(*["ACGT" * 5] * 66)
    labels = torch.arange(66) % 2
    model = fit_cnn(
        sequences, labels, (np.arange(65), np.array([65])), "classification", 2, seed=0, seconds=0.1
    )
    assert predict_cnn(model, sequences, torch.arange(66)).isfinite().all()
