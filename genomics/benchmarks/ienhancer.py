"""iEnhancer-2L, layer 1 (Liu et al. 2016, doi:10.1093/bioinformatics/btv604): enhancer or not, 200 bp, human.

Released as four FASTA files: ``original_{enhancer,non_enhancer}_{train,ind}.txt``. The independent test set
of 200 + 200 is that of iEnhancer-EL (Liu et al. 2018, doi:10.1093/bioinformatics/bty458).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genomics.benchmarks.benchmark import Benchmark, PaperSettings
from genomics.benchmarks.examples import Example, collect, tokens_of
from genomics.datasets.records import LabelledSequences
from genomics.fasta import read_fasta

CLASSES = ("enhancer", "non_enhancer")
_NUMBERS = {"non_enhancer": "0", "enhancer": "1"}
_PARTS = {"train": "train", "test": "ind"}

FILES = {(part, name): f"original_{name}_{ending}.txt" for part, ending in _PARTS.items() for name in CLASSES}
"""(part, class) -> file."""


def read_ienhancer(source: Path, task: str) -> LabelledSequences:
    """Read the set.

    Args:
        source: Folder with the four files.
        task: ``layer1``, the only one that was released with labels.

    Raises:
        UserError: With file and line, for anything wrong in a file.
    """
    assert task == "layer1"
    return collect(_examples(source), str(source))


def _examples(source: Path) -> Iterator[Example]:
    for (part, name), file in FILES.items():
        # Headers name places of hg19, in several styles and not always once.
        for number, record in enumerate(read_fasta(source / file, unique_names=False)):
            where = f"{source / file}:{record.line}"
            # Class 1 is the enhancer, as in the papers: their sensitivity is that of class 1.
            yield Example(
                f"{part}_{name}_{number:04d}",
                tokens_of(record.sequence, where),
                _NUMBERS[name],
                part,
                where,
            )


_PAPER = PaperSettings(
    "iEnhancer-2L (Liu et al. 2016), iEnhancer-EL (Liu et al. 2018): split and metric; the training is ours"
)

BENCHMARKS = (Benchmark("ienhancer2l/layer1", read_ienhancer, "accuracy", _PAPER),)
"""The one task."""
