"""A published benchmark as a data module, divided by one of two protocols."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genomics.alphabet import PAD
from genomics.benchmarks.catalogue import find_benchmark
from genomics.datasets.module import RecordsDataModule
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.protocols import QUIRKS, DivisionConfig, divide
from genomics.splits import SplitConfig

_SOUND = DivisionConfig()


class BenchmarkDataModule(RecordsDataModule):
    """A published benchmark; `RecordsDataModule` says what a data module offers.

    Under the paper protocol, sequences are cut and padded as in the paper, so that a model meets padding as
    if it were sequence. Published models see padding of the other strand on the left, too; here turning a
    sequence over turns its padding over.

    Args:
        benchmark: ``<family>/<task>``.
        source: A copy of the release; None takes the one in the data folder. See `Benchmark.read`.
        genome: FASTA file of the genome, or class name to FASTA file, for releases that are intervals.
        division: How to divide it.
        batch_size: Sequences in a batch; None takes the paper's.
        num_workers: Worker processes of the training loader.
        max_length: Crop longer sequences to this many bases at their centre; the paper protocol has its own
            limit, which wins.
    """

    def __init__(
        self,
        benchmark: str,
        source: str | None = None,
        genome: dict[str, str] | str | None = None,
        division: DivisionConfig = _SOUND,
        batch_size: int | None = None,
        num_workers: int = 0,
        max_length: int | None = None,
    ) -> None:
        self.benchmark = find_benchmark(benchmark)
        size = self.benchmark.paper.batch_size if batch_size is None else batch_size
        super().__init__(SplitConfig(by="column"), size, num_workers, max_length, division.seed)
        self.source, self.genome, self.division = source, genome, division
        self._drops_last_batch = division.protocol == "paper"

    def _read(self) -> LabelledSequences:
        return self.benchmark.read(self.source, self.genome)

    def _divided(self, records: LabelledSequences) -> tuple[LabelledSequences, np.ndarray, str]:
        divided = divide(records, self.benchmark, self.division)
        self.notes += [
            f"protocol {self.division.protocol}, {name}: {QUIRKS[name]}" for name in divided.quirks
        ]
        return divided.records, divided.assignment, divided.explanation

    def _cropped(self, records: LabelledSequences) -> LabelledSequences:
        longest = self.benchmark.paper.max_length
        if self.division.protocol == "paper" and longest is not None:
            self.max_length = longest
            return replace(records, tokens=cut_and_padded(records.tokens, longest), intervals=None)
        return super()._cropped(records)


def cut_and_padded(tokens: TokenStore, length: int) -> TokenStore:
    """Bring sequences to one length: cut at the right, padded at the left, all of which counts as sequence.

    Args:
        tokens: The sequences.
        length: Their new length.
    """
    rows = np.full((len(tokens), length), PAD, dtype=np.uint8)
    for row, sequence in zip(rows, tokens, strict=True):
        kept = sequence[:length]
        row[length - len(kept) :] = kept
    lengths = np.full(len(tokens), length, dtype=np.int64)
    return TokenStore(rows.reshape(-1), np.cumsum(lengths) - lengths, lengths)
