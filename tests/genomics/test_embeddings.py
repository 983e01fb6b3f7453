"""Embeddings against the models called directly, one sequence at a time."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from track_cases import (
    BOTH_WAYS,
    CAUSAL,
    bases,
    causal,
    classifier,
    masked,
    tokens_of,
    turned,
    write_genome,
)

import genomics.embedding_files
import genomics.embeddings
from genomics.allele_models import PairedAlleleModel, PairedAlleleModelConfig
from genomics.embedding_inputs import Item, from_fasta, from_genome
from genomics.embedding_models import Embedder
from genomics.embeddings import EmbeddingConfig, Embeddings
from genomics.fasta import Fasta
from genomics.models import SequenceModel, SequenceModelConfig, Strand
from seqmamba.backbones import Backbone, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.errors import UserError

SEQUENCES = {f"s{i}": bases(length, i) for i, length in enumerate((30, 7, 64, 1, 50, 12, 41))}


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_genome(tmp_path / "x.fa", SEQUENCES)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genomics.embeddings, "SHARD_ROWS", 50)
    monkeypatch.setattr(genomics.embeddings, "SHARD_BASES", 40)
    monkeypatch.setattr(genomics.embedding_files, "_GROUP_BYTES", 300)


def embed(model: nn.Module, items: Iterator[Item], output: Path, **options: object) -> dict[str, np.ndarray]:
    rows = Embeddings(model, EmbeddingConfig(**options)).write(items, output)
    found = load(output)
    assert len(found["id"]) == rows
    return found


def load(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        return dict(np.load(path, allow_pickle=False))
    table = pq.read_table(path)
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "embedding"}
    return columns | {"embedding": np.stack(table["embedding"].to_numpy())}


@torch.no_grad()
def hidden(model: nn.Module, letters: str) -> np.ndarray:
    """One vector a base, written out for each kind of model; both strands where the model is symmetric."""

    def one(tokens: Tensor) -> Tensor:
        if isinstance(model, SequenceModel):
            return model.backbone(model.stem(model.one_hot(tokens)))
        body = model if isinstance(model, LanguageModel) else model.language_model
        return body.backbone(body.embedding(tokens))

    tokens = tokens_of(letters)
    vectors = one(tokens)
    alike = getattr(model.config, "equivariant", False) or getattr(model.config, "strand", "") == "conjoin"
    if alike:
        vectors = (vectors + one(turned(tokens)).flip(1)) / 2
    return vectors[0].numpy()


MODELS = {
    "sequence": classifier,
    "one strand": lambda: classifier("forward"),
    "masked": masked,
    "equivariant": lambda: masked(equivariant=True),
    "causal": causal,
    "headless": lambda: LanguageModel(LanguageModelConfig(CAUSAL, vocab_size=12, head=False)).eval(),
}


@pytest.mark.parametrize("strand", ["forward", "conjoin"])
def test_models_with_values_for_positions(strand: Strand, fasta: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PairedAlleleModel(PairedAlleleModelConfig(BOTH_WAYS, strand=strand)).eval()
    found = embed(model, from_fasta(fasta), tmp_path / "o.npz")["embedding"]
    with torch.no_grad():
        expected = [model.features(tokens_of(letters))[0].numpy() for letters in SEQUENCES.values()]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    bases = embed(model, from_fasta(fasta), tmp_path / "b.npz", level="base")["embedding"]
    np.testing.assert_allclose(bases[: len(SEQUENCES["s0"])].mean(axis=0), found[0], atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_one_vector_a_sequence(kind: str, fasta: Path, tmp_path: Path) -> None:
    model = MODELS[kind]()
    found = embed(model, from_fasta(fasta), tmp_path / "o.parquet")
    assert found["id"].tolist() == found["chrom"].tolist() == list(SEQUENCES)
    assert found["start"].tolist() == [0] * 7
    assert found["end"].tolist() == list(map(len, SEQUENCES.values()))
    for vector, letters in zip(found["embedding"], SEQUENCES.values(), strict=True):
        with torch.no_grad():
            expected = (
                model.embed(tokens_of(letters))[0]
                if hasattr(model, "embed")
                else hidden(model, letters).mean(axis=0)
            )
        np.testing.assert_allclose(vector, expected, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_one_vector_a_base(kind: str, fasta: Path, tmp_path: Path) -> None:
    model = MODELS[kind]()
    found = embed(model, from_fasta(fasta), tmp_path / "o.npz", level="base")
    expected = np.concatenate([hidden(model, letters) for letters in SEQUENCES.values()])
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)
    assert found["id"].tolist() == [name for name, letters in SEQUENCES.items() for _ in letters]
    assert (found["end"] == found["start"] + 1).all()
    assert found["start"].tolist() == [i for letters in SEQUENCES.values() for i in range(len(letters))]


def test_windows_of_sequences(fasta: Path, tmp_path: Path) -> None:
    model = masked()
    found = embed(model, from_fasta(fasta), tmp_path / "o.parquet", level="window", window=20, step=15)
    places = []
    for name, letters in SEQUENCES.items():
        start = 0
        while True:
            places.append((name, start, min(start + 20, len(letters))))
            if start + 20 >= len(letters):
                break
            start += 15
    assert list(zip(found["id"], found["start"], found["end"], strict=True)) == places
    for (name, start, end), vector in zip(places, found["embedding"], strict=True):
        expected = hidden(model, SEQUENCES[name][start:end]).mean(axis=0)
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_long_sequences_are_the_mean_of_their_windows(fasta: Path, tmp_path: Path) -> None:
    found = embed(causal(), from_fasta(fasta), tmp_path / "o.parquet", window=20)
    for vector, letters in zip(found["embedding"], SEQUENCES.values(), strict=True):
        pieces = [hidden(causal(), letters[i : i + 20]) for i in range(0, len(letters), 20)]
        np.testing.assert_allclose(vector, np.concatenate(pieces).mean(axis=0), atol=1e-5)


def test_windows_of_bases_keep_the_part_with_context(fasta: Path, tmp_path: Path) -> None:
    for model, left in ((masked(), 6), (causal(), 12)):
        found = embed(
            model,
            from_fasta(fasta),
            tmp_path / f"{left}.npz",
            level="base",
            window=20,
            step=8,
        )
        letters = SEQUENCES["s2"]
        rows = found["embedding"][found["id"] == "s2"]
        for start in range(0, len(letters), 8):
            low = max(0, start - left)
            piece = hidden(model, letters[low : start + 20 - left])
            np.testing.assert_allclose(rows[start : start + 8], piece[start - low :][:8], atol=1e-5)


def test_intervals_of_a_genome_on_both_strands(tmp_path: Path) -> None:
    letters = bases(90, 3)
    genome = write_genome(tmp_path / "g.fa", {"chr1": letters})
    (tmp_path / "r.bed").write_text("1\t10\t30\tfirst\t0\t+\n1\t50\t72\t.\t0\t-\nchr1\t80\t90\n")
    other = letters.translate(str.maketrans("ACGT", "TGCA"))
    parts = [letters[10:30], other[50:72][::-1], letters[80:90]]
    for level in ("sequence", "window", "base"):
        found = embed(
            causal(),
            from_genome(Fasta(genome), tmp_path / "r.bed"),
            tmp_path / f"{level}.parquet",
            level=level,
            **({} if level == "sequence" else {"window": 9, "step": 9}),
        )
        assert set(found["id"]) == {"first", "chr1:50-72(-)", "chr1:80-90"}
        assert set(found["strand"]) == {"+", "-", "."}
        if level == "sequence":
            assert found["start"].tolist() == [10, 50, 80]
            for vector, piece in zip(found["embedding"], parts, strict=True):
                np.testing.assert_allclose(vector, hidden(causal(), piece).mean(axis=0), atol=1e-5)
        if level == "window":
            rows = found["strand"] == "-"
            assert found["start"][rows].tolist() == [63, 54, 50]  # along the strand that is read
            assert found["end"][rows].tolist() == [72, 63, 54]
            expected = hidden(causal(), parts[1][9:18]).mean(axis=0)
            np.testing.assert_allclose(found["embedding"][rows][1], expected, atol=1e-5)
        if level == "base":
            assert found["start"][found["strand"] == "-"].tolist() == list(range(71, 49, -1))


def test_whole_chromosomes(tmp_path: Path) -> None:
    genome = write_genome(tmp_path / "g.fa", SEQUENCES)
    one = embed(masked(), from_genome(Fasta(genome)), tmp_path / "a.npz", level="window", window=10)
    two = embed(masked(), from_fasta(genome), tmp_path / "b.npz", level="window", window=10)
    assert all((one[name] == two[name]).all() for name in one if name != "strand")


@torch.no_grad()
def test_layers(fasta: Path, tmp_path: Path) -> None:
    model = causal()
    letters = SEQUENCES["s0"]
    stream = model.embedding(tokens_of(letters))
    streams = [stream]
    for layer in model.backbone.layers:
        stream, _ = layer(stream)
        streams.append(stream)
    for layer, expected in ((0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1)):
        found = embed(model, from_fasta(fasta), tmp_path / f"{layer}.npz", level="base", layer=layer)
        np.testing.assert_allclose(found["embedding"][:30], streams[expected][0], atol=1e-5)
    plain = embed(model, from_fasta(fasta), tmp_path / "x.npz", level="base")  # no hook is left behind
    np.testing.assert_allclose(plain["embedding"][:30], hidden(model, letters), atol=1e-5)


def test_layers_of_a_model_that_reads_both_strands(fasta: Path, tmp_path: Path) -> None:
    found = embed(classifier(), from_fasta(fasta), tmp_path / "a.npz", layer=1)
    reverse = {n: s.translate(str.maketrans("ACGT", "TGCA"))[::-1] for n, s in SEQUENCES.items()}
    other = write_genome(tmp_path / "rc.fa", reverse)
    again = embed(classifier(), from_fasta(other), tmp_path / "b.npz", layer=1)
    np.testing.assert_allclose(found["embedding"], again["embedding"], atol=1e-5)


@pytest.mark.parametrize("level", ["sequence", "base"])
@pytest.mark.parametrize("kind", ["one strand", "masked", "causal"])
def test_both_strands_on_request(kind: str, level: str, tmp_path: Path) -> None:
    letters = bases(40, 9)
    forward = write_genome(tmp_path / "f.fa", {"a": letters})
    reverse = write_genome(tmp_path / "r.fa", {"a": letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]})
    options = {"level": level, "both_strands": True}
    one = embed(MODELS[kind](), from_fasta(forward), tmp_path / "1.npz", **options)["embedding"]
    two = embed(MODELS[kind](), from_fasta(reverse), tmp_path / "2.npz", **options)["embedding"]
    np.testing.assert_allclose(one, two[::-1], atol=1e-5)


@pytest.mark.parametrize("batch_bases", [1, 40, 10_000])
def test_batches_do_not_matter(fasta: Path, tmp_path: Path, batch_bases: int) -> None:
    for level in ("sequence", "base"):
        one = embed(masked(), from_fasta(fasta), tmp_path / f"{level}1.npz", level=level)
        options = {"level": level, "batch_bases": batch_bases}
        two = embed(masked(), from_fasta(fasta), tmp_path / f"{level}2.npz", **options)
        np.testing.assert_allclose(one["embedding"], two["embedding"], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_both_formats_hold_the_same(fasta: Path, tmp_path: Path, dtype: str) -> None:
    options = {"level": "window", "window": 5, "dtype": dtype}
    one = embed(masked(), from_fasta(fasta), tmp_path / "o.parquet", **options)
    two = embed(masked(), from_fasta(fasta), tmp_path / "o.npz", **options)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name].astype(one[name].dtype))
    assert one["embedding"].dtype == two["embedding"].dtype == np.dtype(dtype)
    file = pq.ParquetFile(tmp_path / "o.parquet")
    assert file.num_row_groups > 1
    assert file.schema_arrow.metadata[b"seqmamba.level"] == b"window"
    assert file.schema_arrow.metadata[b"seqmamba.coordinates"] == b"0-based half-open"


def test_numbers_beyond_float16(fasta: Path, tmp_path: Path) -> None:
    model = causal()
    with torch.no_grad():
        model.backbone.norm_f.weight.fill_(1e6)
    with pytest.raises(UserError, match="--dtype float16: the embeddings hold larger numbers"):
        embed(model, from_fasta(fasta), tmp_path / "o.npz", dtype="float16")


@pytest.mark.parametrize("output", ["o.parquet", "o.npz"])
@pytest.mark.parametrize("level", ["sequence", "base"])
def test_interrupted_anywhere_and_resumed_to_the_same_bytes(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, output: str
) -> None:
    config = EmbeddingConfig(level=level)
    whole = tmp_path / f"whole_{output}"
    Embeddings(causal(), config).write(from_fasta(fasta), whole, source=[fasta])
    calls = count()
    original = Embeddings._embed

    def failing(self: Embeddings, shard: list) -> object:
        if next(calls) % 2:
            raise KeyboardInterrupt
        return original(self, shard)

    monkeypatch.setattr(Embeddings, "_embed", failing)
    target = tmp_path / output
    interrupts = 0
    while not target.exists():
        try:
            Embeddings(causal(), config).write(from_fasta(fasta), target, source=[fasta], resume=True)
        except KeyboardInterrupt:
            interrupts += 1
        assert interrupts < 50
    assert interrupts >= 2
    assert target.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*.part"))
    assert Embeddings(causal(), config).write(from_fasta(fasta), target, source=[fasta], resume=True) is None


def test_memory_does_not_grow_with_the_genome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genomics.embeddings, "SHARD_ROWS", 2**9)
    monkeypatch.setattr(genomics.embeddings, "SHARD_BASES", 2**14)
    monkeypatch.setattr(genomics.embedding_files, "_GROUP_BYTES", 2**16)
    model = masked()

    def peak(length: int) -> int:
        genome = Fasta(write_genome(tmp_path / f"{length}.fa", {"c": bases(length)}))
        tracemalloc.start()
        embed_config = EmbeddingConfig(level="window", window=64, batch_bases=2**13)
        Embeddings(model, embed_config).write(from_genome(genome), tmp_path / f"{length}.parquet")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(30_000)
    assert peak(360_000) < peak(60_000) + 60_000  # 5,600 vectors and places take more than 300 kB


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sequences=st.lists(st.text("ACGTNacgtnUuRYKM", min_size=1, max_size=60), min_size=1, max_size=12),
    level=st.sampled_from(["sequence", "window", "base"]),
    window=st.integers(1, 70),
    packed=st.booleans(),
)
def test_any_fasta(sequences: list[str], level: str, window: int, packed: bool, tmp_path: Path) -> None:
    content = "".join(f">r{i} x\r\n{letters}\r\n\r\n" for i, letters in enumerate(sequences)).encode()
    path = tmp_path / "any.fa"
    path.write_bytes(gzip.compress(content) if packed else content)
    (tmp_path / "o.npz").unlink(missing_ok=True)
    found = embed(causal(), from_fasta(path), tmp_path / "o.npz", level=level, window=window)
    covered = {f"r{i}": np.zeros(len(letters), dtype=int) for i, letters in enumerate(sequences)}
    for name, start, end in zip(found["id"], found["start"], found["end"], strict=True):
        covered[name][start:end] += 1
    assert all((times == 1).all() for times in covered.values())
    assert np.isfinite(found["embedding"]).all()


class Features(nn.Module):
    """What `FeatureModel` asks for, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 3)

    def features(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.table(tokens)


def test_any_model_with_features(fasta: Path, tmp_path: Path) -> None:
    model = Features()
    found = embed(model, from_fasta(fasta), tmp_path / "o.npz", level="base")
    expected = model.table(tokens_of(SEQUENCES["s0"]))[0].detach()
    np.testing.assert_allclose(found["embedding"][:30], expected)


def codons() -> SequenceModel:
    return SequenceModel(SequenceModelConfig(BOTH_WAYS, classes=("a", "b"), frames=3)).eval()


def multiscale() -> LanguageModel:
    return LanguageModel(LanguageModelConfig(MultiScaleConfig(CAUSAL, pool=(2,)), vocab_size=12)).eval()


def test_models_of_other_shapes(fasta: Path, tmp_path: Path) -> None:
    for name, model in (("codons", codons()), ("multiscale", multiscale())):
        found = embed(model, from_fasta(fasta), tmp_path / f"{name}.npz")
        assert len(found["embedding"]) == 7


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (causal, {"level": "word"}, "--level: expected one of sequence, window, base, got 'word'"),
        (causal, {"dtype": "int8"}, "--dtype: expected one of float32, float16, got 'int8'"),
        (causal, {"window": 0}, "--window: expected a positive number of bases, got 0"),
        (causal, {"batch_bases": 0}, "--batch-bases: expected a positive number of bases, got 0"),
        (causal, {"step": 5}, "--step: is for windows and bases"),
        (
            causal,
            {"level": "base", "window": 5, "step": 6},
            "--step: expected at most the window of 5 bases, got 6",
        ),
        (causal, {"layer": 3}, "--layer: expected -2 to 2, got 3"),
        (multiscale, {"layer": 1}, "--layer: this model has no single stack of layers"),
        (classifier, {"window": 65}, "--window: expected at most 64 bases"),
        (codons, {"level": "base"}, "--level base: this model reads codons"),
        (lambda: Backbone(CAUSAL), {}, "got Backbone, which reads features"),
    ],
)
def test_refusals(model: object, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Embeddings(model(), EmbeddingConfig(**options))  # type: ignore[operator]


def test_a_model_that_gives_nan_is_named() -> None:
    for model in (causal(), classifier()):
        with torch.no_grad():
            next(model.backbone.parameters()).fill_(torch.nan)
        with pytest.raises(UserError, match="the model gives NaN"):
            Embedder(model).pooled(tokens_of("ACGT"), torch.tensor([4]))
