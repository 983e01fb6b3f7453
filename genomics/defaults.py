"""Training settings chosen from the data, each with its reason."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

from seqmamba.training.choice import Choice

SMALL_BASES = 20_000_000  # training bases up to which a small model learns all there is on a CPU
LARGE_MODEL_SEQUENCES = 100_000
BATCH_BASES_CPU = 16_384
BATCH_BASES_GPU = 131_072
LONGEST_CPU = 8_192
LONGEST_GPU = 131_072
TARGET_STEPS = 800
LEARNING_RATE = 2e-3


def choose(lengths: Int[np.ndarray, " n"], *, gpu: bool) -> list[Choice]:
    """Choose the settings of a training run.

    Args:
        lengths: Lengths of the training sequences in bases.
        gpu: Whether a GPU is there.

    Returns:
        The choices, in the order to show them.
    """
    n, longest = len(lengths), int(lengths.max())
    limit = LONGEST_GPU if gpu else LONGEST_CPU
    used = np.minimum(lengths, limit)
    bases = int(used.sum())
    large = gpu and n >= LARGE_MODEL_SEQUENCES
    batch = batch_size(used, BATCH_BASES_GPU if gpu else BATCH_BASES_CPU)
    steps = math.ceil(n / batch)
    epochs = min(max(3, math.ceil(TARGET_STEPS / steps)), 50)
    if not gpu and epochs * bases > SMALL_BASES:
        epochs = max(3, SMALL_BASES // bases)
    machine = "GPU" if gpu else "CPU"
    choices = [
        Choice(f"{BACKBONE}.d_model", 128 if large else 64, f"{n:,} training sequences on a {machine}"),
        Choice(f"{BACKBONE}.n_layers", 4 if large else 2, f"{n:,} training sequences on a {machine}"),
        Choice("model.init_args.model.strand", "conjoin", "trained on random strands, both averaged after"),
        Choice("model.init_args.optimiser.lr", LEARNING_RATE, "small models bear a high rate"),
        Choice("data.init_args.batch_size", batch, f"median length {int(np.median(lengths)):,}"),
        Choice("trainer.max_epochs", epochs, f"{steps:,} steps and {bases:,} bases an epoch"),
    ]
    if longest > limit:
        reason = f"longest sequence {longest:,}; the centre is kept"
        choices.append(Choice("data.init_args.max_length", limit, reason))
    return choices


BACKBONE = "model.init_args.model.backbone"


def batch_size(lengths: Int[np.ndarray, " n"], bases: int) -> int:
    """Return a power of two: about ``bases`` in a batch, and at least 20 batches an epoch.

    Args:
        lengths: Lengths of the training sequences in bases.
        bases: Bases wanted in a batch.
    """
    wanted = min(bases / float(np.mean(lengths)), len(lengths) / 20, 256)
    return 2 ** max(2, int(math.log2(max(wanted, 1))))
