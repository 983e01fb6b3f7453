"""What the preparations of binned tracks and pairs of alleles write, on small sources like the real ones."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from Bio.Seq import Seq
from recipe_builders import genbank, random_letters, tar_of, write_ar, write_wheel

from genomics.alphabet import encode
from genomics.fasta import read_fasta
from genomics.features import read_genbank
from genomics.variants import Haplotypes
from genomics.vcf import Vcf
from recipes.genomics.cpg_islands import baseline as cpg_baseline
from recipes.genomics.cpg_islands import prepare as cpg_islands
from recipes.genomics.genomes import GENOMES, Genome
from recipes.genomics.human import MEMBER
from recipes.genomics.stop_mutations import baseline as stop_baseline
from recipes.genomics.stop_mutations import prepare as stop_mutations
from recipes.prepared import prepare_set
from recipes.sources import Source
from seqmamba.errors import UserError


def known(source: Source, path: Path) -> Any:
    """The same source, with the digest of a small file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(source, filename=path.name, sha256=digest)  # type: ignore[type-var]


class TestCpgIslands:
    LETTERS = random_letters(900_000, 0)

    @pytest.fixture
    def sources(self, tmp_path: Path) -> Path:
        folder = tmp_path / "src"
        folder.mkdir()
        fasta = gzip.compress(f">X first bases\n{self.LETTERS}\n".encode(), compresslevel=1)
        members = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": tar_of({"./control": b"Package: x\n"}, "gz"),
            "data.tar.gz": tar_of({f"./{MEMBER}": fasta}, "gz"),
        }
        write_ar(folder / "x.deb", members)
        rows = "chrX\t100\t300\t5\nchrY\t10\t20\t5\nchrX\t899990\t900001\t5\nchrX\t850000\t850400\t7\n"
        write_wheel(folder / "pyranges-0.1.7-py3-none-any.whl", {cpg_islands.ISLANDS_MEMBER: rows})
        return folder

    def test_two_sources_make_one_set(self, sources: Path, tmp_path: Path) -> None:
        own = cpg_islands.PREPARATION
        (wheel, members), *_ = own.further
        small = replace(
            own,
            source=known(own.source, sources / "x.deb"),
            further=((known(wheel, sources / wheel.filename), members),),
        )
        folder = prepare_set(small, tmp_path / "data", sources)
        (record,) = read_fasta(folder / "human.fa")
        assert (record.name, record.sequence.decode()) == ("chrX", self.LETTERS)
        assert (folder / "islands.bed").read_text() == "chrX\t100\t300\nchrX\t850000\t850400\n"
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["summary"]["islands"] == 2
        assert manifest["summary"]["bases"] == {"train": 800_000, "valid": 100_000}
        assert manifest["further"][0]["file"] == wheel.filename
        stamp = (folder / "human.fa").stat().st_mtime_ns
        assert prepare_set(small, tmp_path / "data", sources) == folder  # whole: nothing is made again
        assert (folder / "human.fa").stat().st_mtime_ns == stamp
        with pytest.raises(UserError, match=r"expected the folder that holds x\.deb and pyranges"):
            prepare_set(small, tmp_path / "other", sources / "x.deb")

    def test_density_of_cpg(self) -> None:
        tokens = encode("CGCGAAAACGTTCCGG")
        assert cpg_baseline.smoothed(tokens, 4, 1).tolist() == [2, 0, 1, 1]
        np.testing.assert_allclose(cpg_baseline.smoothed(tokens, 4, 3), [1, 1, 2 / 3, 1])


class TestStopMutations:
    def test_effects_and_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stop_mutations, "MARGIN", 10)
        genes = [(start, start + 300) for start in range(90, 1_000_000, 4_000)]
        letters = random_letters(1_000_000, 1)
        name = stop_mutations.NAME
        monkeypatch.setitem(GENOMES, name, Genome(name, "NC_000913", "x/NC_000913.gbk"))
        (tmp_path / "NC_000913.gbk").write_text(genbank("NC_000913", letters, genes))
        made = stop_mutations.build(tmp_path, tmp_path, {"train": 40, "valid": 20, "test": 20})
        assert made["variants"]["train nonsense"] == 40
        assert made["variants"]["test synonymous"] == 20
        parts: dict[str, list[int]] = {}
        for variant in Vcf(tmp_path / "variants.vcf").variants():
            facts = dict(entry.split("=") for entry in variant.fields[7].decode().split(";"))
            at = variant.position - 1
            assert letters[at] == variant.ref.decode()
            parts.setdefault(facts["PART"], []).append(at)
            start = next(start for start, end in genes if start <= at < end)
            gene = letters[start : start + 300]
            changed = gene[: at - start] + variant.alts[0].decode() + gene[at - start + 1 :]
            before, after = (str(Seq(one).translate(table=11)) for one in (gene, changed))
            difference = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
            expected = (
                "synonymous" if not difference else "nonsense" if difference[0][1] == "*" else "missense"
            )
            assert facts["EFFECT"] == expected
        assert {at // 100_000 for at in parts["valid"]} == {8}
        assert {at // 100_000 for at in parts["test"]} == {9}
        assert len(list(read_genbank(tmp_path / "NC_000913.gbk"))) == 1

    @pytest.mark.parametrize(
        ("before", "after", "made"),
        [
            ("CCCCTACCCCC", "CCCCTAACCCC", 1),  # TAC to TAA
            ("CCCCTTACCCC", "CCCCTAACCCC", 1),  # one there before, TAA of the other strand; TAA and TAG after
            ("CCCCTCGCCCC", "CCCCTAGCCCC", 2),  # TAG on both strands
            ("CCCCTAACCCC", "CCCCTCACCCC", -1),
            ("CCCCCCCCCCC", "CCCCCGCCCCC", 0),
        ],
    )
    def test_stop_codons_made(self, before: str, after: str, made: int) -> None:
        pair = Haplotypes(encode(before), encode(after), (5, 6), (5, 6), True)
        assert stop_baseline.stops_made(pair) == made
