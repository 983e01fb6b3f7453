"""Training settings chosen from the data, each with its reason."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from seqmamba.training.choice import Choice

BACKBONE = "model.init_args.model.backbone"
STEM = "model.init_args.model.stem"
FRAME_SECONDS = 0.008
"""Of strided convolutions, which also serve causal models and rates below those of sound."""
WINDOW_SECONDS = 0.032
LEAST_RATE = 1000  # Hz; a bank's filters begin at 60 Hz
LONGEST_CPU = 5.0  # seconds of a recording that training sees at once
LONGEST_GPU = 30.0
TARGET_STEPS_CPU = 400
TARGET_STEPS_GPU = 3000
BATCH_SECONDS_CPU = 30.0
BATCH_SECONDS_GPU = 300.0
FEWEST_STEPS_AN_EPOCH = 50
LEARNING_RATE = 2e-3


def choose(seconds: Float[np.ndarray, " n"], rate: int, *, gpu: bool, causal: bool = False) -> list[Choice]:
    """Choose the settings of a training run.

    Args:
        seconds: Durations of the training recordings.
        rate: Their sampling rate in Hz.
        gpu: Whether a GPU is there.
        causal: Whether the model may not look ahead.

    Returns:
        The choices, in the order to show them.
    """
    n, longest = len(seconds), float(seconds.max())
    machine = "GPU" if gpu else "CPU"
    limit = LONGEST_GPU if gpu else LONGEST_CPU
    usual = min(float(np.quantile(seconds, 0.9)), limit)
    batch = batch_size(n, usual, BATCH_SECONDS_GPU if gpu else BATCH_SECONDS_CPU)
    passes = max(1, math.ceil(FEWEST_STEPS_AN_EPOCH * batch / n))
    steps = max(1, n * passes // batch)
    epochs = max(3, math.ceil((TARGET_STEPS_GPU if gpu else TARGET_STEPS_CPU) / steps))
    choices = [
        Choice(f"{BACKBONE}.d_model", 128 if gpu else 64, f"{n:,} training recordings on a {machine}"),
        Choice(f"{BACKBONE}.n_layers", 4 if gpu else 2, f"{n:,} training recordings on a {machine}"),
        *_choose_stem(rate, gpu=gpu, causal=causal),
        Choice("model.init_args.optimiser.lr", LEARNING_RATE, "small models bear a high rate"),
        Choice("model.init_args.augmentation.gain_db", 6.0, "loudness is not the class"),
        Choice("model.init_args.augmentation.speed", 1.1, "nor is a slightly different pitch"),
        Choice(
            "data.init_args.loading.batch_size", batch, f"nine of ten recordings last up to {usual:.3g} s"
        ),
        Choice("data.init_args.loading.passes", passes, f"{steps:,} steps an epoch"),
        Choice("trainer.max_epochs", epochs, f"{steps * epochs:,} steps on a {machine}"),
    ]
    if longest > limit:
        reason = f"longest recording {longest:.3g} s; stretches of this length, from random places"
        choices.append(Choice("model.init_args.augmentation.seconds", limit, reason))
    return choices


def _choose_stem(rate: int, *, gpu: bool, causal: bool) -> list[Choice]:
    """Choose the front end: learned filters, or strided convolutions where there can be none."""
    if causal or rate < LEAST_RATE:
        kernels, strides = stem_sizes(rate)
        frame = 1000 * math.prod(strides) / rate
        return [
            Choice(
                f"{STEM}.kernels", kernels, f"{1000 * kernels[0] / rate:.3g} ms at {rate:,} Hz, then frames"
            ),
            Choice(f"{STEM}.strides", strides, f"a frame of {frame:.3g} ms"),
            Choice(f"{STEM}.widths", [32, 64], "narrow where there are many samples"),
        ]
    pool = 4 if gpu else 2
    hop = 2 * max(1, round(rate / (200 * pool)))  # even: half the rate keeps it in time
    window, machine = round(WINDOW_SECONDS * rate), "GPU" if gpu else "CPU"
    pools = [[1, 2], [2, 2], [1, 2]]
    frame = 1000 * hop * pool * math.prod(rows for rows, _ in pools) / rate
    return [
        Choice(
            f"{STEM}.filters", 64 if gpu else 32, f"learned filters, begun on the mel scale, on a {machine}"
        ),
        Choice(f"{STEM}.window", window, f"{1000 * window / rate:.3g} ms at {rate:,} Hz"),
        Choice(f"{STEM}.hop", hop, f"{1000 * hop / rate:.3g} ms"),
        Choice(f"{STEM}.pool", pool, "outputs averaged to a row"),
        Choice(
            f"{STEM}.widths", [32, 64, 128] if gpu else [16, 32, 64], f"of small convolutions on a {machine}"
        ),
        Choice(f"{STEM}.pools", pools, f"rows and filters together; a frame of {frame:.3g} ms"),
    ]


def stem_sizes(rate: int) -> tuple[list[int], list[int]]:
    """Return kernels and strides of a stem of three convolutions whose frames last about 8 ms.

    Args:
        rate: Sampling rate in Hz.
    """
    wanted = max(1, round(math.log2(FRAME_SECONDS * rate)))  # powers of two: rates halve without a rest
    last = min(2, wanted // 3)
    strides = [2 ** (wanted - 2 * last), 2**last, 2**last]
    return [max(8, 8 * strides[0]), *(max(4, 2 * stride) for stride in strides[1:])], strides


def batch_size(count: int, seconds: float, batch_seconds: float) -> int:
    """Return a power of two: about ``batch_seconds`` in a batch, and not more than a fifth of the recordings.

    Args:
        count: Number of training recordings.
        seconds: Usual duration of one.
        batch_seconds: Sound wanted in a batch.
    """
    wanted = min(batch_seconds / max(seconds, 1e-3), count / 5, 128)
    return int(2 ** max(1, int(math.log2(max(wanted, 1)))))
