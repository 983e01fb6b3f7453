from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from genomics.motif_files import information, read_motifs
from seqmamba.errors import UserError

MEME = """MEME version 5.5.5

ALPHABET= ACGT

strands: + -

Background letter frequencies (from unknown source):
 A 0.3 C 0.2 G 0.2 T 0.3

MOTIF MA0142.1 POU5F1
letter-probability matrix: alength= 4 w= 4 nsites= 7 E= 1e-9
 0.91 0.05 0.04 0.0
 0.1\t0.1 0.1 0.7
 0.25 0.25 0.25 0.25
 0 0 1 0
URL http://example.org

MOTIF other
letter-probability matrix: w=1
0.0 0.002 0.0 0.0
"""
JASPAR = """>MA0142.1\tPou5f1::Sox2
A  [ 0 10 2 ]
C  [ 4  0 0 ]
G  [ 0  0 0 ]
T  [ 0  0 2 ]
>MA9.2
1 2
3 0
0 0
0 2
"""


def test_meme_keeps_probabilities_and_needs_no_background(tmp_path: Path) -> None:
    (tmp_path / "m.meme").write_text(MEME)
    first, second = read_motifs(tmp_path / "m.meme")
    assert (first.name, first.letters, len(first)) == ("MA0142.1 POU5F1", "ATNG", 4)
    np.testing.assert_allclose(first.probabilities[:, 0], [0.91, 0.05, 0.04, 0])
    assert first.reverse_complement().letters == "CNAT"
    assert (second.name, second.letters) == ("other", "C")
    start = MEME.index("strands")
    (tmp_path / "m.meme").write_text(MEME[:start] + MEME[MEME.index("MOTIF") :])
    assert [motif.letters for motif in read_motifs(tmp_path / "m.meme")] == ["ATNG", "C"]


def test_jaspar_with_and_without_letters(tmp_path: Path) -> None:
    (tmp_path / "m.jaspar.gz").write_bytes(gzip.compress(JASPAR.encode()))
    first, second = read_motifs(tmp_path / "m.jaspar.gz")
    assert (first.name, first.letters) == ("MA0142.1 Pou5f1::Sox2", "CAA")
    np.testing.assert_allclose(first.probabilities[:, 2], [0.5, 0, 0, 0.5])
    assert second.name == "MA9.2"
    np.testing.assert_allclose(second.probabilities[:, 0], [0.25, 0.75, 0, 0])


def test_information_in_bits() -> None:
    columns = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4]).T
    np.testing.assert_allclose(information(columns), [2, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MEME.replace("0.1 0.7", "0.7"), r"m:13: expected 4 numbers, got 3"),
        (MEME.replace("0.91", "x"), r"m:12: expected numbers of zero or more, got 'x 0.05"),
        (MEME.replace("0.91", "-1"), r"m:12: expected numbers of zero or more"),
        (MEME.replace("w= 4", "w= 5"), r"m:16: expected numbers of zero or more, got 'URL"),
        (MEME.replace("w=1", "w=3"), r"m:19: the matrix of other breaks off after 1 rows"),
        (MEME.replace("w=1", ""), r"m:19: expected a MOTIF line, and a width"),
        (MEME.replace("MOTIF other\n", ""), r"m:18: expected a MOTIF line"),
        (MEME.replace("other", "MA0142.1 POU5F1"), "has the motif MA0142.1 POU5F1 twice"),
        (MEME.replace("0.002", "0.0"), r"m:19: other: position 1 has only zeros"),
        (MEME.replace("= ACGT", "= ACGU"), r"m:3: expected the alphabet ACGT, got ACGU"),
        (MEME[: MEME.index("MOTIF")], "m: holds no motif"),
        (JASPAR.replace("4  0 0", "4  0"), r"m:3: expected 3 numbers, got 2"),
        (JASPAR.replace("T  [", "X  ["), r"m:5: expected the counts of T"),
        (JASPAR.replace("0 2\n", ""), r"m:6: expected four rows of counts of MA9.2, got 3"),
        (JASPAR + "1 2\n", r"m:11: expected '>' and the identifier"),
        (">\n1\n1\n1\n1\n", r"m:1: the motif has no identifier"),
        ("hello\n", "m: expected motifs of MEME"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m").write_text(text)
    with pytest.raises(UserError, match=message):
        read_motifs(tmp_path / "m")
