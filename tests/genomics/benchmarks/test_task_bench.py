"""Tasks on variants and tracks through ``seqmamba genomics bench``, on miniature copies of the real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from variant_cases import masked_model, sequence_model

from genomics.alphabet import encode
from genomics.benchmarks import variant_probe
from genomics.benchmarks.cage_probe import _fit, _Sums
from genomics.benchmarks.long_range import LabelledVariant
from genomics.benchmarks.variant_features import AROUND, variant_features
from genomics.benchmarks.variant_probe import paper_protocol, sound_protocol
from genomics.embedding_models import Embedder
from seqmamba.cli.main import main
from seqmamba.errors import UserError

CHROMS = ("chr1", "chr2", "chr3", "chr9")
LENGTH = 2_048


@pytest.fixture(scope="module")
def letters() -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {name: "".join(rng.choice(list("ACGT"), LENGTH)) for name in CHROMS}


@pytest.fixture
def folder(tmp_path: Path, letters: dict[str, str]) -> Path:
    """A genome and a frozen model."""
    (tmp_path / "g.fa").write_text("".join(f">{name}\n{row}\n" for name, row in letters.items()))
    masked_model(equivariant=False).save_pretrained(tmp_path / "encoder")
    return tmp_path


def eqtl_rows(letters: dict[str, str], each: int = 24) -> list[str]:
    """Rows of All_Tissues.csv: a variant is causal if its new base is C or G; half have two tissues."""
    rng = np.random.default_rng(1)
    rows = []
    for chrom in CHROMS:
        for number, at in enumerate(np.sort(rng.choice(np.arange(40, LENGTH - 40), each, replace=False))):
            ref = letters[chrom][at]
            alt = "ACGT"["ACGT".index(ref) - int(rng.integers(1, 4))]
            split = "test" if chrom == "chr9" else "train"
            for tissue in ("Liver", "Lung")[: 1 + number % 2]:
                distance = (100, 30_000, 50_000, 2e6)[number % 4]
                rows.append(f"{chrom},{at + 1},{ref},{alt},{int(alt in 'CG')},{tissue},{distance},{split}")
    return rows


def write_eqtl(folder: Path, rows: list[str]) -> None:
    path = folder / "lrb/variant_effect_causal_eqtl/All_Tissues.csv"
    path.parent.mkdir(parents=True)
    header = "CHROM,POS,REF,ALT,label,tissue,distance_to_nearest_TSS,split"
    path.write_text("\n".join([header, *rows]) + "\n")


def bench(folder: Path, name: str, *words: str) -> dict[str, Any]:
    given = ["--genome", str(folder / "g.fa"), "--encoder", str(folder / "encoder"), "--device", "cpu"]
    given += ["-o", str(folder / "out"), "--traceback"]
    source = [] if "--source" in words else ["--source", str(folder / "lrb")]
    assert main(["genomics", "bench", name, *source, *given, *words]) == 0
    content: dict[str, Any] = json.loads((folder / "out/table.json").read_text())
    return content


def test_eqtl_by_both_protocols(
    folder: Path,
    letters: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(variant_probe, "TRAINED_ON", 300)
    write_eqtl(folder, eqtl_rows(letters))
    table = bench(folder, "long_range/causal_eqtl@64", "--protocol", "both", "--seeds", "2")
    rows = {(r["model"], r["protocol"], r["part"], r["metric"]): r for r in table["rows"]}
    buckets = ["0-30k", "30k-100k", "100k+"]
    assert [key[2] for key in rows if key[0] == "svm"] == buckets
    # Of 36 test rows, a distance of exactly 30,000 bases is in two of the paper's buckets.
    assert [rows["svm", "paper", b, "auroc_of_classes"]["tested"] for b in buckets] == [18, 18, 12]
    assert [rows["logistic", "sound", b, "auroc"]["tested"] for b in buckets] == [6, 18, 12]
    whole = rows["logistic", "sound", "all", "auroc"]
    assert whole["tested"] == 36
    assert whole["value"]["value"] > 0.9  # what the new base is can be read off a mean hidden state
    assert whole["value"]["low"] <= whole["value"]["value"] <= whole["value"]["high"]
    assert rows["svm", "paper", "0-30k", "auroc_of_classes"]["seeds"] == 2
    assert "hard_labels" in table["quirks"]
    printed = capsys.readouterr().out
    assert printed.endswith((folder / "out/table.md").read_text())
    # The same command again computes no feature; another window is refused.
    stamps = [path.stat().st_mtime_ns for path in sorted((folder / "out/features").glob("*.npz"))]
    assert bench(folder, "long_range/causal_eqtl@64")["rows"]
    assert [path.stat().st_mtime_ns for path in sorted((folder / "out/features").glob("*.npz"))] == stamps
    words = ["genomics", "bench", "long_range/causal_eqtl@128", "--source", str(folder / "lrb"), "--genome"]
    words += [str(folder / "g.fa"), "--encoder", str(folder / "encoder"), "-o", str(folder / "out")]
    assert main(words) == 2
    assert "holds the features of another window" in capsys.readouterr().err


@pytest.mark.parametrize("equivariant", [False, True])
def test_features_are_means_around_the_variant(
    folder: Path, letters: dict[str, str], equivariant: bool
) -> None:
    model = masked_model(equivariant)
    at = 1_000
    ref = letters["chr1"][at]
    alt = "ACGT"["ACGT".index(ref) - 1]
    rows = [
        LabelledVariant("chr1", at, ref, alt, 1, "train", "Liver", 5.0, "x:1"),
        LabelledVariant("chr1", 3, None, "A", 1, "train", None, None, "x:2"),  # its window leaves chr1
        LabelledVariant("chr1", at, alt, alt, 0, "test", None, None, "x:3"),  # REF is wrong
        LabelledVariant("chr1", at, ref, alt, 1, "train", "Lung", 5.0, "x:4"),
    ]
    window = 1_900
    found = variant_features(model, rows, folder / "g.fa", window, folder / "features")
    assert found.kept.tolist() == [0, 2, 3]
    assert found.mismatch.tolist() == [False, True, False]
    assert found.averaged == equivariant
    np.testing.assert_array_equal(found.forward[0], found.forward[2])
    start = at - window // 2
    tokens = torch.from_numpy(encode(letters["chr1"][start : start + window]).astype(np.int64))[None]
    middle, half = window // 2, AROUND // 2
    for allele, letter in enumerate((ref, alt)):
        tokens[0, middle] = int(encode(letter)[0])
        states = Embedder(model).features(tokens, torch.tensor([window]))[0]
        expected = states[middle - half : middle + half + 1].mean(0).numpy()
        np.testing.assert_allclose(found.forward[0, allele], expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(found.forward, found.reverse) == equivariant


def test_an_interrupted_run_goes_on(
    folder: Path, letters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from genomics.benchmarks import variant_features as module

    monkeypatch.setattr(module, "SHARD", 10)
    rows = [
        LabelledVariant("chr2", at, None, "A", at % 2, "train", None, None, f"x:{at}") for at in range(60, 95)
    ]
    model = masked_model()
    whole = variant_features(model, rows, folder / "g.fa", 32, folder / "whole")
    read = module._Reader.read
    calls: list[int] = []

    def stopped(self: Any, shard: Any) -> Any:
        calls.append(len(shard))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(self, shard)

    monkeypatch.setattr(module._Reader, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        variant_features(model, rows, folder / "g.fa", 32, folder / "part")
    assert len(list((folder / "part").glob("*.npz"))) == 2
    again = variant_features(model, rows, folder / "g.fa", 32, folder / "part")
    assert calls == [10, 10, 10, 10, 5]
    np.testing.assert_array_equal(again.forward, whole.forward)


def test_paper_scores_are_those_of_scikit_learn(folder: Path, letters: dict[str, str]) -> None:
    svm = pytest.importorskip("sklearn.svm")
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    variants, labels = [], rng.integers(0, 2, 300)
    for i, label in enumerate(labels.tolist()):
        part = "test" if i % 3 == 0 else "train"
        tissue = ("b", "a")[i % 2]
        variants.append(LabelledVariant("chr1", i, "A", "C", label, part, tissue, 7.0, f"x:{i}"))
    from genomics.benchmarks.variant_features import VariantFeatures

    forward = rng.normal(size=(300, 2, 3)).astype(np.float32) + labels[:, None, None]
    reverse = forward + rng.normal(size=forward.shape).astype(np.float32)
    unknown = np.where(np.arange(300) == 4, 0.01, 0.0)
    features = VariantFeatures(np.arange(300), forward, reverse, np.zeros(300, bool), unknown, False)
    with pytest.raises(UserError, match="30k-100k: the train part has 0 classes"):
        paper_protocol(variants, features, (1,))
    for i in range(300):
        variants[i] = LabelledVariant(*[*(getattr(variants[i], name) for name in (
            "chrom", "position", "ref", "alt", "label", "part", "tissue")), None, "x"])  # fmt: skip
    (row,) = paper_protocol(variants, features, (1, 2))
    keep = np.arange(300) != 4
    test = np.arange(300) % 3 == 0
    tissue = (np.arange(300) % 2 == 0).astype(float)  # a before b
    x = np.c_[forward.reshape(300, -1), tissue][~test & keep]
    x_test = np.c_[((forward + reverse) / 2).reshape(300, -1), tissue][test & keep]
    best = []
    for penalty in (1, 5, 10):
        scores = []
        for seed in (1, 2):
            drawn = np.random.RandomState(seed).choice(len(x), 5_000, replace=True)
            mean, scale = x[drawn].mean(0), x[drawn].std(0)
            model = svm.SVC(C=penalty).fit((x[drawn] - mean) / scale, labels[~test & keep][drawn])
            predicted = model.predict((x_test - mean) / scale)
            scores.append(metrics.roc_auc_score(labels[test & keep], predicted))
        best.append(np.mean(scores))
    assert row.value.value == pytest.approx(max(best), abs=1e-9)
    assert row.note == f"C={(1, 5, 10)[int(np.argmax(best))]}"
    assert (row.part, row.tested) == ("all", 100)


def test_the_sound_protocol_keeps_training_out_of_test_windows() -> None:
    from genomics.benchmarks.variant_features import VariantFeatures

    rng = np.random.default_rng(0)
    variants = []
    for i in range(120):
        chrom, part = f"chr{i % 3}", "train"
        if i % 6 == 0:  # half of chr0, 500 bases from the next training variant
            part = "test"
        variants.append(LabelledVariant(chrom, 200 * i, "A", "C", i // 2 % 2, part, "x", 1.0, "x"))
    shape = (120, 2, 4)
    features = VariantFeatures(
        np.arange(120),
        rng.normal(size=shape).astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
        np.arange(120) == 1,
        np.zeros(120),
        False,
    )
    rows = {row.model: row for row in sound_protocol(variants, features, 1_000) if row.part == "all"}
    assert rows["logistic"].note.startswith("0 training rows")
    rows = {row.model: row for row in sound_protocol(variants, features, 1_300) if row.part == "all"}
    assert rows["logistic"].note.startswith("20 training rows")
    assert rows["tissue and distance"].tested == 20


def test_clinvar_without_distances(folder: Path, letters: dict[str, str]) -> None:
    lines = ["CHROM,POS,ALT,INT_LABEL,split"]
    for row in eqtl_rows(letters):
        chrom, position, _, alt, label, tissue, _, split = row.split(",")
        if tissue == "Liver":
            lines.append(f"{chrom},{position},{alt},{label},{split}")
    path = folder / "lrb/variant_effect_pathogenic/vep_pathogenic_coding.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    rows = bench(folder, "long_range/pathogenic_clinvar@64")["rows"]
    assert {row["part"] for row in rows} == {"all"}
    assert next(row for row in rows if row["model"] == "logistic")["value"]["value"] > 0.9


def test_omim_is_scored_without_training(folder: Path, letters: dict[str, str]) -> None:
    lines = ["CHROM,POS,ALT,label,split"]
    for row in eqtl_rows(letters):
        chrom, position, _, alt, label, tissue, *_ = row.split(",")
        if tissue == "Liver":
            lines.append(f"{chrom},{position},{alt},{label},test")
    path = folder / "lrb/variant_effect_pathogenic/vep_pathogenic_non_coding.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    first = bench(folder, "long_range/pathogenic_omim@64")
    assert [(row["model"], row["metric"], row["tested"]) for row in first["rows"]] == [
        ("LLR", "auroc", 96),
        ("LLR", "auprc", 96),
    ]
    before = (folder / "out/scored.vcf").stat().st_mtime_ns
    assert bench(folder, "long_range/pathogenic_omim@64") == first
    assert (folder / "out/scored.vcf").stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["masked", "sequence"])
def test_brca1_by_both_protocols(folder: Path, letters: dict[str, str], kind: str) -> None:
    if kind == "sequence":
        sequence_model().save_pretrained(folder / "encoder")
    lines = ["chromosome,position (hg19),reference,alt,function.score.mean,func.class"]
    for number, at in enumerate(range(200, 260)):
        ref = letters["chr1"][at] if number else "N"  # one that cannot be laid on the genome
        alt = "ACGT"["ACGT".index(letters["chr1"][at]) - 1]
        lines.append(f"1,{at + 1},{ref},{alt},{-number},{('FUNC', 'INT', 'LOF')[number % 3]}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    table = bench(folder, "brca1/sge@64", "--source", str(folder / "t.csv"), "--protocol", "both")
    rows = {(row["protocol"], row["metric"]): row for row in table["rows"]}
    assert rows["paper", "auroc"]["tested"] == 59
    assert rows["sound", "auroc"]["tested"] == 39
    assert rows["sound", "auroc"]["model"] == ("LLR" if kind == "masked" else "COSINE")
    assert rows["sound", "auroc"]["note"] == "1 without a score left out"
    assert rows["paper", "auroc"]["value"] != rows["sound", "auroc"]["value"]


def write_cage(folder: Path, letters: dict[str, str]) -> None:
    """Windows of four bins: coverage grows with the C and G of a bin, on two tracks."""
    place = folder / "lrb/cage_prediction"
    (place / "targets_subset").mkdir(parents=True)
    rows = ["chrom,start,stop,split,npy_idx"]
    numbers = {"train": 0, "valid": 0, "test": 0}
    targets: dict[str, dict[str, np.ndarray]] = {part: {} for part in numbers}
    for chrom, part in zip(CHROMS, ("train", "train", "valid", "test"), strict=True):
        for start in range(0, LENGTH, 512):
            bins = [letters[chrom][start + 128 * b : start + 128 * (b + 1)] for b in range(4)]
            strong = np.array([sum(each.count(base) for base in "CG") for each in bins], dtype=float)
            number = numbers[part]
            numbers[part] += 1
            rows.append(f"{chrom},{start + 1},{start + 512},{part},{number}")
            values = np.expm1(np.stack([strong / 32, 2 - strong / 64], axis=1))
            targets[part][f"target-{part}-{number}.npy"] = values[None][0].astype(np.float32)
    (place / "sequences_coordinates.csv").write_text("\n".join(rows) + "\n")
    for part, arrays in targets.items():
        last = len(arrays) - 1
        with (place / "targets_subset" / f"targets-{part}-0-{last}.npz").open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "tested"), [("cage", 16), ("cage@1024", 8), ("cage@256", 8)])
def test_cage_by_ridge_regression(folder: Path, letters: dict[str, str], name: str, tested: int) -> None:
    write_cage(folder, letters)
    table = bench(folder, f"long_range/{name}")
    rows = {(row["part"], row["metric"]): row for row in table["rows"]}
    assert {part for part, _ in rows} == {"mean", "track_0", "track_1"}
    assert rows["mean", "pearson"]["tested"] == tested
    assert rows["mean", "pearson"]["value"]["value"] > 0.6
    assert bench(folder, f"long_range/{name}")["rows"] == table["rows"]  # from the sums that were kept


def test_ridge_from_sums_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = np.c_[np.ones(400), rng.normal(size=(400, 3)) * [1, 10, 0] + [5, 100, 3]]
    y = x[:, 1:3] @ rng.normal(size=(2, 2)) + 7
    sums = {"train": _Sums.empty(4, 2), "validation": _Sums.empty(4, 2)}
    for part, rows in (("train", slice(0, 300)), ("validation", slice(300, 400))):
        for start in range(rows.start, rows.stop, 50):
            sums[part].add(x[start : start + 50], y[start : start + 50])
    weights, penalty = _fit(sums)
    assert penalty == 1e-4
    np.testing.assert_allclose(x @ weights, y, rtol=1e-2, atol=0.1)
    loss = sums["validation"].loss(weights)
    assert loss == pytest.approx(((x[300:] @ weights - y[300:]) ** 2).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["long_range/cage"], "expected --encoder, the frozen model, and --genome"),
        (["long_range/cage", "--encoder", "x", "--genome", "g.fa"], "there is no copy of long_range/cage"),
        (["brca1/sge", "--encoder", "x", "--genome", "g.fa", "--folds", "3"], "takes neither --folds"),
        (["gue/mouse4", "--model", "probe"], "--model probe and --encoder, the frozen model, go together"),
        (["gue/mouse4", "--encoder", "x"], "--model probe and --encoder, the frozen model, go together"),
    ],
)
def test_what_is_refused(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "none"))
    assert main(["genomics", "bench", *words, "-o", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_no_paper_protocol(folder: Path, letters: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write_cage(folder, letters)
    words = ["--source", str(folder / "lrb"), "--genome", str(folder / "g.fa"), "--protocol", "paper"]
    words += ["--encoder", str(folder / "encoder"), "-o", str(folder / "out")]
    assert main(["genomics", "bench", "long_range/cage", *words]) == 2
    assert "has no paper protocol, only the sound one" in capsys.readouterr().err
