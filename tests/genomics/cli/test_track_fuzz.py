"""Damaged genomes and intervals: a table or track, or one sentence; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from track_cases import bases, causal, classifier

from seqmamba.cli.main import main

GENOME = (
    f">chr1 first\n{bases(61, 1)}\n{bases(20, 2)}\n>2\n{bases(40, 3, ((5, 30),))}\n>chrM\nACGT\n".encode()
)
BED = b"chr1\t3\t30\tname\t0\t+\n#comment\nchr2\t0\t40\nM\t1\t2\tx\t5\t-\n"
BYTES = st.one_of(st.sampled_from(b">\t\n\r -+.#0129ACGTNchrMXY"), st.integers(0, 255))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes replaced, inserted or removed, sometimes the end cut off or a part doubled."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["replace", "insert", "remove", "cut", "double"]))
        if kind == "insert" or not data:
            data.insert(place, draw(BYTES))
        elif kind == "replace":
            data[place] = draw(BYTES)
        elif kind == "remove":
            del data[place]
        elif kind == "cut":
            del data[place:]
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 30))]
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz")
    classifier().save_pretrained(path / "classifier")
    causal().save_pretrained(path / "causal")
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    genome=damaged(GENOME),
    bed=damaged(BED),
    verb=st.sampled_from(["track", "embed"]),
    model=st.sampled_from(["classifier", "causal"]),
    intervals=st.booleans(),
)
def test_damaged_files_end_in_a_result_or_a_sentence(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    genome: bytes,
    bed: bytes,
    verb: str,
    model: str,
    intervals: bool,
) -> None:
    (folder / "g.fa").write_bytes(genome)
    (folder / "g.fa.fai").unlink(missing_ok=True)
    (folder / "r.bed").write_bytes(bed)
    output = folder / ("o.bedGraph" if verb == "track" else "o.npz")
    words = ["genomics", verb, str(folder / model), "--genome", str(folder / "g.fa"), "-o", str(output)]
    words += ["--device", "cpu", "--overwrite"]
    if intervals:
        words += ["--regions" if verb == "track" else "--bed", str(folder / "r.bed")]
    status = main(words)
    said = capsys.readouterr().err
    assert status in (0, 2), said
    assert "Traceback" not in said
    if status == 2:
        assert said.count("error: ") == 1
    output.unlink(missing_ok=True)
