"""Write the variants of BRCA1's saturation genome editing as a VCF file to score.

python -m recipes.genomics.variant_effects.brca1 TABLE.xlsx -o BRCA1.vcf
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from genomics.benchmarks.brca1 import read_brca1, write_vcf
from seqmamba.errors import UserError


def main(words: Sequence[str] | None = None) -> None:
    """Read the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", type=Path, help="supplementary table 1 of Findlay et al. 2018")
    parser.add_argument("-o", "--output", type=Path, required=True, help="VCF file to write")
    args = parser.parse_args(words)
    try:
        variants = read_brca1(args.table)
        write_vcf(variants, args.output)
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None
    print(f"{args.output}: {len(variants):,} variants")


if __name__ == "__main__":
    main()
