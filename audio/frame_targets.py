"""What a masked model is to say of a hidden frame: its log-mel energies, or a code of them.

The codes need no training (BEST-RQ: Chiu et al. 2022, arXiv:2202.01855, section 3.1): a standardised log-mel
frame x is multiplied by a random matrix A, and its code is the nearest of random unit vectors c_i,
``argmin_i || c_i - A x / ||A x|| ||``. A is drawn as Xavier initialisation would, the c_i from a normal
distribution, and neither ever changes. Several such pairs give a frame as many codes, as in Zhang et al.
(2023, arXiv:2303.01037, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from audio.spectrograms import LogMel, SpectrogramConfig, standardised
from seqmamba.nn.options import is_number, require, require_choice, require_whole


@dataclass(frozen=True)
class FrameTargetConfig:
    """What is asked of a hidden frame.

    Args:
        kind: ``codes`` of a random-projection quantiser, or the ``log_mel`` energies themselves.
        mels: Mel filters.
        window_seconds: Length of the window around the middle of a frame; at least the frame.
        standardise: What of a recording is brought to zero mean and unit variance: each ``band``, which takes
            away the colour of voice and channel, or the spectrogram as a ``whole``, which takes away its
            loudness only and leaves what kind of sound it is.
        codebooks: Codes of a frame.
        codes: Vectors to choose from.
        dim: Their channels.
        seed: Of the projections and the vectors.

    Raises:
        UserError: If a value is out of range.
    """

    kind: Literal["codes", "log_mel"] = "codes"
    mels: int = 40
    window_seconds: float = 0.025
    standardise: Literal["band", "whole"] = "band"
    codebooks: int = 4
    codes: int = 512
    dim: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("targets.kind", self.kind, ("codes", "log_mel"))
        window = self.window_seconds
        require(is_number(window) and window > 0, "targets.window_seconds", "a number > 0", window)
        require_choice("targets.standardise", self.standardise, ("band", "whole"))
        for name, least in (("mels", 1), ("codebooks", 1), ("codes", 2), ("dim", 1), ("seed", 0)):
            require_whole(f"targets.{name}", getattr(self, name), least)


class FrameTargets(nn.Module):
    """Computes the targets of a batch and the losses of guesses at them.

    Args:
        config: What is asked.
        frame: Samples of a frame.
        sampling_rate: In Hz.

    Raises:
        UserError: If there are more mel filters than the window can tell apart.
    """

    projections: Tensor
    vectors: Tensor

    def __init__(self, config: FrameTargetConfig, frame: int, sampling_rate: int) -> None:
        super().__init__()
        self.config = config
        hop = frame / sampling_rate
        spectrogram = SpectrogramConfig(
            config.mels, window_seconds=max(config.window_seconds, hop), hop_seconds=hop
        )
        self.log_mel = LogMel(spectrogram, sampling_rate)
        projections, vectors = draw_codebooks(config)
        self.register_buffer("projections", projections)
        self.register_buffer("vectors", vectors)

    @property
    def outputs(self) -> int:
        """Values that a model gives for each frame."""
        config = self.config
        return config.codebooks * config.codes if config.kind == "codes" else config.mels

    @torch.no_grad()
    def forward(
        self, waveform: Float[Tensor, "batch length channels"], lengths: Int[Tensor, " batch"]
    ) -> Shaped[Tensor, "batch frames values"]:
        """Return the codes of every frame, int64, or its standardised energies, float32.

        Args:
            waveform: Samples, nothing hidden, padded on the right.
            lengths: True lengths in samples.
        """
        rows = self.log_mel(waveform, lengths)
        x = standardised(rows.x, rows.lengths, each_band=self.config.standardise == "band")
        if self.config.kind == "log_mel":
            return x
        with torch.autocast(x.device.type, enabled=False):
            projected = torch.einsum("bfm,kmd->bfkd", x, self.projections)
            # of unit vectors the nearest has the largest product, whatever the length of the other one
            return torch.einsum("bfkd,kcd->bfkc", projected, self.vectors).argmax(dim=-1)

    def by_codebook(self, guess: Float[Tensor, "batch frames outputs"]) -> Float[Tensor, "batch frames k c"]:
        """Return the logits of codes, those of each codebook by themselves."""
        return guess.unflatten(-1, (self.config.codebooks, self.config.codes))

    def losses(
        self,
        guess: Float[Tensor, "batch frames outputs"],
        truth: Shaped[Tensor, "batch frames values"],
    ) -> Float[Tensor, "batch frames"]:
        """Return the loss of each frame: cross-entropy in nats, or squared error, both as means.

        Args:
            guess: What a model gave.
            truth: What `forward` returned.
        """
        if self.config.kind == "log_mel":
            return (guess.float() - truth).square().mean(dim=-1)
        logits = self.by_codebook(guess.float())
        nats = F.cross_entropy(logits.flatten(0, 2), truth.flatten(), reduction="none")
        return nats.view(truth.shape).mean(dim=-1)


def draw_codebooks(
    config: FrameTargetConfig,
) -> tuple[Float[Tensor, "books mels dim"], Float[Tensor, "books codes dim"]]:
    """Return the projections and the unit vectors that the seed stands for, the same ones on every machine.

    Args:
        config: ``codebooks``, ``mels``, ``codes``, ``dim`` and ``seed`` are read.
    """
    # On the CPU by name: where a model is built for a GPU, that is where tensors are made unless they say so.
    generator = torch.Generator("cpu").manual_seed(config.seed)
    shape = (config.codebooks, config.mels, config.dim)
    bound = (6 / (config.mels + config.dim)) ** 0.5  # Glorot & Bengio 2010, equation 16
    vectors = torch.randn(config.codebooks, config.codes, config.dim, generator=generator, device="cpu")
    uniform = torch.rand(shape, generator=generator, device="cpu")
    return bound * (2 * uniform - 1), F.normalize(vectors, dim=-1)


def most_mels(rate: int, wanted: int = 40) -> int:
    """Return how many mel filters a rate has room for, with the windows of `FrameTargetConfig`.

    Args:
        rate: Sampling rate in Hz.
        wanted: What is enough.
    """
    return max(1, min(wanted, rate // 100))
