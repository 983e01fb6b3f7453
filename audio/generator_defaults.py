"""Settings of a generative model's training chosen from the data, each with its reason."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from seqmamba.training.choice import Choice

_TASK = "model.init_args"
_NETWORK = f"{_TASK}.model.network"
POOL = (4, 4)
LONGEST_CPU = 2**13  # samples of a segment
LONGEST_GPU = 2**16
BATCH_SAMPLES_CPU = 2**15
BATCH_SAMPLES_GPU = 2**18
STEPS_CPU = 400
STEPS_GPU = 8000
LEARNING_RATE = 2e-3
LONGEST_STRETCH = 30.0  # seconds; longer recordings are cut, so that parts and batches are even
SAMPLE_SECONDS_CPU = 1.0
SAMPLE_SECONDS_GPU = 10.0


def choose_generator(
    seconds: Float[np.ndarray, " n"], rate: int, *, gpu: bool, classes: int = 0
) -> list[Choice]:
    """Choose the settings of a run of `audio.waveform_task.AutoregressiveTask`.

    Args:
        seconds: Durations of the training recordings.
        rate: Their sampling rate in Hz.
        gpu: Whether a GPU is there.
        classes: How many classes the recordings have; 0 without labels.

    Returns:
        The choices, in the order to show them.
    """
    machine = "GPU" if gpu else "CPU"
    segment, fill, reason = segment_length(seconds, rate, LONGEST_GPU if gpu else LONGEST_CPU)
    wanted = (BATCH_SAMPLES_GPU if gpu else BATCH_SAMPLES_CPU) / segment
    batch = int(2 ** max(0, math.floor(math.log2(max(1.0, min(wanted, len(seconds) / 2))))))
    # a recording gives as many segments an epoch as it is long
    passes = max(1, round(float(np.mean(np.maximum(1, seconds * rate / segment)))))
    steps = max(1, math.ceil(len(seconds) * passes / batch))
    epochs = max(1, math.ceil((STEPS_GPU if gpu else STEPS_CPU) / steps))
    size = f"{seconds.sum() / 60:,.1f} minutes on a {machine}"
    load = f"{batch * segment:,} samples in a step on a {machine}"
    choices = [
        Choice(f"{_NETWORK}.outer.d_model", 64 if gpu else 32, size),
        Choice(f"{_NETWORK}.outer.n_layers", 5 if gpu else 2, size),
        Choice(f"{_NETWORK}.inner_layers", [5, 6] if gpu else [2, 2], size),
        Choice(f"{_TASK}.segments.samples", segment, reason),
        Choice(f"{_TASK}.optimiser.lr", LEARNING_RATE, "small models bear a high rate"),
        Choice("data.init_args.loading.batch_size", batch, load),
        Choice("data.init_args.loading.passes", passes, f"{steps:,} steps an epoch"),
        Choice("trainer.max_epochs", epochs, f"{steps * epochs:,} steps on a {machine}"),
    ]
    if fill:
        choices.append(Choice(f"{_TASK}.segments.fill", True, "silence behind a recording says that it ends"))
    if classes:
        choices.append(Choice(f"{_TASK}.class_conditional", True, f"{classes} classes"))
    if gpu:
        choices.append(Choice(f"{_TASK}.cuda_graphs", True, "segments of one length"))
    return choices


def segment_length(seconds: Float[np.ndarray, " n"], rate: int, most: int) -> tuple[int, bool, str]:
    """Return the samples of a training segment, whether shorter recordings are filled up, and why.

    Args:
        seconds: Durations of the training recordings.
        rate: Their sampling rate in Hz.
        most: What a segment may have at most.
    """
    period = math.prod(POOL)
    usual = float(np.quantile(seconds, 0.9)) * rate
    if usual * 1.25 <= most:
        whole = math.ceil(usual * 1.25 / period) * period
        return whole, True, f"nine of ten recordings last up to {usual / rate:.3g} s, and then end"
    return most, False, f"{most / rate:.3g} s of recordings that last up to {seconds.max():.3g} s"
