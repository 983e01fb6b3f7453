"""A linear model on frozen vectors, on benchmarks of labels and on those of many values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from release_files import write_gue
from variant_cases import masked_model

from genomics.alphabet import encode
from genomics.benchmarks.frozen import FrozenEncoder
from genomics.datasets.records import TokenStore
from seqmamba.cli.main import main

LENGTH = 6_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A genome whose even hundreds are rich in C and G, and a frozen model."""
    rng = np.random.default_rng(0)
    odds = np.repeat(np.tile([0.4, 0.1], LENGTH // 200), 100)
    letters = [rng.choice(list("CGAT"), p=[c, c, 0.5 - c, 0.5 - c]) for c in odds]
    (tmp_path / "g.fa").write_text(f">chr1\n{''.join(letters)}\n")
    masked_model().save_pretrained(tmp_path / "encoder")
    return tmp_path


def bench(folder: Path, name: str, *words: str) -> Any:
    given = ["--source", str(folder / "lrb"), "--model", "probe", "--encoder", str(folder / "encoder")]
    given += ["--device", "cpu", "-o", str(folder / name.replace("/", "_")), "--traceback", *words]
    if "gue" not in name:
        given += ["--genome", str(folder / "g.fa")]
    assert main(["genomics", "bench", name, *given]) == 0
    return json.loads((folder / name.replace("/", "_") / "table.json").read_text())["rows"]


def parts(count: int) -> list[str]:
    return [("train", "train", "valid", "test")[i // 2 % 4] for i in range(count)]


def test_regions_with_labels(folder: Path) -> None:
    table = folder / "lrb/regulatory_elements/promoter_dataset.csv"
    table.parent.mkdir(parents=True)
    rows = [f"chr1,{1 + 100 * i},{100 * (i + 1)},{i % 2},{part}" for i, part in enumerate(parts(60))]
    table.write_text("\n".join(["CHROM,START,STOP,label,split", *rows]) + "\n")
    found = bench(folder, "long_range/promoter@80", "--protocol", "both")
    assert [row["protocol"] for row in found] == ["paper", "sound"]
    for row in found:
        assert row["model"] == "probe"
        assert row["scores"]["auroc"]["mean"] > 0.9
    again = bench(folder, "long_range/promoter@80", "--protocol", "both")
    assert again == found


def test_expression_by_tissue(folder: Path) -> None:
    place = folder / "lrb/bulk_rna_expression"
    place.mkdir(parents=True)
    lines, values = ["chrom,strand,CAGE_representative_TSS,split"], ["liver,lung"]
    for i, part in enumerate(parts(60)):
        lines.append(f"chr1,{'+-'[i % 3 == 0]},{50 + 100 * i},{part}")
        values.append(f"{5 * (i % 2)},{-2 * (i % 2)}")
    (place / "gene_coordinates.csv").write_text("\n".join(lines) + "\n")
    (place / "rna_expression_values.csv").write_text("\n".join(values) + "\n")
    (row,) = bench(folder, "long_range/expression@60")
    assert row["scores"]["r2"]["mean"] > 0.5
    (row,) = bench(folder, "long_range/expression@60", "--folds", "2", "--label", "folds")[:1]
    assert len(row["runs"]) == 2


def test_chromatin_features(folder: Path) -> None:
    place = folder / "lrb/chromatin_features"
    place.mkdir(parents=True)
    rows = ["CHROM,POS,HISTONES,DNASE,split"]
    for i, part in enumerate(parts(60)):
        rows.append(f'chr1,{50 + 100 * i},"[{i % 2}, {1 - i % 2}]","[{i % 2}]",{part}')
    (place / "histones_and_dnase.csv").write_text("\n".join(rows) + "\n")
    (row,) = bench(folder, "long_range/chromatin@60")
    assert row["scores"]["auroc"]["mean"] > 0.9


def test_another_encoder_is_another_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gue(folder / "lrb/mouse/4")
    first = bench(folder, "gue/mouse4")
    assert bench(folder, "gue/mouse4") == first
    masked_model(equivariant=False).save_pretrained(folder / "encoder")
    words = ["--source", str(folder / "lrb"), "--model", "probe", "--encoder", str(folder / "encoder")]
    assert main(["genomics", "bench", "gue/mouse4", *words, "-o", str(folder / "gue_mouse4")]) == 2
    assert "holds a run with another encoder" in capsys.readouterr().err


def test_vectors_are_computed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FrozenEncoder(str(folder / "encoder"), "cpu")
    calls: list[int] = []
    pooled = encoder.embedder.pooled

    def counted(tokens: Any, lengths: Any) -> Any:
        calls.append(len(tokens))
        return pooled(tokens, lengths)

    monkeypatch.setattr(encoder.embedder, "pooled", counted)
    store = TokenStore.from_arrays([encode(word) for word in ("ACGTAC", "GG", "ACGTAC", "TTTTT")])
    first = encoder(store)
    assert sum(calls) == 3
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(encoder(store.select([3, 0])), first[[3, 0]])
    assert sum(calls) == 3
