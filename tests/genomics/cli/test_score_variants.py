"""``seqmamba genomics score-variants`` from end to end."""

from __future__ import annotations

import gzip
import io
import re
import sys
import tracemalloc
from pathlib import Path

import pytest
from scored_files import LETTERS, ROWS, leftovers, vcf_rows, words, write_inputs
from variant_cases import COLUMNS, masked_model, variant

from genomics.fasta import Fasta
from genomics.variant_run import ScoringConfig, score_variants
from genomics.variant_scores import VariantScorer
from genomics.variants import Haplotypes, VariantWindows
from genomics.vcf import Vcf
from seqmamba.cli.main import main
from seqmamba.resumable import BGZF_END


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.name.endswith("gz") else content).decode()


def body(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in text(path).splitlines() if not line.startswith("#")]


def test_a_vcf_comes_back_with_scores(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / "out.vcf.gz"
    assert main(words(inputs, "masked", output)) == 0
    speed, *err = capsys.readouterr().err.splitlines()
    assert re.match(rf"{ROWS} of {ROWS} variants \(100\.0 %\), [\d,]+ variants/s$", speed)
    assert len(err) == 4  # no line that changes where nobody watches
    assert re.match(rf"scored \d+ of \d+ alleles in {ROWS} rows$", err[0])
    assert re.match(r"REF differs from .*g\.fa in \d of 240 rows \(\d\.\d%\), first at .*in\.vcf:\d+", err[1])
    assert "has no sequence 'chrUn_7'" in err[2]
    assert "47 NO_ALT" in err[3]
    assert output.read_bytes().endswith(BGZF_END)
    assert leftovers(output.parent) == []
    before, after = vcf_rows(), body(output)
    assert len(before) == len(after)
    genome = Fasta(inputs / "g.fa")
    windows, scorer = VariantWindows(genome, 64), VariantScorer(masked_model())
    for old, new in zip(before, after, strict=True):
        columns = old.split("\t")
        assert new[:7] + new[8:] == columns[:7] + columns[8:]
        assert new[7].startswith("AF=0.5;" if columns[7] != "." else "SM_")
        info = dict(entry.partition("=")[::2] for entry in new[7].split(";"))
        alts = [] if columns[4] == "." else columns[4].split(",")
        site = windows.at(variant(columns[0], int(columns[1]), columns[3], *alts))
        assert ("SM_REF_MISMATCH" in info) == site.mismatch
        if not alts:
            assert info.keys() & {"SM_LLR", "SM_PLLR", "SM_SKIPPED"} == {"SM_SKIPPED"}
            continue
        cells = zip(site.alleles, info["SM_LLR"].split(","), info["SM_PLLR"].split(","), strict=True)
        for found, *shown in cells:
            if isinstance(found, Haplotypes):
                expected = scorer([found])[0][0]
                numbers = [float("nan") if cell == "." else float(cell) for cell in shown]
                assert numbers == pytest.approx(expected, abs=2e-5, nan_ok=True)
            else:
                assert shown == [".", "."]
                assert found in info["SM_SKIPPED"].split(",")


@pytest.mark.parametrize(
    ("model", "more", "names"),
    [
        ("one_strand", ["--strands", "each"], ["LLR", "LLR_FWD", "LLR_RC", "PLLR", "PLLR_FWD", "PLLR_RC"]),
        ("causal", ["--scores", "llr", "embedding", "--prefix", "AR"], ["LLR", "COSINE", "L2"]),
        ("run", ["--strands", "forward"], ["DELTA_a", "DELTA_b_c", "DELTA_d"]),
    ],
)
def test_every_kind_of_output_holds_the_same(
    inputs: Path, tmp_path: Path, model: str, more: list[str], names: list[str]
) -> None:
    from pyarrow import parquet

    prefix = more[-1] if "--prefix" in more else "SM"
    for name in ("out.vcf", "out.tsv", "out.parquet", "from_table.vcf", "from_table.tsv.gz"):
        source = "in.tsv" if "table" in name else "in.vcf"
        assert main(words(inputs, model, tmp_path / name, *more, source=source)) == 0
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    scores = [f"{prefix}_{name}" for name in names]
    header, *table = (line.split("\t") for line in text(tmp_path / "out.tsv").splitlines())
    assert header == [
        "chrom",
        "pos",
        "id",
        "ref",
        "alt",
        *scores,
        f"{prefix}_SKIPPED",
        f"{prefix}_REF_MISMATCH",
    ]
    flat = []
    for new in body(tmp_path / "out.vcf"):
        info = dict(entry.partition("=")[::2] for entry in new[7].split(";"))
        assert ("AF" in info) == (new[2] != ".")
        count = 0 if new[4] == "." else new[4].count(",") + 1
        columns = [info.get(score, ".").split(",") for score in scores]
        assert not count or all(len(column) == count for column in columns)
        flat += [[cell.replace(".", "", cell == ".") for cell in row] for row in zip(*columns, strict=True)]
    assert [row[5:-2] for row in table] == flat
    assert [[row[score] for score in scores] for row in rows] == [
        [float(cell) if cell else None for cell in cells] for cells in flat
    ]
    assert sum(cell != "" for cells in flat for cell in cells) > ROWS
    assert [row["pos"] for row in rows] == [int(row[1]) for row in table]
    again = [line.split("\t") for line in text(tmp_path / "from_table.tsv.gz").splitlines()]
    assert again[0][:5] == ["name", "CHROM", "POS", "REF", "ALT"]
    assert [row[5:] for row in again[1:]] == [row[5:] for row in table]
    renamed = body(tmp_path / "from_table.vcf")
    assert {row[0] for row in renamed} == {"1", "chr2", "chrUn_7"}  # the genome's names, where it has one
    assert [row[7] for row in renamed] == [
        re.sub(r"^AF=0\.5;", "", row[7]) for row in body(tmp_path / "out.vcf")
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scores", "delta"], "--scores delta: a MaskedModel gives llr and embedding"),
        (["--window", "4"], "--window: expected at least 8 bases, got 4"),
        (["--prefix", "1x"], "INFO field: expected letters"),
        (["--batch-bases", "0"], "--batch-bases: expected a positive number, got 0"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["-o", "out.txt"], "--output out.txt: expected a name that ends with one of .vcf"),
        (["--resume", "--overwrite"], "not allowed with argument"),
        (["--tsv", "x.tsv"], "not allowed with argument"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(words(inputs, "masked", tmp_path / "out.vcf", *more)) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bad_line_is_found_before_anything_is_computed(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.vcf"
    bad.write_text((inputs / "in.vcf").read_text() + "chr1\tfive\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    monkeypatch.setattr(VariantScorer, "__call__", lambda *_: pytest.fail("scored"))
    assert (
        main(
            [
                *words(inputs, "masked", tmp_path / "out.vcf")[:5],
                "--vcf",
                str(bad),
                "-o",
                str(tmp_path / "o.vcf"),
            ]
        )
        == 2
    )
    assert f"bad.vcf:{5 + ROWS + 1}: POS: expected a whole number" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.vcf"]
    assert main([*words(inputs, "masked", inputs / "in.vcf")]) == 2
    assert "is the file that is read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.tsv", "out.parquet"])
def test_a_file_without_rows_gives_a_file_without_rows(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source = tmp_path / "none.vcf"
    source.write_text(f"##fileformat=VCFv4.2\n{COLUMNS}\n")
    command = words(inputs, "masked", tmp_path / name)
    command[command.index("--vcf") + 1] = str(source)
    assert main(command) == 0
    assert "scored 0 of 0 alleles in 0 rows" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["none.vcf", name]
    assert leftovers(tmp_path) == []
    if name.startswith("out.vcf"):
        assert text(tmp_path / name).endswith(f"{COLUMNS}\n")
        assert list(Vcf(tmp_path / name).variants()) == []


def test_progress_is_shown_where_somebody_watches(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert main(words(inputs, "masked", tmp_path / "out.vcf", "--batch-bases", "64")) == 0
    assert "variants/s" in terminal.getvalue()
    assert f"{ROWS} of {ROWS} variants (100.0 %)" in terminal.getvalue()


def test_memory_does_not_grow_with_the_file(inputs: Path, tmp_path: Path) -> None:
    model, genome = masked_model(), Fasta(inputs / "g.fa")
    peaks = []
    for number in (3_000, 3_000, 30_000):
        source = tmp_path / "in.vcf"
        row = f"chr1\t20\t.\t{LETTERS[19]}\t<DEL>\t.\t.\t.\n"
        source.write_text(f"##fileformat=VCFv4.2\n{COLUMNS}\n" + row * number)
        tracemalloc.start()
        config = ScoringConfig(window=64, batch_bases=16_384)
        score_variants(model, genome, Vcf(source), tmp_path / "out.vcf", config, overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]
