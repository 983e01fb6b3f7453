"""The readers of sequence benchmarks, on small files in the published layouts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from release_files import (
    gzipped,
    labelled_letters,
    other_strand,
    random_letters,
    write_fasta_classes,
    write_gue,
    write_ienhancer,
)

from genomics.alphabet import decode
from genomics.benchmarks import BENCHMARKS, find_benchmark, names
from genomics.benchmarks.genomic_benchmarks import SETS
from genomics.benchmarks.published import published_numbers
from genomics.datasets.records import LabelledSequences
from seqmamba.errors import UserError
from seqmamba.metrics import METRICS


def parts(records: LabelledSequences) -> dict[str, int]:
    assert records.split is not None
    return {str(part): int((records.split == part).sum()) for part in np.unique(records.split)}


def test_the_catalogue() -> None:
    assert len(names("genomic_benchmarks")) == 9
    assert len(names("nucleotide_transformer")) == len(names("nucleotide_transformer_revised")) == 18
    assert len(names("gue")) == 28
    assert len(names("cnnprom")) == 7
    known = {*METRICS["classification"], *METRICS["regression"]}
    assert all(benchmark.metric in known for benchmark in BENCHMARKS.values())
    with pytest.raises(UserError, match="is a family of benchmarks"):
        find_benchmark("gue")
    with pytest.raises(UserError, match="is no benchmark"):
        find_benchmark("gue/nothing")
    wide = find_benchmark("long_range/promoter@512")
    assert (wide.name, wide.family, wide.task) == ("long_range/promoter@512", "long_range", "promoter")
    with pytest.raises(UserError, match="has sequences of its own"):
        find_benchmark("gue/mouse4@512")
    with pytest.raises(UserError, match="expected a number of bases behind '@', got '2k'"):
        find_benchmark("long_range/promoter@2k")


@pytest.mark.parametrize("family", ["genomic_benchmarks", "nucleotide_transformer", "gue", "cnnprom"])
def test_published_numbers_belong_to_tasks_that_there_are(family: str) -> None:
    import yaml

    folder = Path(__file__).parents[3] / "genomics/benchmarks/published"
    for table in yaml.safe_load((folder / f"{family}.yaml").read_text()):
        assert {f"{family}/{task}" for task in table["values"]} <= set(names(family))
        assert {len(row) for row in table["values"].values()} == {len(table["models"])}


def test_a_published_number_with_its_spread() -> None:
    numbers = published_numbers(find_benchmark("genomic_benchmarks/human_enhancers_cohn"))
    caduceus = next(number for number in numbers if number.model == "Caduceus-Ph")
    assert (caduceus.value, caduceus.spread, caduceus.parameters) == (0.747, 0.004, "470k")
    assert published_numbers(find_benchmark("nucleotide_transformer_revised/H3K9ac")) == []


@pytest.mark.parametrize("place", ["mouse/4", "GUE/mouse/4", "."])
def test_gue(tmp_path: Path, place: str) -> None:
    write_gue(tmp_path / "copy" / place if place != "." else tmp_path / "copy")
    records = find_benchmark("gue/mouse4").read(tmp_path / "copy")
    assert parts(records) == {"train": 24, "validation": 8, "test": 8}
    assert records.classes == ("0", "1")
    first = labelled_letters(0, 1)[0]
    assert (decode(records.tokens[0]), records.labels[0]) == first
    assert records.sources[0].endswith("train.csv:2")


def test_one_file_with_labels_and_parts_in_its_headers_reads_as_any_benchmark(tmp_path: Path) -> None:
    rows = labelled_letters(0, 12)
    places = ["train", "dev", "test"] * 4
    text = "".join(
        f">s{i}|{label}|{part}\n{letters}\n"
        for i, ((letters, label), part) in enumerate(zip(rows, places, strict=True))
    )
    gzipped(tmp_path / "mouse4.fa.gz", text)
    for source in (tmp_path, tmp_path / "mouse4.fa.gz"):
        records = find_benchmark("gue/mouse4").read(source)
        assert parts(records) == {"train": 4, "validation": 4, "test": 4}


def test_a_class_that_only_one_part_has(tmp_path: Path) -> None:
    folder = write_gue(tmp_path / "tf/0")
    (folder / "test.csv").write_text("sequence,label\nACGT,0\n")
    with pytest.raises(UserError, match="the test part has no sequence of class '1'"):
        find_benchmark("gue/tf0").read(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ACGXACG,1", r"dev\.csv:2: base 4: 'X' is not a DNA letter"),
        (",1", r"dev\.csv:2: the column 'sequence' is empty"),
        ("ACGT", r"dev\.csv:2: the column 'label' is empty"),
    ],
)
def test_a_row_that_is_wrong(tmp_path: Path, row: str, message: str) -> None:
    folder = write_gue(tmp_path / "tf/0")
    (folder / "dev.csv").write_text(f"sequence,label\n{row}\n")
    with pytest.raises(UserError, match=message):
        find_benchmark("gue/tf0").read(tmp_path)


def test_ienhancer(tmp_path: Path) -> None:
    records = find_benchmark("ienhancer2l/layer1").read(write_ienhancer(tmp_path / "x"))
    assert parts(records) == {"train": 24, "test": 10}
    assert len(set(records.names)) == 34
    by_name = dict(zip(records.names, records.labels.tolist(), strict=True))
    assert by_name["train_enhancer_0000"] == 1
    assert by_name["test_non_enhancer_0004"] == 0


def test_cnnprom(tmp_path: Path) -> None:
    write_fasta_classes(tmp_path, "Ecoli_non_prom.fa", "Ecoli_prom.fa")
    records = find_benchmark("cnnprom/ecoli_sigma70").read(tmp_path)
    assert records.split is None
    assert np.bincount(records.labels).tolist() == [20, 20]
    assert set(records.tokens.lengths.tolist()) == {50}
    assert records.labels[records.names.index("Ecoli_prom_00000")] == 1
    with pytest.raises(UserError, match=r"Bacillus_non_prom\.fa: no such file"):
        find_benchmark("cnnprom/bsubtilis").read(tmp_path)


def write_fna(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", 12), ("test", 6)):
        text = "".join(
            f">chr1:{100 * i}-{100 * i + 30}|{i % 3}\n{row[0]}\n"
            for i, row in enumerate(labelled_letters(count, count))
        )
        (folder / f"{part}.fna").write_text(text)


def test_nucleotide_transformer(tmp_path: Path) -> None:
    write_fna(tmp_path / "splice_sites_all")
    for source in (tmp_path, tmp_path / "splice_sites_all"):
        records = find_benchmark("nucleotide_transformer/splice_sites_all").read(source)
        assert parts(records) == {"train": 12, "test": 6}
        assert records.classes == ("0", "1", "2")
        assert records.labels[:4].tolist() == [0, 1, 2, 0]
        assert records.intervals is not None
        assert records.intervals[1].start == 100


def test_nucleotide_transformer_as_parquet(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("test", 6)):
        rows = [
            {"sequence": letters, "name": f"{part}{i}", "label": label, "task": task}
            for task in ("H2AFZ", "H3K9ac")
            for i, (letters, label) in enumerate(labelled_letters(len(task), count))
        ]
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{part}-00000-of-00001.parquet")
    records = find_benchmark("nucleotide_transformer_revised/H3K9ac").read(tmp_path)
    assert parts(records) == {"train": 12, "test": 6}
    assert decode(records.tokens[0]) == labelled_letters(6, 1)[0][0]


def test_a_header_without_a_label(tmp_path: Path) -> None:
    write_fna(tmp_path / "H3")
    (tmp_path / "H3" / "test.fna").write_text(">chr1:1-30\nACGT\n")
    with pytest.raises(UserError, match=r"test\.fna:1: expected '>name\|label'"):
        find_benchmark("nucleotide_transformer/H3").read(tmp_path)


SET = "human_ensembl_regulatory"


def sequences_of_set() -> dict[str, str]:
    """Path inside the set -> letters; ids are not in the order of their text."""
    rng = np.random.default_rng(0)
    return {
        f"{part}/{label}/{number}.txt": random_letters(rng, 20 + number)
        for part, count in (("train", 12), ("test", 4))
        for label in reversed(SETS[SET])
        for number in range(count)
    }


def check_set(records: LabelledSequences) -> None:
    assert records.classes == ("enhancer", "ocr", "promoter")
    assert parts(records) == {"train": 36, "test": 12}
    found = {}
    for i, name in enumerate(records.names):
        number = name.rpartition("/")[2]
        assert records.split is not None
        found[f"{records.split[i]}/{records.classes[records.labels[i]]}/{number}.txt"] = decode(
            records.tokens[i]
        )
    assert sorted(found.values()) == sorted(sequences_of_set().values())
    lengths = records.tokens.lengths[:12].tolist()
    assert lengths == sorted(lengths)  # ids in the order of numbers


def test_genomic_benchmarks_as_folders_of_texts(tmp_path: Path) -> None:
    for name, letters in sequences_of_set().items():
        (tmp_path / SET / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / SET / name).write_text(letters)
    for source in (tmp_path, tmp_path / SET):
        check_set(find_benchmark(f"genomic_benchmarks/{SET}").read(source))


def test_genomic_benchmarks_as_the_archive_of_the_release(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / f"{SET}_v0.zip", "w") as archive:
        for name, letters in sequences_of_set().items():
            archive.writestr(f"{SET}/{name}", letters)
    for source in (tmp_path, tmp_path / f"{SET}_v0.zip"):
        check_set(find_benchmark(f"genomic_benchmarks/{SET}").read(source))


def write_intervals(folder: Path, name: str, region: str, strands: str = "+-") -> None:
    for part, count in (("train", 6), ("test", 3)):
        for offset, label in enumerate(SETS[name]):
            starts = range(100 * offset, 100 * offset + 10 * count, 10)
            rows = [
                f"{i},{region},{start},{start + 8},{strands[i % len(strands)]}"
                for i, start in enumerate(starts)
            ]
            gzipped(
                folder / name / part / f"{label}.csv.gz",
                "id,region,start,end,strand\n" + "\n".join(rows) + "\n",
            )


def test_genomic_benchmarks_as_intervals_on_a_genome(tmp_path: Path) -> None:
    write_intervals(tmp_path, "human_enhancers_cohn", "chr7")
    genome = random_letters(np.random.default_rng(1), 400)
    (tmp_path / "genome.fa").write_text(f">7\n{genome}\n")
    records = find_benchmark("genomic_benchmarks/human_enhancers_cohn").read(tmp_path, tmp_path / "genome.fa")
    assert parts(records) == {"train": 12, "test": 6}
    assert decode(records.tokens[0]) == genome[0:8]
    assert decode(records.tokens[1]) == other_strand(genome[10:18])
    assert decode(records.tokens[6]) == genome[100:108]  # the class "positive", after "negative"
    assert records.intervals is not None
    assert (records.intervals[1].start, records.intervals[1].strand) == (10, "-")


def test_classes_on_different_references_and_transcripts_with_versions(tmp_path: Path) -> None:
    name = "demo_coding_vs_intergenomic_seqs"
    write_intervals(tmp_path, name, "ENST00000371014")
    for part in ("train", "test"):
        path = tmp_path / name / part / "intergenomic_seqs.csv.gz"
        import gzip

        gzipped(path, gzip.decompress(path.read_bytes()).decode().replace("ENST00000371014", "chr1"))
    rng = np.random.default_rng(1)
    (tmp_path / "cdna.fa").write_text(f">ENST00000371014.8 cdna\n{random_letters(rng, 300)}\n")
    (tmp_path / "dna.fa").write_text(f">1\n{random_letters(rng, 300)}\n")
    genomes = {"coding_seqs": tmp_path / "cdna.fa", "intergenomic_seqs": tmp_path / "dna.fa"}
    records = find_benchmark(f"genomic_benchmarks/{name}").read(tmp_path, genomes)
    assert records.intervals is not None
    assert {interval.chrom for interval in records.intervals} == {"ENST00000371014.8", "1"}
    with pytest.raises(UserError, match="names no FASTA file for the class 'coding_seqs'"):
        find_benchmark(f"genomic_benchmarks/{name}").read(
            tmp_path, {"intergenomic_seqs": tmp_path / "dna.fa"}
        )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,chr9,1,5,+", "has no sequence named 'chr9'"),
        ("0,chr7,1,5000,+", "ends past the end of 7"),
        ("0,chr7,5,5,+", r"positive\.csv\.gz:2: .*expected 0 <= start < end"),
        ("0,chr7,a,5,+", r"positive\.csv\.gz:2: start: expected a number, got 'a'"),
        ("0,chr7,1,5,x", r"positive\.csv\.gz:2: .*strand must be"),
    ],
)
def test_an_interval_that_is_wrong(tmp_path: Path, row: str, message: str) -> None:
    write_intervals(tmp_path, "human_enhancers_cohn", "chr7")
    gzipped(tmp_path / "human_enhancers_cohn/test/positive.csv.gz", f"id,region,start,end,strand\n{row}\n")
    (tmp_path / "genome.fa").write_text(f">7\n{random_letters(np.random.default_rng(1), 400)}\n")
    with pytest.raises(UserError, match=message):
        find_benchmark("genomic_benchmarks/human_enhancers_cohn").read(tmp_path, tmp_path / "genome.fa")


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "data"))
    with pytest.raises(UserError, match="there is no copy of gue") as caught:
        find_benchmark("gue/mouse4").read()
    assert "recipes prepare genomics/gue" in (caught.value.hint or "")
    with pytest.raises(UserError, match="there is no copy of nucleotide_transformer") as caught:
        find_benchmark("nucleotide_transformer/H3").read()
    assert "huggingface.co/datasets/InstaDeepAI/" in (caught.value.hint or "")
    for name in ("gue/mouse4", "nucleotide_transformer/H3", "genomic_benchmarks/demo_human_or_worm"):
        with pytest.raises(UserError, match="has neither"):
            find_benchmark(name).read(tmp_path)
    write_intervals(tmp_path, "human_enhancers_cohn", "chr7")
    with pytest.raises(UserError, match="the genome that they lie on is needed"):
        find_benchmark("genomic_benchmarks/human_enhancers_cohn").read(tmp_path)
    with pytest.raises(UserError, match="takes no genome"):
        find_benchmark("gue/mouse4").read(tmp_path, tmp_path / "genome.fa")
