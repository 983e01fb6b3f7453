"""CNNProm (Umarov and Solovyev 2017, doi:10.1371/journal.pone.0171410): promoters of five organisms.

Each set is a FASTA file of promoters and one of other sequences, 251 bp (81 bp in bacteria). There is no
official split: the paper drew 70 / 10 / 20 at random, later ones cross-validate ten-fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genomics.benchmarks.benchmark import Benchmark, PaperSettings
from genomics.benchmarks.examples import Example, collect, tokens_of
from genomics.datasets.records import LabelledSequences
from genomics.fasta import read_fasta

SETS = {
    "ath_tata": ("Arabidopsis_non_prom.fa", "Arabidopsis_tata.fa"),
    "ath_nontata": ("Arabidopsis_non_prom_big.fa", "Arabidopsis_non_tata.fa"),
    "mouse_tata": ("Mouse_nonprom.fa", "Mouse_tata.fa"),
    "mouse_nontata": ("Mouse_non_nonprom_big.fa", "Mouse_non_tata.fa"),
    "human_nontata": ("human_nonprom_big.fa", "human_non_tata.fa"),
    "ecoli_sigma70": ("Ecoli_non_prom.fa", "Ecoli_prom.fa"),
    "bsubtilis": ("Bacillus_non_prom.fa", "Bacillus_prom.fa"),
}
"""Set -> its files of class 0 (no promoter) and of class 1 (promoter)."""


def read_cnnprom(source: Path, task: str) -> LabelledSequences:
    """Read a set.

    Args:
        source: Folder with the FASTA files.
        task: A key of `SETS`.

    Raises:
        UserError: With file and line, for anything wrong in a file.
    """
    return collect(_examples(source, task), f"{source} ({task})")


def _examples(source: Path, task: str) -> Iterator[Example]:
    for label, file in enumerate(SETS[task]):
        # Headers are descriptions of genes: their first words are no names.
        for number, record in enumerate(read_fasta(source / file, unique_names=False)):
            where = f"{source / file}:{record.line}"
            name = f"{Path(file).stem}_{number:05d}"
            yield Example(name, tokens_of(record.sequence, where), str(label), None, where)


_PAPER = PaperSettings(
    "CNNProm (Umarov and Solovyev 2017): split and metric; the training is ours", batch_size=64
)

BENCHMARKS = tuple(Benchmark(f"cnnprom/{name}", read_cnnprom, "mcc", _PAPER) for name in SETS)
"""The seven sets."""
