"""What a test of gene segmentation leaves in the run folder: results.json and predictions.gff3."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from genomics.gene_decoding import Segment
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate

_GFF3_SAFE = ".:^*$@!+_?-|"  # beside letters and digits, what a name in column 1 may hold


@dataclass(frozen=True)
class Group:
    """Metrics of the test regions of one genome.

    Attributes:
        genome: Its name.
        unseen: Whether no part of it trained.
        bases: Bases that count.
        metrics: With 95 % intervals.
        right: See `right_by_block`; for `accuracy_gain`.
    """

    genome: str
    unseen: bool
    bases: int
    metrics: Mapping[str, Estimate]
    right: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Evaluation:
    """One test pass.

    Attributes:
        context: Bases of a window.
        overlap: Share of a window that its neighbours read too.
        seconds: How long the pass took.
        groups: What it found, by genome.
    """

    context: int
    overlap: float
    seconds: float
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class SegmentationResults:
    """Everything that was measured with one trained model.

    Attributes:
        title: What it is about.
        seed: Of the run.
        hardware: Where the last pass ran.
        versions: Of the software.
        parameters: Trainable numbers.
        model: Its config.
        evaluations: Test passes, one for each pair of context and overlap.
    """

    title: str
    seed: int | None
    hardware: str
    versions: Mapping[str, str]
    parameters: int
    model: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]

    def merged(self, earlier: SegmentationResults) -> SegmentationResults:
        """Return these results with the passes of earlier ones at other contexts and overlaps."""
        done = {(each.context, each.overlap) for each in self.evaluations}
        kept = [each for each in earlier.evaluations if (each.context, each.overlap) not in done]
        passes = sorted((*kept, *self.evaluations), key=lambda each: (each.context, each.overlap))
        return replace(self, evaluations=tuple(passes))

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with atomic_path(path) as part:
            part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> SegmentationResults:
        """Read a file that `save` wrote.

        Raises:
            UserError: If there is none, or it is something else.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            evaluations = tuple(_evaluation(each) for each in content.pop("evaluations"))
            return cls(**content, evaluations=evaluations)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: holds no results of gene segmentation ({error})",
                hint="seqmamba test --run RUN writes them",
            ) from None


def _evaluation(content: Mapping[str, Any]) -> Evaluation:
    groups = tuple(
        Group(
            **{
                **group,
                "metrics": {name: Estimate(**value) for name, value in group["metrics"].items()},
                "right": tuple((int(right), int(bases)) for right, bases in group["right"]),
            }
        )
        for group in content["groups"]
    )
    return Evaluation(**{**content, "groups": groups})


def write_gff3(path: Path, found: Iterable[tuple[str, int, Sequence[Segment]]]) -> int:
    """Write coding segments as GFF3 (counted from 1, end included), whole or not at all.

    Args:
        path: The file.
        found: Name of a sequence, base that its segments count from, segments.

    Returns:
        The number of segments.
    """
    number = 0
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write("##gff-version 3\n")
        for chrom, offset, genes in found:
            name = quote(
                chrom, safe="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:^*$@!+_?-|"
            )
            for gene in genes:
                number += 1
                start, end = offset + gene.start + 1, offset + gene.end
                columns = (
                    name,
                    "seqmamba",
                    "CDS",
                    start,
                    end,
                    ".",
                    gene.strand,
                    gene.phase,
                    f"ID=cds{number}",
                )
                out.write("\t".join(map(str, columns)) + "\n")
    return number
