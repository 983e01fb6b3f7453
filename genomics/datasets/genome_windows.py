"""The data module of pretraining: windows of whole genomes."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader, DistributedSampler

from genomics.datasets.genome_batches import (
    DrawnBatches,
    FixedBatches,
    GenomeBatch,
    WindowOrder,
    WindowReader,
)
from genomics.fasta import Fasta
from genomics.genome_regions import GenomeConfig, Regions, read_regions
from genomics.windows import Window, WindowConfig, WindowSampler, evaluation_candidates
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole
from seqmamba.training.context_parallel import data_place
from seqmamba.training.shared_order import ResumableLoader, Share, SharedOrder, loader_in_order

_DEFAULT_WINDOWS = WindowConfig()


class GenomeWindowDataModule(L.LightningDataModule):
    """Windows of genomes: drawn anew in every epoch for training, from fixed lists for the rest.

    Every window lies in one stretch of its part, and none is without a known base. Batches are `GenomeBatch`.
    The windows of an epoch have numbers, and each depends on the seed, the epoch and its number only. Devices
    share out consecutive ones. A checkpoint from the middle of an epoch says how many are done, and a resumed
    run sees the very next window, also with another number of devices or workers.

    After `setup`: ``species``, ``regions`` (one a genome) and ``lists`` (part to windows).

    Args:
        genomes: The genomes, with their parts.
        windows: How windows are drawn.
        num_workers: Worker processes of the training loader.
        seed: Seed of everything drawn.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        genomes: list[GenomeConfig],
        windows: WindowConfig = _DEFAULT_WINDOWS,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not genomes:
            raise UserError("genomes: expected at least one")
        require_whole("num_workers", num_workers, 0)
        require_whole("seed", seed, 0)
        self.genomes = list(genomes)
        self.windows = windows
        self.num_workers = num_workers
        self.seed = seed
        self.species = tuple(genome.species for genome in self.genomes)
        twice = next((name for name in self.species if self.species.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"genomes: two are called {twice!r}", hint="give each its own name")
        self.regions: list[Regions] = []
        self.lists: dict[str, list[Window]] = {}
        self._loader: ResumableLoader | None = None
        self._resumed: dict[str, int] = {}

    def setup(self, stage: str | None = None) -> None:
        """Index the genomes, read their splits and choose the fixed windows, once."""
        if self.regions:
            return
        fastas = [Fasta(genome.fasta) for genome in self.genomes]
        regions = [read_regions(*pair) for pair in zip(self.genomes, fastas, strict=True)]
        self._reader = WindowReader(fastas)
        self._sampler = WindowSampler(
            [parts["train"] for parts in regions], self.windows.weighting, self.seed
        )
        self.lists = {part: self._fixed(part, regions) for part in ("validation", "test")}
        if not self.lists["validation"]:
            raise UserError(
                "genomes: no genome has a part for validation",
                hint="validation: [chr10], or a BED file with rows named valid",
            )
        self.regions = regions

    def train_dataloader(self) -> ResumableLoader:
        """Return the training batches of this device."""
        share = Share(*self._place())
        order = SharedOrder(WindowOrder(self.windows, share.ranks), share)
        batches = DrawnBatches(self._reader, self._sampler, self.windows)
        self._loader = loader_in_order(batches, order, num_workers=self.num_workers)
        if self._resumed:
            self._loader.load_state_dict(self._resumed)
        return self._loader

    def state_dict(self) -> dict[str, int]:
        """Return the place of the training batches, for the checkpoint."""
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Remember the place where the training batches go on.

        Lightning would hand it to the loader itself, but too late where the loader was made to count steps.
        """
        self._resumed = state_dict

    def val_dataloader(self) -> DataLoader[GenomeBatch]:
        """Return the validation windows, at the full length."""
        return self._fixed_loader("validation")

    def test_dataloader(self) -> DataLoader[GenomeBatch]:
        """Return the test windows.

        Raises:
            UserError: If no genome has a part for the test.
        """
        if not self.lists["test"]:
            raise UserError("genomes: no genome has a part for the test", hint="test: [chr11]")
        return self._fixed_loader("test")

    def _fixed(self, part: str, regions: list[Regions]) -> list[Window]:
        """Choose the windows of a part; each genome that has it gives its share of them."""
        stretches = [parts[part] for parts in regions]
        sizes = [sum(map(len, rows)) for rows in stretches]
        if self.windows.weighting == "uniform":
            sizes = [int(size > 0) for size in sizes]
        found: list[Window] = []
        for genome, rows in enumerate(stretches):
            if not sizes[genome]:
                continue
            count = max(1, round(self.windows.evaluation_windows * sizes[genome] / sum(sizes)))
            candidates = evaluation_candidates(rows, genome, self.windows.length, self.seed)
            found += sorted(self._reader.usable(candidates, count))
        return found

    def _fixed_loader(self, part: str) -> DataLoader[GenomeBatch]:
        size = self.windows.batch_size_in(2**31)  # of the last epochs, which have the full length
        batches = FixedBatches(self._reader, self.lists[part], size, *self._place())
        # Not shuffled, and a sampler of one process, so that Lightning does not share out batches once more.
        order: DistributedSampler[int] = DistributedSampler(batches, 1, 0, shuffle=False)
        return DataLoader(batches, sampler=order, batch_size=None)

    def _place(self) -> tuple[int, int]:
        """Return which device this is, and how many there are; those that share out windows count as one."""
        return (0, 1) if self.trainer is None else data_place(self.trainer)
