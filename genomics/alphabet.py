"""DNA letters as token ids, with the numbering of the published Caduceus and HyenaDNA checkpoints.

    0 [CLS]  1 [SEP]  2 [BOS]  3 [MASK]  4 [PAD]  5 [RESERVED]  6 [UNK]  7 A  8 C  9 G  10 T  11 N

Ids 12 to 15 are unused: embedding tables are padded to a multiple of eight rows.
Lower case equals upper case, U reads as T and every IUPAC ambiguity code reads as N.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqmamba.errors import UserError

TokenArray = npt.NDArray[np.uint8]

CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, A, C, G, T, N = range(12)
VOCAB_SIZE = 16
BASES = "ACGTN"
AMBIGUITY_CODES = "RYSWKMBDHV"

COMPLEMENT: TokenArray = np.arange(VOCAB_SIZE, dtype=np.uint8)
COMPLEMENT[[A, C, G, T]] = [T, G, C, A]
COMPLEMENT.setflags(write=False)

_ILLEGAL = 255
_FIRST_BASE = A


def _encoding_table() -> bytes:
    table = bytearray([_ILLEGAL]) * 256
    meanings = dict(zip(BASES, (A, C, G, T, N), strict=True)) | {"U": T} | dict.fromkeys(AMBIGUITY_CODES, N)
    for letter, token in meanings.items():
        table[ord(letter)] = table[ord(letter.lower())] = token
    return bytes(table)


_TABLE = _encoding_table()

LEGAL_LETTERS = bytes(byte for byte in range(256) if _TABLE[byte] != _ILLEGAL)
"""Every byte that `encode` accepts, for ``line.translate(None, LEGAL_LETTERS)`` to leave the others."""


def encode(sequence: bytes | str) -> TokenArray:
    """Turn letters into token ids.

    One table lookup in C (`bytes.translate`) and one `memchr` for illegal letters: about 1 ns per base.

    Args:
        sequence: Letters only, no white space.

    Returns:
        uint8 ids, shape (length,), writable.

    Raises:
        UserError: At the first letter that is not a base or an IUPAC ambiguity code.
    """
    if isinstance(sequence, str):
        try:
            sequence = sequence.encode("ascii")
        except UnicodeEncodeError as error:
            raise illegal_letter(str(error.object[error.start]), f"position {error.start + 1}") from None
    tokens = sequence.translate(_TABLE)
    position = tokens.find(_ILLEGAL)
    if position >= 0:
        letter = sequence[position : position + 1].decode("latin-1")
        raise illegal_letter(letter, f"position {position + 1}")
    return np.frombuffer(tokens, dtype=np.uint8).copy()


def illegal_letter(letter: str, where: str) -> UserError:
    """Return the error for a letter that no DNA sequence holds, with the likeliest reason as its hint."""
    if letter.upper() in "EFILPQJOZX*":
        hint = "the letter is used for proteins; expected nucleotides"
    elif letter in "-.~":
        hint = "remove alignment gaps first, for example with `seqkit seq --remove-gaps`"
    elif letter.isspace():
        hint = "remove white space inside the sequence"
    else:
        hint = "expected A, C, G, T, U, N or an IUPAC ambiguity code, in either case"
    return UserError(f"{where}: {letter!r} is not a DNA letter", hint=hint)


def decode(tokens: npt.ArrayLike) -> str:
    """Turn token ids back into upper-case letters; padding is dropped.

    Args:
        tokens: Integer ids, shape (length,).

    Returns:
        A string over A, C, G, T, N.

    Raises:
        ValueError: If an id is neither a base nor padding.
    """
    ids = np.asarray(tokens)
    ids = ids[ids != PAD]
    if ids.size and (ids.min() < A or ids.max() > N):
        raise ValueError(
            f"tokens must be bases ({A} to {N}) or padding ({PAD}), got {np.unique(ids).tolist()}"
        )
    return np.frombuffer(BASES.encode(), dtype=np.uint8)[ids.astype(np.intp) - _FIRST_BASE].tobytes().decode()


def reverse_complement(tokens: TokenArray) -> TokenArray:
    """Return the other strand, read in its own 5' to 3' direction.

    Args:
        tokens: uint8 ids, shape (..., length). Special tokens complement to themselves.

    Returns:
        uint8 ids of the same shape.
    """
    return COMPLEMENT[tokens[..., ::-1]]


def gc_fraction(tokens: TokenArray) -> float:
    """Return the share of G and C among the unambiguous bases (0.0 when there are none)."""
    counts = np.bincount(tokens, minlength=VOCAB_SIZE)
    known = counts[A : T + 1].sum()
    return float(counts[C] + counts[G]) / float(known) if known else 0.0
