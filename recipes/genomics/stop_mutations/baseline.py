"""The yardstick of stop_mutations: how many stop codons a substitution makes, in any frame of either strand.

python -m recipes.genomics.stop_mutations.baseline ~/.cache/seqmamba/stop_mutations
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from genomics.alphabet import decode, reverse_complement
from genomics.areas import ranked_areas
from genomics.datasets.alleles import PairedAlleleDataModule
from genomics.labelled_variants import LabelConfig
from genomics.variants import Haplotypes
from recipes.genomics.stop_mutations.prepare import NAME

STOPS = ("TAA", "TAG", "TGA")
WINDOW = 16


def stops_made(pair: Haplotypes) -> int:
    """Return the stop codons of both strands that hold the changed base, with the change minus without."""
    middle = len(pair.ref) // 2
    near = slice(middle - 2, middle + 3)

    def count(tokens: np.ndarray) -> int:
        strands = (decode(tokens[near]), decode(reverse_complement(tokens[near])))
        return sum(letters[i : i + 3] in STOPS for letters in strands for i in range(3))

    return count(pair.alt) - count(pair.ref)


def main(argv: list[str] | None = None) -> None:
    """Print the area under the curve on the test variants, with its interval."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="what `seqmamba recipes prepare` made")
    folder = parser.parse_args(argv).folder
    labels = LabelConfig(("EFFECT",), positive="nonsense", part="PART")
    data = PairedAlleleDataModule(
        str(folder / f"{NAME}.fa"), str(folder / "variants.vcf"), labels, window=WINDOW
    )
    data.setup()
    test = data.part("test")
    scores = np.array([stops_made(data.pair(place)) for place in test.tolist()], dtype=np.float64)
    found = ranked_areas(scores, data.alleles.values[test, 0] == 1)
    for name, area in found.items():
        print(f"stop codons made, {name}: {area.value:.3f} ({area.low:.3f} to {area.high:.3f})")


if __name__ == "__main__":
    main()
