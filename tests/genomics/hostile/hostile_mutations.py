"""Damage as files meet it: bytes, numbers, fields and lines that changed, and the whole file in disguise."""

from __future__ import annotations

import gzip
import io
import random
import re
from collections.abc import Callable

from Bio.bgzf import BgzfWriter

from seqmamba.resumable import BGZF_END

_NUMBERS = (
    *(b"0", b"1", b"-1", b"+5", b"007", b"1e3", b"5.0", b"NaN", b"inf", b"1_0", b"0x1F", b"1,000"),
    *(b"2147483647", b"2147483648", b"4294967296", b"9223372036854775807", b"9223372036854775808"),
    *(b"99999999999999999999999", b"9" * 5000, "٣".encode(), "１２".encode()),
)
_TOKENS = (
    *(b"", b" ", b"\t", b"\t\t", b"\n", b"\r", b"\r\n", b"\x00", b"\x0b", b"\x1c", b"\x85", b"\xa0"),
    *(b"\xff", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"#", b"##", b">", b";", b"//", b"track "),
    *(b"browser ", b"##FASTA\n", b"LOCUS ", b"ORIGIN\n", b"..", b"^", b"<", b"?", b'"', b"'", b"\\", b"%09"),
    *(b"%zz", b"join(", b"complement(", b"order(", b")", b"=", b",", b".", b"*", b"<DEL>", b"[chr1:5["),
    *(b"-", b"N" * 300, b"A" * 70_000, b"chr", b"J00194.1:", b"one-of(", b"bond("),
)
_WORDS = re.compile(rb"[^\s]+")
_DIGITS = re.compile(rb"\d+")

Generator = random.Random
Change = Callable[[bytearray, Generator], bytearray]


def _byte(data: bytearray, generator: Generator) -> bytearray:
    data[generator.randrange(len(data))] = generator.randrange(256)
    return data


def _cut(data: bytearray, generator: Generator) -> bytearray:
    at = generator.randrange(len(data))
    del data[at : at + generator.choice((1, 2, 5, 60, 400))]
    return data


def _repeated(data: bytearray, generator: Generator) -> bytearray:
    at = generator.randrange(len(data))
    data[at:at] = data[at : at + generator.choice((1, 3, 60, 400))]
    return data


def _token(data: bytearray, generator: Generator) -> bytearray:
    at = generator.randrange(len(data) + 1)
    data[at:at] = generator.choice(_TOKENS)
    return data


def _number(data: bytearray, generator: Generator) -> bytearray:
    """Replace a number by a hostile one, or shift it a little, which often leaves a file that can be read."""
    found = list(_DIGITS.finditer(data))
    if not found:
        return data
    match = generator.choice(found)
    near = str(int(match[0][:18]) + generator.choice((-30, -3, -1, 1, 2, 40))).encode()
    data[match.start() : match.end()] = generator.choice(_NUMBERS) if generator.random() < 0.4 else near
    return data


def _word(data: bytearray, generator: Generator) -> bytearray:
    """Replace a word by a token, or by another word of the file."""
    found = list(_WORDS.finditer(data))
    if not found:
        return data
    match = generator.choice(found)
    other = generator.choice((generator.choice(_TOKENS), generator.choice(found)[0]))
    data[match.start() : match.end()] = other
    return data


def _lines(data: bytearray, generator: Generator) -> bytearray:
    """Swap, repeat, lose, empty or join lines."""
    lines = bytes(data).split(b"\n")
    i, j = generator.randrange(len(lines)), generator.randrange(len(lines))
    kind = generator.randrange(5)
    if kind == 0:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        del lines[i]
    elif kind == 3:
        lines.insert(i, generator.choice((b"", b"  ", b"\t", b"#", b"# a comment")))
    else:
        lines[i : i + 2] = [b"".join(lines[i : i + 2])]
    return bytearray(b"\n".join(lines))


_CHANGES: tuple[Change, ...] = (_byte, _cut, _repeated, _token, _number, _number, _word, _lines)


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def two_members(data: bytes) -> bytes:
    """Two gzip files end to end, as `cat` makes them, are one."""
    return gzipped(data[:99]) + gzipped(data[99:])


def bgzipped(data: bytes) -> bytes:
    packed = io.BytesIO()
    writer = BgzfWriter(fileobj=packed)
    writer.write(data)
    writer.flush()
    return packed.getvalue() + BGZF_END


def _broken_gzip(data: bytes, generator: Generator) -> bytes:
    packed = bytearray(generator.choice((gzipped, bgzipped))(data))
    if generator.random() < 0.5:
        return bytes(packed[: generator.randrange(1, len(packed))])
    packed[generator.randrange(len(packed))] ^= 1 << generator.randrange(8)
    return bytes(packed)


_DISGUISES: tuple[Callable[[bytes, Generator], bytes], ...] = (
    lambda data, generator: data.replace(b"\n", b"\r\n"),
    lambda data, generator: b"\xef\xbb\xbf" + data,
    lambda data, generator: data.rstrip(b"\n"),
    lambda data, generator: data.replace(b"\n", b"\n\n"),
    lambda data, generator: data.replace(b"\n", b" \n"),
    lambda data, generator: data.replace(b"\t", b" "),
    lambda data, generator: data.replace(b"\n", b"\r"),
    lambda data, generator: data + data,
    lambda data, generator: data.decode("latin-1").encode("utf-16"),
    lambda data, generator: data[: generator.randrange(len(data) + 1)],
    lambda data, generator: generator.randbytes(len(data) % 997),
    lambda data, generator: two_members(data),
    lambda data, generator: gzipped(data),
    lambda data, generator: bgzipped(data),
    _broken_gzip,
)


def mutated(original: bytes, generator: random.Random) -> bytes:
    """Return a file with one to three changes, every third time in a disguise, too.

    Args:
        original: A file that can be read.
        generator: Decides; the same state gives the same file.
    """
    data = bytearray(original)
    for _ in range(generator.choice((0, 1, 1, 1, 2, 3))):
        if data:
            data = generator.choice(_CHANGES)(data, generator)
    content = bytes(data)
    return generator.choice(_DISGUISES)(content, generator) if generator.random() < 0.35 else content
