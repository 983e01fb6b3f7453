"""Files that are damaged in any way end in one sentence, never in a traceback."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from release_files import random_letters, write_fasta_classes, write_gue, write_ienhancer

from genomics.benchmarks import find_benchmark
from genomics.benchmarks.brca1 import read_brca1
from genomics.benchmarks.long_range import read_variant_effects
from genomics.benchmarks.long_range_tracks import read_cage
from seqmamba.errors import UserError

MUTATIONS = 150
INTERESTING = [b"\n", b"\r\n", b",", b"\t", b'"', b">", b"|", b"\0", b"\xff", b""]
INTERESTING += [b"-1", b"nan", b"1e400", b"9" * 30]
Case = tuple[Path, Callable[[], object]]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace, insert, repeat or cut a stretch."""
    place = int(rng.integers(len(content)))
    end = min(len(content), place + int(rng.integers(1, 30)))
    kind = int(rng.integers(4))
    if kind == 0:
        return content[:place] + INTERESTING[int(rng.integers(len(INTERESTING)))] + content[end:]
    if kind == 1:
        return content[:place] + content[place:end] * 3 + content[end:]
    if kind == 2:
        return content[:place]
    return content[:place] + rng.bytes(3) + content[end:]


def gue(folder: Path) -> Case:
    write_gue(folder / "mouse/4", counts=(8, 4, 4))
    return folder / "mouse/4/train.csv", lambda: find_benchmark("gue/mouse4").read(folder)


def ienhancer(folder: Path) -> Case:
    write_ienhancer(folder / "x", 4, 3)
    path = folder / "x/original_enhancer_train.txt"
    return path, lambda: find_benchmark("ienhancer2l/layer1").read(folder / "x")


def cnnprom(folder: Path) -> Case:
    write_fasta_classes(folder, "Bacillus_non_prom.fa", "Bacillus_prom.fa", 4)
    return folder / "Bacillus_prom.fa", lambda: find_benchmark("cnnprom/bsubtilis").read(folder)


def transformer(folder: Path) -> Case:
    (folder / "H3").mkdir()
    for part in ("train", "test"):
        text = "".join(f">chr1:{i}-{i + 9}|{i % 2}\nACGTACGTA\n" for i in range(8))
        (folder / "H3" / f"{part}.fna").write_text(text)
    return folder / "H3/train.fna", lambda: find_benchmark("nucleotide_transformer/H3").read(folder)


def intervals(folder: Path) -> Case:
    name = "human_enhancers_cohn"
    rows = "".join(f"{i},chr1,{10 * i},{10 * i + 5},+\n" for i in range(6))
    for part in ("train", "test"):
        for label in ("negative", "positive"):
            path = folder / name / part / f"{label}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                b"id,region,start,end,strand\n" + rows.encode()
            )  # gzip is recognised, not assumed
    (folder / "g.fa").write_text(f">1\n{random_letters(np.random.default_rng(0), 100)}\n")
    path = folder / name / "train/positive.csv.gz"
    return path, lambda: find_benchmark(f"genomic_benchmarks/{name}").read(folder, folder / "g.fa")


def eqtl(folder: Path) -> Case:
    path = folder / "All_Tissues.csv"
    rows = "".join(f"chr1,{i + 5},A,C,{i % 2},Liver,{i},train\n" for i in range(5))
    path.write_text("CHROM,POS,REF,ALT,label,tissue,distance_to_nearest_TSS,split\n" + rows)
    return path, lambda: list(read_variant_effects(folder, "causal_eqtl"))


def cage(folder: Path) -> Case:
    path = folder / "sequences_coordinates.csv"
    path.write_text("chrom,start,stop,split,npy_idx\nchr1,1,512,train,0\nchr1,513,1024,train,1\n")
    (folder / "targets_subset").mkdir()
    with (folder / "targets_subset/targets-train-0-1.npz").open("wb") as file:
        np.savez(file, **{f"target-train-{i}.npy": np.zeros((4, 2)) for i in range(2)})
    return path, lambda: list(read_cage(folder))


def brca1(folder: Path) -> Case:
    path = folder / "t.csv"
    names = "gene,chromosome,position (hg19),reference,alt,function.score.mean,func.class"
    path.write_text(f"Variant ID,,,,,,\n{names}\n" + "BRCA1,17,41276135,T,G,-0.37,FUNC\n" * 3)
    return path, lambda: read_brca1(path)


@pytest.mark.parametrize("case", [gue, ienhancer, cnnprom, transformer, intervals, eqtl, cage, brca1])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_mutations(case: Callable[[Path], Case], packed: bool, tmp_path: Path) -> None:
    path, read = case(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(packed)
    said: list[str] = []
    for _ in range(MUTATIONS):
        # A damaged archive, or an archive of damaged text.
        content = gzip.compress(whole) if packed and rng.random() < 0.5 else mutated(whole, rng)
        if packed:
            content = mutated(content, rng) if content.startswith(b"\x1f\x8b") else gzip.compress(content)
        path.write_bytes(content)
        try:
            read()
        except UserError as error:
            said.append(error.message)
    assert len(said) > MUTATIONS / 10
    assert all("\n" not in message and str(tmp_path) in message for message in said)
    path.write_bytes(whole)
    read()
