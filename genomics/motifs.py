"""What a motif does to a model: put it into sequences that lack it, or shuffle it away where it is.

The experiments are those of tangermeme (``pip install 'seqmamba[interpret]'``) on `OneHotModule`; what is
here turns tokens into its input and its answers into effects with an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from genomics.attribution import NUCLEOTIDES
from genomics.models import SequenceModel
from genomics.one_hot_module import OneHotModule
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate

Motif = str | Float[Tensor, "4 width"]
"""Letters (N keeps what is there), or probabilities of A, C, G and T at each position."""

_NORMAL = 1.96
_BATCH = 64


class MotifEffect(NamedTuple):
    """What happened to the explained output (see `genomics.attribution`).

    Attributes:
        mean: Mean change over the sequences, with the 95 % interval of the normal approximation.
        changes: Change of each sequence.
    """

    mean: Estimate
    changes: Float[np.ndarray, " n"]


def one_hot_bases(tokens: Int[Tensor, "n length"]) -> Int8[Tensor, "n 4 length"]:
    """Return sequences of one length as tangermeme has them: A, C, G, T in rows, nothing for an unknown base.

    Args:
        tokens: Token ids without padding.
    """
    bases = torch.tensor(NUCLEOTIDES, device=tokens.device)[:, None]
    return (tokens[:, None, :] == bases).to(torch.int8)


def marginalize_motifs(
    model: SequenceModel,
    backgrounds: Int[Tensor, "n length"],
    motifs: Mapping[str, Motif],
    target: int,
    *,
    start: int | None = None,
    batch_size: int = _BATCH,
) -> dict[str, MotifEffect]:
    """Put each motif into background sequences and see what the model makes of it.

    Args:
        model: A trained model.
        backgrounds: Token ids of sequences that should not hold the motifs, for example shuffled ones.
        motifs: Motifs by name; of probabilities, the likeliest letters are put in.
        target: Class or target index to explain.
        start: Position of the first letter, 0-based; None puts the motif into the middle.
        batch_size: Sequences at once.

    Raises:
        UserError: If tangermeme is missing, a motif does not fit, or ``target`` is no output of the model.
    """
    tangermeme = _tangermeme("marginalize")
    module, inputs = OneHotModule(model, target), one_hot_bases(backgrounds)
    effects = {}
    for name, motif in motifs.items():
        letters = motif if isinstance(motif, str) else _likeliest(motif)
        if len(letters) + (start or 0) > inputs.shape[-1] or (start or 0) < 0:
            raise UserError(
                f"motif {name}: {len(letters)} letters do not fit into {inputs.shape[-1]} bases"
                + ("" if start is None else f" from position {start}")
            )
        before, after = tangermeme.marginalize(
            module, inputs, letters.upper(), start=start, batch_size=batch_size, device=_device(model)
        )[:2]
        effects[name] = effect_of(after[:, 0] - before[:, 0])
    return effects


def ablate_stretch(
    model: SequenceModel,
    tokens: Int[Tensor, "n length"],
    start: int,
    end: int,
    target: int,
    *,
    shuffles: int = 20,
    seed: int = 0,
    batch_size: int = _BATCH,
) -> MotifEffect:
    """Shuffle a stretch of sequences and see what the model loses: the change is negative if it mattered.

    Args:
        model: A trained model.
        tokens: Token ids of sequences of one length.
        start: First position of the stretch, 0-based.
        end: Position after its last one.
        target: Class or target index to explain.
        shuffles: Times that each sequence's stretch is shuffled.
        seed: Of the shuffling.
        batch_size: Sequences at once.

    Raises:
        UserError: If tangermeme is missing, the stretch is not inside, or ``target`` is no output.
    """
    tangermeme = _tangermeme("ablate")
    if not 0 <= start < end <= tokens.shape[1]:
        raise UserError(f"start, end: expected a window inside 0 to {tokens.shape[1]}, got {start} to {end}")
    module = OneHotModule(model, target)
    before, after = tangermeme.ablate(
        module,
        one_hot_bases(tokens),
        start,
        end,
        n=shuffles,
        random_state=seed,
        batch_size=batch_size,
        device=_device(model),
    )[:2]
    return effect_of(after[:, :, 0].mean(dim=1) - before[:, 0])


def shuffled(tokens: Int[Tensor, "n length"], seed: int = 0) -> Int[Tensor, "n length"]:
    """Shuffle sequences so that each keeps its counts of pairs of neighbouring bases.

    Args:
        tokens: Token ids without padding or unknown bases.
        seed: Of the shuffling.

    Raises:
        UserError: If tangermeme is missing, or a sequence has no second order.
    """
    ersatz = _tangermeme("ersatz")
    try:
        found = ersatz.dinucleotide_shuffle(one_hot_bases(tokens), n=1, random_state=seed)[:, 0]
    except ValueError as error:
        raise UserError(
            f"a sequence cannot be shuffled ({error})", hint="use the sequences as they are"
        ) from None
    return torch.tensor(NUCLEOTIDES, device=tokens.device)[found.argmax(dim=1)]


def effect_of(changes: Float[Tensor, " n"]) -> MotifEffect:
    """Sum up the changes of sequences.

    Args:
        changes: Change of the explained output of each.
    """
    values = changes.double().cpu().numpy()
    margin = _NORMAL * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    mean = float(values.mean())
    return MotifEffect(Estimate(mean, mean - float(margin), mean + float(margin)), values)


def _tangermeme(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"tangermeme.{module}")
    except ImportError:
        raise UserError(
            "motif experiments need tangermeme", hint="pip install 'seqmamba[interpret]'"
        ) from None


def _likeliest(motif: Tensor) -> str:
    if motif.ndim != 2 or motif.shape[0] != len(NUCLEOTIDES):
        raise UserError(f"motif: expected probabilities of shape (4, width), got {tuple(motif.shape)}")
    return "".join("ACGT"[i] for i in motif.argmax(dim=0).tolist())


def _device(model: SequenceModel) -> str:
    return str(model.token_weights.device)
