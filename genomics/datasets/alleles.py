"""The data module of pairs of alleles: the bases around variants with and without them, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genomics.alphabet import PAD
from genomics.datasets.records import normalise_part
from genomics.fasta import Fasta
from genomics.intervals import match_chrom
from genomics.labelled_variants import LabelConfig, LabelledAlleles, read_labelled_alleles
from genomics.variants import Haplotypes, Variant, VariantWindows
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole
from seqmamba.training.batching import LengthBucketBatchSampler

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ChromosomeSplit:
    """Which chromosomes are held out; all others are for training.

    Args:
        validation: Names, with or without ``chr``.
        test: Likewise.

    Raises:
        UserError: If a name comes twice.
    """

    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            object.__setattr__(self, name, tuple(map(str, getattr(self, name))))  # YAML delivers lists
        names = [*self.validation, *self.test]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"split: {twice!r} is held out twice")

    def part_of(self, chroms: Sequence[str]) -> dict[str, str]:
        """Return the part of every chromosome.

        Args:
            chroms: The genome's names.

        Raises:
            UserError: If a name is none of them.
        """
        parts = dict.fromkeys(chroms, "train")
        for part in ("validation", "test"):
            for name in getattr(self, part):
                found = match_chrom(name, chroms)
                if found is None:
                    raise UserError(f"split.{part}: the genome has no sequence {name!r}")
                parts[found] = part
        return parts


_DEFAULT_SPLIT = ChromosomeSplit()


class PairedAlleleDataModule(L.LightningDataModule):
    """Variants with labels or effects, divided by chromosome or by the file.

    Batches are dicts of ``reference`` and ``alternative`` int64 (batch, length), right-padded with `PAD`, cut
    out as `VariantWindows` does; ``lengths`` int64 (batch,), true of both, absent where all windows are
    equally long; ``values`` float32 (batch, targets), NaN where unknown; ``index`` int64 (batch,), the place
    in ``alleles``.

    Alleles whose REF is not the genome's, and others that cannot be laid on it, take no part and are counted.
    After `setup`: ``alleles``, ``assignment`` (str (n,)) and ``notes``, what a user should know.

    Args:
        genome: FASTA file.
        variants: VCF file or table; see `read_labelled_alleles`.
        labels: Where the labels or effects are.
        split: Which chromosomes are held out; not with ``labels.part``.
        window: Bases around a variant.
        batch_size: Variants of a batch.
        num_workers: Worker processes of the training loader.
        seed: Seed of the order of training.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        genome: str,
        variants: str,
        labels: LabelConfig,
        split: ChromosomeSplit = _DEFAULT_SPLIT,
        window: int = 1024,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            require_whole(name, value, least)
        if labels.part is not None and (split.validation or split.test):
            raise UserError("split: chromosomes are held out, but labels.part names the parts already")
        self.genome, self.variants = genome, variants
        self.labels, self.split = labels, split
        self.window = window
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.targets = labels.targets
        self._alleles: LabelledAlleles | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the variants, check them against the genome and divide them, once.

        Raises:
            UserError: If a file cannot be read, or nothing is for training or validation.
        """
        if self._alleles is not None:
            return
        fasta = Fasta(self.genome)
        self._windows = VariantWindows(fasta, self.window)
        alleles = read_labelled_alleles(self.variants, fasta, self.window, self.labels)
        self.assignment = self._divided(alleles, fasta)
        for part in ("train", "validation"):
            if not (self.assignment == part).any():
                raise UserError(
                    f"{self.variants}: no variant is for {part}",
                    hint="split: {validation: [chr10], test: [chr11]}, or labels.part names the column",
                )
        self.notes = [*alleles.notes(Path(self.variants)), *self._shared_windows(alleles)]
        for note in self.notes:
            print(note)
        self._alleles = alleles

    @property
    def alleles(self) -> LabelledAlleles:
        """The variants that take part.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._alleles is None:
            raise RuntimeError("the data module has no variants before setup()")
        return self._alleles

    def part(self, name: str) -> Int[np.ndarray, " n"]:
        """Return the places in `alleles` of a part: "train", "validation" or "test"."""
        return np.flatnonzero(self.assignment == name)

    def pair(self, place: int) -> Haplotypes:
        """Return the two windows of the allele at a place in `alleles`."""
        return windows_of(self._windows, self.alleles.variants[place])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches, in a new order every epoch."""
        rows = self._rows("train")
        lengths = np.full(len(rows), self.window, dtype=np.int64)
        order = LengthBucketBatchSampler(lengths, batch_size=self.batch_size, shuffle=True, seed=self.seed)
        return DataLoader(
            rows,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches."""
        return DataLoader(self._rows("validation"), batch_size=self.batch_size, collate_fn=collate)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches.

        Raises:
            UserError: If nothing is for the test.
        """
        if not (self.assignment == "test").any():
            raise UserError(f"{self.variants}: no variant is for the test", hint="split: {test: [chr11]}")
        return DataLoader(self._rows("test"), batch_size=self.batch_size, collate_fn=collate)

    def _rows(self, part: str) -> AllelePairs:
        return AllelePairs(self._windows, self.alleles, self.part(part))

    def _divided(self, alleles: LabelledAlleles, fasta: Fasta) -> np.ndarray:
        if self.labels.part is None:
            part_of = self.split.part_of(fasta.names)
            return np.array([part_of[variant.chrom] for variant in alleles.variants])
        rows = zip(alleles.variants, alleles.parts, strict=True)
        return np.array([normalise_part(word, f"{self.variants}:{variant.line}") for variant, word in rows])

    def _shared_windows(self, alleles: LabelledAlleles) -> list[str]:
        """Say how many test variants lie in the window of a training variant."""
        test, train = (self.part(name) for name in ("test", "train"))
        places: dict[str, list[int]] = {}
        for i in train.tolist():
            places.setdefault(alleles.variants[i].chrom, []).append(alleles.variants[i].position)
        ordered = {chrom: np.sort(positions) for chrom, positions in places.items()}
        shared = 0
        for i in test.tolist():
            variant = alleles.variants[i]
            near = ordered.get(variant.chrom)
            if near is None:
                continue
            at = int(np.searchsorted(near, variant.position - self.window // 2))
            shared += at < len(near) and near[at] < variant.position + self.window // 2
        if not shared:
            return []
        return [f"{shared:,} of {len(test):,} test variants lie in the window of a training variant"]


class AllelePairs(Dataset[Batch]):
    """Variants and the two windows of each.

    Args:
        windows: Cuts them out of the genome.
        alleles: The variants.
        index: Which of them, places in `alleles`.
    """

    def __init__(
        self, windows: VariantWindows, alleles: LabelledAlleles, index: Int[np.ndarray, " n"]
    ) -> None:
        self._windows = windows
        self._alleles = alleles
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> Batch:
        place = int(self._index[number])
        pair = windows_of(self._windows, self._alleles.variants[place])
        return {
            "reference": torch.from_numpy(pair.ref.astype(np.int64)),
            "alternative": torch.from_numpy(pair.alt.astype(np.int64)),
            "values": torch.from_numpy(self._alleles.values[place]),
            "index": torch.tensor(place),
        }


def windows_of(windows: VariantWindows, variant: Variant) -> Haplotypes:
    """Cut out the windows of a variant that was laid on the genome before.

    Raises:
        UserError: If that is not possible any more.
    """
    (pair,) = windows.at(variant).alleles
    if not isinstance(pair, Haplotypes):
        raise UserError(f"line {variant.line} of the variants: {pair} by now")
    return pair


def collate(rows: Sequence[Batch]) -> Batch:
    """Make a batch of variants; shorter windows are padded on the right."""
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {
        "reference": pad([row["reference"] for row in rows], batch_first=True, padding_value=PAD),
        "alternative": pad([row["alternative"] for row in rows], batch_first=True, padding_value=PAD),
        "values": torch.stack([row["values"] for row in rows]),
        "index": torch.stack([row["index"] for row in rows]),
    }
    lengths = torch.tensor([len(row["reference"]) for row in rows])
    return batch if (lengths == lengths[0]).all() else {**batch, "lengths": lengths}
