"""Small archives and sequences that the tests of the recipes are made of."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def random_letters(count: int, seed: int, gc: float = 0.5) -> str:
    generator = random.Random(seed)
    return "".join(generator.choices("ACGT", [1 - gc, gc, gc, 1 - gc], k=count))


def write_wheel(path: Path, files: Mapping[str, str]) -> Path:
    """Write a wheel that pip accepts, with some files in it."""
    package, version = path.name.split("-")[:2]
    info = f"{package}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in {**files, **metadata}.items():
            wheel.writestr(name, content)
    return path


def write_ar(path: Path, members: Mapping[str, bytes]) -> Path:
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, content in members.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            out.write(content + b"\n" * (len(content) % 2))
    return path


def tar_of(files: Mapping[str, bytes | str], compression: str = "xz") -> bytes:
    """A tar; a str value is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def genbank(accession: str, letters: str, genes: list[tuple[int, int]]) -> str:
    """A GenBank record as NCBI writes it; `genes` are 0-based and half-open."""
    lines = [f"LOCUS       {accession} {len(letters):>20} bp    DNA     circular BCT 01-JAN-2000"]
    lines += [
        f"DEFINITION  toy.\nACCESSION   {accession}\nVERSION     {accession}.1",
        "FEATURES             Location/Qualifiers",
    ]
    lines += [f"     source          1..{len(letters)}"]
    for start, end in genes:
        lines += [f"     gene            {start + 1}..{end}", f"     CDS             {start + 1}..{end}"]
    lines += ["ORIGIN"]
    for start in range(0, len(letters), 60):
        row = letters[start : start + 60].lower()
        lines.append(f"{start + 1:>9} " + " ".join(row[i : i + 10] for i in range(0, len(row), 10)))
    return "\n".join([*lines, "//", ""])
