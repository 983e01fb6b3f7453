from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genomics.alphabet import PAD, decode
from genomics.datasets import LabelledSequences, SequenceDataModule, TokenStore
from genomics.datasets.module import _BatchedRecords, collate
from genomics.intervals import Interval
from genomics.splits import SplitConfig
from seqmamba.errors import UserError

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
LOADER_WARNINGS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str | list[str]]:
    """Two classes on six chromosomes, 30 to 79 bases long."""
    generator = np.random.default_rng(0)
    paths: dict[str, str | list[str]] = {}
    for number, name in enumerate(("neg", "pos")):
        lines = []
        for i in range(120):
            start, length = 1000 * i + 200 * number, int(generator.integers(30, 80))
            sequence = generator.choice(BASES, length).tobytes().decode()
            lines.append(f">chr{1 + i % 6}:{start}-{start + length}\n{sequence}\n")
        path = tmp_path / f"{name}.fa"
        path.write_text("".join(lines))
        paths[name] = str(path)
    return paths


def ready(**arguments: object) -> SequenceDataModule:
    module = SequenceDataModule(**arguments)  # type: ignore[arg-type]
    module.setup()
    return module


def test_setup_reads_splits_and_checks(files: dict[str, str | list[str]]) -> None:
    module = ready(fasta=files, split=SplitConfig(by="chromosome", test=("chr2",), validation=("chr3",)))
    assert (module.classes, module.task, len(module.records)) == (("neg", "pos"), "classification", 240)
    intervals = module.records.intervals
    assert intervals is not None
    assert {intervals[i].chrom for i in module.part("test")} == {"chr2"}
    assert {intervals[i].chrom for i in module.part("validation")} == {"chr3"}
    assert module.explanation
    assert module.leaks.ok
    before = module.records
    module.setup("fit")
    assert module.records is before, "read once"


def test_batches_hold_the_records(files: dict[str, str | list[str]]) -> None:
    module = ready(fasta=files, batch_size=16)
    seen: list[int] = []
    for batch in module.train_dataloader():
        tokens, index = batch["tokens"], batch["index"]
        lengths = torch.tensor([len(module.records.tokens[i]) for i in index])
        alike = bool((lengths == lengths[0]).all())
        assert batch["lengths"] is None if alike else torch.equal(batch["lengths"], lengths)
        assert {value.dtype for value in batch.values() if value is not None} == {torch.int64}
        assert tokens.shape == (len(index), int(lengths.max()))
        for row, length, i in zip(tokens, lengths.tolist(), index.tolist(), strict=True):
            assert decode(row[:length]) == decode(module.records.tokens[i])
            assert (row[length:] == PAD).all()
        assert batch["labels"].tolist() == module.records.labels[index].tolist()
        seen += index.tolist()
    assert sorted(seen) == module.part("train").tolist()
    for part, loader in (("validation", module.val_dataloader()), ("test", module.test_dataloader())):
        assert sorted(i for batch in loader for i in batch["index"].tolist()) == module.part(part).tolist()


def test_padding_is_small_and_the_order_depends_on_seed_and_epoch(files: dict[str, str | list[str]]) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        loader = ready(fasta=files, batch_size=16, seed=seed).train_dataloader()
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        return [batch["index"].tolist() for batch in loader]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    loader = ready(fasta=files, batch_size=16).train_dataloader()
    padded = [(int((batch["tokens"] != PAD).sum()), batch["tokens"].numel()) for batch in loader]
    assert sum(real for real, _ in padded) / sum(total for _, total in padded) > 0.85


def test_sequences_of_one_length_come_without_lengths() -> None:
    records = LabelledSequences(
        list("abc"),
        TokenStore.from_letters([b"ACGT", b"TTTT", b"AC"]),
        np.array([0, 1, 0]),
        ("x", "y"),
        "classification",
    )
    alike = collate(records, np.array([1, 0]))
    assert alike["lengths"] is None
    assert [decode(row) for row in alike["tokens"]] == ["TTTT", "ACGT"]
    assert collate(records, np.array([0, 2]))["lengths"].tolist() == [4, 2]


@pytest.mark.gpu
def test_a_data_set_on_a_gpu_gives_the_same_batches(files: dict[str, str | list[str]]) -> None:
    records = ready(fasta=files).records
    indices = np.arange(3, len(records))
    on_gpu = _BatchedRecords(records, indices, torch.device("cuda"))
    on_cpu = _BatchedRecords(records, indices, torch.device("cpu"))
    by_length = np.argsort(records.tokens.lengths[indices], kind="stable").tolist()
    for chosen in ([0, 7, 2], by_length[-5:], [4]):
        expected, batch = on_cpu.__getitems__(chosen), on_gpu.__getitems__(chosen)
        assert batch.keys() == expected.keys()
        for name, column in expected.items():
            assert column is batch[name] is None or torch.equal(batch[name].cpu(), column), name
            assert column is None or (batch[name].is_cuda and batch[name].dtype == column.dtype)


@LOADER_WARNINGS
def test_workers_deliver_the_same_batches(files: dict[str, str | list[str]]) -> None:
    alone = [batch["tokens"] for batch in ready(fasta=files).train_dataloader()]
    helped = [batch["tokens"] for batch in ready(fasta=files, num_workers=2).train_dataloader()]
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_max_length_crops_the_centre_and_says_so(files: dict[str, str | list[str]]) -> None:
    whole, cropped = ready(fasta=files), ready(fasta=files, max_length=40)
    longer = int((whole.records.tokens.lengths > 40).sum())
    assert f"cropped {longer} of 240 sequences to their central 40 bases" in cropped.notes
    assert whole.records.intervals is not None
    assert cropped.records.intervals is not None
    for i in range(240):
        old, new = whole.records.intervals[i], cropped.records.intervals[i]
        letters = decode(whole.records.tokens[i])
        assert decode(cropped.records.tokens[i]) == letters[new.start - old.start : new.end - old.start]
        assert len(new) == min(len(old), 40)
    assert np.array_equal(whole.assignment, cropped.assignment)
    assert not ready(fasta=files, max_length=80).notes


def test_paths_may_use_the_data_folder(
    files: dict[str, str | list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMAMBA_DATA", str(Path(str(files["neg"])).parent))
    module = ready(fasta={"neg": "${SEQMAMBA_DATA}/neg.fa", "pos": "${SEQMAMBA_DATA}/pos.fa"})
    assert len(module.records) == 240


def test_the_other_layouts(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    sequences = [generator.choice(BASES, 40).tobytes().decode() for _ in range(60)]
    labelled = tmp_path / "labelled.fa"
    parts = ("train", "train", "test", "dev")
    labelled.write_text("".join(f">s{i}|{i % 2}|{parts[i // 2 % 4]}\n{s}\n" for i, s in enumerate(sequences)))
    module = ready(fasta=str(labelled))
    assert module.assignment.tolist()[:8] == ["train"] * 4 + ["test"] * 2 + ["validation"] * 2

    plain, table = tmp_path / "plain.fa", tmp_path / "y.tsv"
    plain.write_text("".join(f">s{i}\n{s}\n" for i, s in enumerate(sequences)))
    table.write_text("name\tactivity\n" + "".join(f"s{i}\t{i / 7}\n" for i in range(60)))
    module = ready(fasta=str(plain), labels=str(table), split=SplitConfig(by="random"))
    assert module.task == "regression"
    batch = next(iter(module.val_dataloader()))
    assert (batch["labels"].dtype, batch["labels"].ndim) == (torch.float32, 2)

    genome, bed = tmp_path / "genome.fa", tmp_path / "x.bed"
    chromosomes = {f"chr{i}": generator.choice(BASES, 9000).tobytes().decode() for i in range(1, 7)}
    genome.write_text("".join(f">{name}\n{letters}\n" for name, letters in chromosomes.items()))
    bed.write_text("".join(f"chr{1 + i % 6}\t{i * 100}\t{i * 100 + 50}\n" for i in range(80)))
    module = ready(bed=str(bed), genome=str(genome))
    assert module.classes == ("background", "positive")
    assert "background windows" in module.notes[0]
    assert module.leaks.ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either fasta or bed, got neither"),
        ({"fasta": "x", "bed": "y", "genome": "z"}, "either fasta or bed, got both"),
        ({"bed": "y"}, "bed needs genome"),
        ({"fasta": "x", "genome": "z"}, "genome is only used with bed"),
        ({"fasta": {"a": "x", "b": "y"}, "labels": "z"}, "labels is only used with"),
        ({"fasta": "x", "task": "regression"}, "needs labels"),
        ({"fasta": "x", "batch_size": 0}, "batch_size: expected a positive number"),
        ({"fasta": "x", "max_length": 0}, "max_length: expected a positive number"),
        ({"fasta": "x", "seed": -1}, "seed: expected 0 or more"),
        ({"fasta": "x", "num_workers": -1}, "num_workers: expected 0 or more"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SequenceDataModule(**arguments)  # type: ignore[arg-type]


def test_records_are_not_there_before_setup() -> None:
    with pytest.raises(RuntimeError, match="setup"):
        _ = SequenceDataModule(fasta="x").records


def small(strand: str = "+") -> LabelledSequences:
    tokens = TokenStore.from_letters([b"ACGTA", b"GG", b"T"])
    return LabelledSequences(
        names=["a", "b", "c"],
        tokens=tokens,
        labels=np.array([0, 1, 1]),
        classes=("x", "y"),
        task="classification",
        intervals=[
            Interval("chr1", 10 * i, 10 * i + n, strand) for i, n in enumerate(tokens.lengths.tolist())
        ],
        split=np.array(["train", "test", "train"]),
        sources=["f:1", "f:3", "f:5"],
    )


def test_select_keeps_columns_together() -> None:
    for indices in ([2, 0], np.array([2, 0]), np.array([True, False, True])):
        chosen = small().select(indices)
        order = [2, 0] if np.asarray(indices).dtype != bool else [0, 2]
        assert chosen.names == ["abc"[i] for i in order]
        assert [decode(t) for t in chosen.tokens] == [["ACGTA", "GG", "T"][i] for i in order]
        assert chosen.intervals is not None
        assert [i.start for i in chosen.intervals] == [10 * i for i in order]
        assert chosen.sources == [f"f:{1 + 2 * i}" for i in order]


@pytest.mark.parametrize(("strand", "start"), [("+", 1), ("-", 2)])
def test_cropping_moves_the_interval_of_the_minus_strand_the_other_way(strand: str, start: int) -> None:
    """ACGTA without one base at the left and two at the right leaves CG; on the minus strand they swap."""
    cropped = small(strand).cropped(2)
    assert [decode(tokens) for tokens in cropped.tokens] == ["CG", "GG", "T"]
    assert cropped.intervals is not None
    assert cropped.intervals[0] == Interval("chr1", start, start + 2, strand)


def test_columns_of_different_lengths_are_a_bug() -> None:
    records = small()
    with pytest.raises(ValueError, match="labels must have one entry a name"):
        LabelledSequences(["a"], records.tokens.select([0]), records.labels, ("x", "y"), "classification")
    with pytest.raises(ValueError, match="must have the shape"):
        LabelledSequences(records.names, records.tokens, records.labels, ("x", "y"), "multilabel")


def test_collate_pads_on_the_right() -> None:
    batch = collate(small(), np.array([1, 0]))
    assert batch["tokens"].tolist() == [[9, 9, PAD, PAD, PAD], [7, 8, 9, 10, 7]]
    assert batch["lengths"].tolist() == [2, 5]
    assert batch["index"].tolist() == [1, 0]
