from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_files import random_sequence, write_fasta

import genomics.inference
from genomics.alphabet import encode
from genomics.inference import load_model, predict_files, predict_tokens
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones import BackboneConfig
from seqmamba.errors import UserError

BACKBONE = BackboneConfig(d_model=8, n_layers=1, d_state=2, direction="bidirectional", scan_impl="chunked")


@pytest.fixture
def model() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(SequenceModelConfig(BACKBONE, classes=("no", "yes"), max_length=50)).eval()


def sequences(n: int, longest: int = 45) -> list[str]:
    rng = np.random.default_rng(4)
    return [random_sequence(rng, int(rng.integers(1, longest))) for _ in range(n)]


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix != ".fa"]


@pytest.mark.parametrize("batch_bases", [1, 100, 65_536])
def test_batches_do_not_change_a_prediction(model: SequenceModel, batch_bases: int) -> None:
    tokens = [encode(sequence) for sequence in sequences(20)]
    together = predict_tokens(model, tokens, batch_bases)
    alone = np.concatenate([predict_tokens(model, [one]) for one in tokens])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_table_keeps_the_order_of_the_files(
    model: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genomics.inference, "SHARD_RECORDS", 7)  # several shards, the last one not full
    letters = sequences(17)
    first = write_fasta(tmp_path / "a.fa", letters[:10], "a")
    second = tmp_path / "b.fa.gz"
    second.write_bytes(gzip.compress("".join(f">b{i}\n{s}\n" for i, s in enumerate(letters[10:])).encode()))
    assert predict_files(model, [first, second], tmp_path / "out.tsv") == 17
    header, *table = rows(tmp_path / "out.tsv")
    assert header == ["name", "split", "label", "prediction", "no", "yes"]
    assert [row[0] for row in table] == [*(f"a{i}" for i in range(10)), *(f"b{i}" for i in range(7))]
    expected = predict_tokens(model, [encode(s) for s in letters])
    np.testing.assert_allclose(np.array([row[4:] for row in table], dtype=float), expected, atol=1e-6)
    assert [row[3] for row in table] == [("no", "yes")[i] for i in expected.argmax(axis=1)]


def test_case_and_ambiguity_codes(model: SequenceModel, tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "x.fa", ["ACGTNNAC", "acgtnnac", "ACGURYAC"])
    predict_files(model, [fasta], tmp_path / "out.tsv")
    one, two, three = (row[4:] for row in rows(tmp_path / "out.tsv")[1:])
    assert one == two == three


def test_long_sequences_are_cropped_as_in_training(
    model: SequenceModel, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (letters,) = ["".join(np.random.default_rng(0).choice(list("ACGT"), 71))]
    cropped = letters[10:60]
    predict_files(model, [write_fasta(tmp_path / "x.fa", [letters, cropped])], tmp_path / "out.tsv")
    one, two = (row[4:] for row in rows(tmp_path / "out.tsv")[1:])
    assert one == two
    assert "cropped 1 sequences to their central 50 bases" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (">a\nACGT\n>b\nMKVLE\n", "x.fa:4: column 4: 'L'"),
        (">a\nACGT\n>a\nACGT\n", "x.fa:3: the name 'a' was already used"),
        (">a\nACGT\n>b\n", "x.fa:3: record 'b' has no sequence"),
        ("garbage\n", "x.fa:1: a FASTA file starts with '>'"),
        ("", "empty"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    model: SequenceModel, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "x.fa").write_text(content)
    with pytest.raises(UserError) as refusal:
        predict_files(model, [tmp_path / "x.fa"], tmp_path / "out.tsv")
    assert words in str(refusal.value)
    assert leftovers(tmp_path) == []


def test_a_name_that_comes_again_many_sequences_later_is_found(
    model: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genomics.inference, "SHARD_RECORDS", 5)
    lines = [f">s{i % 12}\nACGT\n" for i in range(13)]
    (tmp_path / "x.fa").write_text("".join(lines))
    with pytest.raises(UserError, match=r"x\.fa:25: the name 's0'"):
        predict_files(model, [tmp_path / "x.fa"], tmp_path / "out.tsv")


def test_an_interrupt_keeps_the_old_table(
    model: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.tsv"
    output.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(genomics.inference, "predict_tokens", interrupted)
    fasta = write_fasta(tmp_path / "x.fa", ["ACGT"])
    with pytest.raises(UserError, match=r"out\.tsv: exists already \(--overwrite replaces it\)"):
        predict_files(model, [fasta], output)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [fasta], output, overwrite=True)
    assert output.read_text() == "old"
    assert leftovers(tmp_path) == [output]


def test_an_interrupted_table_goes_on_to_the_same_bytes(
    model: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genomics.inference, "SHARD_RECORDS", 5)
    fasta, output = write_fasta(tmp_path / "x.fa", sequences(18)), tmp_path / "out.tsv"
    assert predict_files(model, [fasta], tmp_path / "whole.tsv") == 18
    original, calls = genomics.inference.predict_tokens, []

    def predict(*arguments: Any) -> np.ndarray:
        calls.append(len(arguments[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(genomics.inference, "predict_tokens", predict)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [fasta], output)
    assert not output.exists()
    with pytest.raises(UserError, match=r"out\.tsv: an interrupted run is there"):
        predict_files(model, [fasta], output)
    with pytest.raises(UserError, match="--resume: batch_bases was 65536, now it is 9"):
        predict_files(model, [fasta], output, batch_bases=9, resume=True)
    assert predict_files(model, [fasta], output, resume=True) == 18
    assert calls == [5, 5, 5, 5, 3]  # the third of them in vain
    assert output.read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert predict_files(model, [fasta], output, resume=True) is None
    os.utime(fasta, ns=(1, 1))
    with pytest.raises(UserError, match=r"--resume: input was x\.fa \(\d+ bytes, changed at \d+\), now"):
        predict_files(model, [fasta], output, resume=True)


def test_memory_does_not_grow_with_the_file(
    model: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    original = genomics.inference.predict_tokens

    def watched(model: SequenceModel, tokens: list[np.ndarray], batch_bases: int) -> np.ndarray:
        held.append(sum(map(len, tokens)))
        return original(model, tokens, batch_bases)

    monkeypatch.setattr(genomics.inference, "predict_tokens", watched)
    monkeypatch.setattr(genomics.inference, "SHARD_BASES", 1_000)
    fasta = write_fasta(tmp_path / "x.fa", ["ACGT" * 10] * 200)
    predict_files(model, [fasta], tmp_path / "out.tsv")
    assert sum(held) == 8_000
    assert max(held) <= 1_000


def test_load_model_finds_the_export_of_a_run(model: SequenceModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "run" / "pretrained")
    for folder in (tmp_path / "run", tmp_path / "run" / "pretrained"):
        assert load_model(folder, "cpu").config == model.config


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no exported model yet"):
        load_model(tmp_path)


@pytest.mark.parametrize("device", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_there(model: SequenceModel, tmp_path: Path, device: str) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="--device"):
        load_model(tmp_path, device)
