"""Small labelled FASTA files for tests of the genomics verbs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

MOTIF = "TGACTCAGCA"
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def random_sequence(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list("ACGT"), size=length))


def with_motif(rng: np.random.Generator, sequence: str) -> str:
    """Plant the motif on either strand."""
    motif = MOTIF if rng.random() < 0.5 else MOTIF.translate(COMPLEMENT)[::-1]
    start = int(rng.integers(0, len(sequence) - len(motif)))
    return sequence[:start] + motif + sequence[start + len(motif) :]


def write_fasta(path: Path, sequences: list[str], prefix: str = "seq") -> Path:
    path.write_text("".join(f">{prefix}{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    return path


def write_classes(folder: Path, n: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """Write pos.fa (with the motif) and neg.fa, sequences of 30 to 60 bases."""
    rng = np.random.default_rng(seed)
    plain = [random_sequence(rng, int(rng.integers(30, 60))) for _ in range(2 * n)]
    return (
        write_fasta(folder / "pos.fa", [with_motif(rng, sequence) for sequence in plain[:n]], "pos"),
        write_fasta(folder / "neg.fa", plain[n:], "neg"),
    )
