"""Damaged files of intervals and sequences end in a sentence or an audit, never in a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from interval_cases import sound
from labelled import random_dna

from genomics.audit import audit
from genomics.audit_inputs import folder_parts, read_parts
from genomics.cleaning import clean
from seqmamba.errors import UserError

_NOISE = [b"\t", b",", b"\n", b"\r\n", b"-", b"9" * 30, b"", b"#", b"\x22", b"chr1", b" ", b"\0", b"\xff"]


def damaged(rng: np.random.Generator, text: bytes) -> bytes:
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(0, len(text)))
        kind = rng.integers(0, 3)
        noise = _NOISE[int(rng.integers(0, len(_NOISE)))]
        if kind == 0:
            text = text[:at] + noise + text[at:]
        elif kind == 1:
            text = text[:at] + noise + text[at + int(rng.integers(1, 20)) :]
        else:
            text = text[:at] or b"\n"
    return text


def table(rng: np.random.Generator) -> dict[str, bytes]:
    rows = sound(rng)["train"]
    return {
        f"{name}.csv": "\n".join(
            [
                "id,region,start,end,strand",
                *(f"{i},{','.join(map(str, row))}" for i, row in enumerate(some[:12])),
            ]
        ).encode()
        for name, some in rows.items()
    }


def bed(rng: np.random.Generator) -> dict[str, bytes]:
    rows = sound(rng)["train"]
    return {
        f"{name}.bed": "".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end, _ in some[:12]).encode()
        for name, some in rows.items()
    }


def fasta(rng: np.random.Generator) -> dict[str, bytes]:
    return {
        f"{name}.fa": "".join(f">{name}{i}\n{random_dna(rng, 40)}\n" for i in range(12)).encode()
        for name in ("a", "b")
    }


@pytest.mark.parametrize("make", [table, bed, fasta])
def test_damaged_files_are_refused_or_audited(make: object, tmp_path: Path) -> None:
    refused = audited = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        for part in ("train", "test"):
            (folder / part).mkdir(parents=True)
            files = make(rng)  # type: ignore[operator]
            victim = sorted(files)[int(rng.integers(0, 2))]
            for name, text in files.items():
                content = damaged(rng, text) if name == victim and part == "train" else text
                (folder / part / name).write_bytes(content)
        try:
            records = read_parts(folder_parts(folder))
        except UserError as error:
            refused += str(folder) in error.message
            continue
        assert records.split is not None
        audited += 1
        assert audit(records, records.split).text()
        assert clean(records, records.split).kept[records.split == "test"].all()
    assert refused + audited == 150  # every refusal named its file
    assert min(refused, audited) > 8
