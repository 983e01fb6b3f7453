"""Files for the tests of ``seqmamba genomics score-variants``, and its words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from variant_cases import (
    COLUMNS,
    HEADER,
    genome_letters,
    language_model,
    masked_model,
    other_base,
    sequence_model,
    write_genome,
)

LETTERS = genome_letters(2_000)
ROWS = 240


def write_inputs(folder: Path) -> Path:
    """A genome, models, and a file of variants in random order with everything that a caller writes."""
    write_genome(folder / "g.fa", **{"1": LETTERS[:1_500], "chr2": LETTERS[1_500:].lower()})
    masked_model().save_pretrained(folder / "masked")
    masked_model(equivariant=False).save_pretrained(folder / "one_strand")
    language_model().save_pretrained(folder / "causal")
    sequence_model().save_pretrained(folder / "run" / "pretrained")  # as in a run folder
    (folder / "in.vcf").write_text(HEADER + "\n".join([f"{COLUMNS}\tFORMAT\ts1", *vcf_rows()]) + "\n")
    table = ["name\tCHROM\tPOS\tREF\tALT"]
    table += [
        "\t".join((f"v{i}", *row.split("\t")[:2], *row.split("\t")[3:5])) for i, row in enumerate(vcf_rows())
    ]
    (folder / "in.tsv").write_text("\n".join(table) + "\n")
    return folder


def vcf_rows() -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(ROWS):
        position = int(rng.integers(1, 1_490))
        ref = LETTERS[position - 1]
        known = ref in "ACGT"
        alt = [other_base(ref), f"{other_base(ref)},{other_base(ref, 2)}", f"{ref}GAT", "<DEL>,*", "."][i % 5]
        ref = other_base(ref, 3) if known and i % 50 == 7 else ref
        rows.append(f"chr1\t{position}\trs{i}\t{ref}\t{alt}\t.\tPASS\tAF=0.5\tGT\t0/1")
    rows[3] = "chrUn_7\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1"
    rows[4] = f"2\t5\t.\t{LETTERS[1_504]}\t{other_base(LETTERS[1_504])}\t.\t.\t.\tGT\t0/1"
    return rows


def words(inputs: Path, model: str, output: Path, *more: str, source: str = "in.vcf") -> list[str]:
    kind = "--tsv" if source.endswith("tsv") else "--vcf"
    words = ["genomics", "score-variants", str(inputs / model), "--genome", str(inputs / "g.fa")]
    words += [kind, str(inputs / source), "-o", str(output), "--window", "64", "--device", "cpu"]
    return [*words, *more]


def leftovers(folder: Path) -> list[str]:
    """Return the names of hidden files, but for those that say what a finished file was made from."""
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return sorted(name for name in hidden if not name.endswith(".settings.json"))
