"""Small files in the layouts in which benchmarks are released."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genomics.alphabet import decode, encode, reverse_complement

MOTIF = "TGACTCAGCA"


def random_letters(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list("ACGT"), length))


def labelled_letters(seed: int, count: int, length: int = 30) -> list[tuple[str, int]]:
    """Sequences of two classes in turn; class 1 has a motif."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        letters = random_letters(rng, length)
        found.append((MOTIF + letters[len(MOTIF) :] if i % 2 else letters, i % 2))
    return found


def other_strand(letters: str) -> str:
    return decode(reverse_complement(encode(letters)))


def write_gue(folder: Path, counts: Sequence[int] = (24, 8, 8), length: int = 30) -> Path:
    """Write train.csv, dev.csv and test.csv."""
    folder.mkdir(parents=True)
    for seed, (file, count) in enumerate(zip(("train", "dev", "test"), counts, strict=True)):
        rows = [f"{letters},{label}\n" for letters, label in labelled_letters(seed, count, length)]
        (folder / f"{file}.csv").write_text("sequence,label\n" + "".join(rows))
    return folder


def write_ienhancer(folder: Path, train: int = 12, test: int = 5) -> Path:
    folder.mkdir(parents=True)
    seed = 0
    for ending, count in (("train", train), ("ind", test)):
        for name in ("enhancer", "non_enhancer"):
            seed += 1
            letters = [row[0] for row in labelled_letters(seed, count)]
            # The release repeats headers, and ends without a newline.
            text = "\n".join(f">CHR1_{i // 2}_{i // 2 + 30}\n{row}" for i, row in enumerate(letters))
            (folder / f"original_{name}_{ending}.txt").write_text(text)
    return folder


def write_fasta_classes(folder: Path, negative: str, positive: str, count: int = 20) -> Path:
    """Write two FASTA files with descriptions for headers, lines of 20."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, file in enumerate((negative, positive)):
        lines = []
        for letters, _ in labelled_letters(seed + 10, count, 50):
            lines += [f"> {file} gene; range  -200 to    50.", letters[:20], letters[20:40], letters[40:]]
        (folder / file).write_text("\n".join(lines) + "\n")
    return folder


def gzipped(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))
    return path
