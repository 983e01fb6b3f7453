"""Log-mel spectrograms and their patches, as Audio Mamba reads them.

The window, the hop and the mel filters are given in seconds and Hz, so that a spectrogram means the same at
any sampling rate. torchaudio gives the mel filters; it is imported when they are made, because a torchaudio
that does not fit the installed torch cannot be imported.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audio.rates import stride_at_rate
from audio.stems import Frames, frames_of, masked
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_whole
from seqmamba.nn.patches import ClassToken, PatchEmbedding, Patches

_FLOOR = 1e-8


@dataclass(frozen=True)
class SpectrogramConfig:
    """A log-mel spectrogram, and how it is cut into patches.

    Args:
        mels: Mel filters: the width of the map.
        window_seconds: Length of the window.
        hop_seconds: From window to window.
        lowest: Lower end of the lowest filter in Hz.
        highest: Upper end of the highest filter in Hz; None means half the sampling rate of the training.
        patch: Rows and filters of a patch.
        stride: Steps from patch to patch; None means the patch's size.
        rows: Rows of patches that have a place of their own; see `PatchEmbedding`.
        class_token: ``none``, ``front``, ``middle`` or ``end``; its output is read instead of the pooling.

    Raises:
        UserError: If a value is out of range.
    """

    mels: int = 128
    window_seconds: float = 0.025
    hop_seconds: float = 0.01
    lowest: float = 20.0
    highest: float | None = None
    patch: tuple[int, int] = (16, 16)
    stride: tuple[int, int] | None = None
    rows: int = 64
    class_token: ClassToken = "none"

    def __post_init__(self) -> None:
        for name in ("patch", "stride"):
            if isinstance(getattr(self, name), list):  # YAML and JSON have lists
                object.__setattr__(self, name, tuple(getattr(self, name)))
        require_whole("mels", self.mels)
        for name in ("window_seconds", "hop_seconds"):
            value = getattr(self, name)
            require(is_number(value) and value > 0, name, "a number > 0", value)
        shorter = self.hop_seconds <= self.window_seconds
        require(shorter, "hop_seconds", f"at most the window, {self.window_seconds}", self.hop_seconds)
        require(is_number(self.lowest) and self.lowest >= 0, "lowest", "a frequency >= 0 Hz", self.lowest)
        fits = self.highest is None or (is_number(self.highest) and self.highest > self.lowest)
        require(fits, "highest", f"null or a frequency > {self.lowest} Hz", self.highest)


class LogMel(nn.Module):
    """Log-mel spectrograms: (batch, length, channels) to (batch, rows, mels).

    Rows are centred on their hop, and the end is filled up with zeros, so what stands behind the true lengths
    changes nothing. Energies of several channels are averaged. A sine of full scale in the middle of a filter
    has about the value 0.

    Args:
        config: ``mels``, ``window_seconds``, ``hop_seconds``, ``lowest`` and ``highest`` are read.
        sampling_rate: Of the training, in Hz.

    Raises:
        UserError: If torchaudio cannot be imported, or a filter lies between two frequencies that the window
            can tell apart.
    """

    filters: Tensor

    def __init__(self, config: SpectrogramConfig, sampling_rate: int) -> None:
        super().__init__()
        self.window = max(1, round(config.window_seconds * sampling_rate))
        self.hop = max(1, round(config.hop_seconds * sampling_rate))
        self.transform = 2 ** (1 + math.ceil(math.log2(self.window)))  # twice as fine as the window tells
        self.register_buffer("filters", mel_filters(self.transform, sampling_rate, config), persistent=False)

    def forward(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: float = 1.0,
    ) -> Frames:
        """Compute the spectrograms, float32.

        Windows and filters are the same in time and frequency at any rate; above half the sampling rate of a
        slower input there is silence.

        Args:
            waveform: Samples, padded on the right.
            lengths: True lengths in samples; None means no padding.
            rate: Training sampling rate over the input's.

        Raises:
            UserError: If the rate is not a positive number.
        """
        hop, left = stride_at_rate(self.hop, rate)
        window, transform = max(hop, round(self.window / rate)), round(self.transform / rate)
        samples = masked(waveform, lengths).float().mT
        length = samples.shape[2]
        rows, front = frames_of(length, hop), (window - hop) // 2
        samples = F.pad(samples, (front, (rows - 1) * hop + window - front - length))
        taper = torch.hann_window(window, device=samples.device)
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = torch.fft.rfft(samples.unfold(2, window, hop) * taper, n=transform)
            # by Parseval's theorem the energy of a sine of full scale adds up to 1
            energy = spectrum.abs().square().mean(dim=1) * (4 / (transform * taper.square().sum()))
            bins = min(energy.shape[2], len(self.filters))
            x = torch.log(energy[..., :bins] @ self.filters[:bins] + _FLOOR)
        if lengths is not None:
            lengths = frames_of(lengths, hop)
        return Frames(masked(x, lengths), lengths, left)


def mel_filters(transform: int, sampling_rate: int, config: SpectrogramConfig) -> Float[Tensor, "bins mels"]:
    """Return the weights of frequency bins in each mel filter, on the HTK scale.

    Args:
        transform: Samples of the Fourier transform.
        sampling_rate: In Hz.
        config: ``mels``, ``lowest`` and ``highest`` are read.

    Raises:
        UserError: If torchaudio cannot be imported, or a filter has no bin.
    """
    functional = import_torchaudio().functional
    highest = sampling_rate / 2 if config.highest is None else config.highest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of empty filters; they are refused below
        filters: Tensor = functional.melscale_fbanks(
            transform // 2 + 1, config.lowest, highest, config.mels, sampling_rate
        )
    empty = int((filters.amax(dim=0) == 0).sum())
    require(empty == 0, "mels", f"fewer filters: {empty} of them have no frequency of their own", config.mels)
    return filters


def import_torchaudio() -> Any:
    """Import torchaudio, which needs the CUDA version of the installed torch.

    Raises:
        UserError: If it cannot be imported.
    """
    try:
        import torchaudio.functional
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"torchaudio cannot be imported: {reason}",
            hint="install the torchaudio that was built for the installed torch",
        ) from None
    return torchaudio


class SpectrogramStem(nn.Module):
    """Turns waveforms into patches of their log-mel spectrograms.

    Each spectrogram is brought to zero mean and unit variance.

    Args:
        config: The spectrogram and its patches.
        sampling_rate: Of the training, in Hz.
        d_model: Channels of a patch.
    """

    def __init__(self, config: SpectrogramConfig, sampling_rate: int, d_model: int) -> None:
        super().__init__()
        self.spectrogram = LogMel(config, sampling_rate)
        self.patches = PatchEmbedding(
            d_model,
            config.mels,
            config.rows,
            patch=config.patch,
            stride=config.stride,
            class_token=config.class_token,
        )

    @property
    def frame(self) -> int:
        """Samples between two rows of patches at the training's rate."""
        return self.spectrogram.hop * self.patches.stride[0]

    def forward(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: float = 1.0,
    ) -> Patches:
        """Turn a batch of waveforms into patches, row by row.

        Args:
            waveform: Samples, padded on the right.
            lengths: True lengths in samples; None means no padding.
            rate: Training sampling rate over the input's.
        """
        rows = self.spectrogram(waveform, lengths, rate=rate)
        patches: Patches = self.patches(standardised(rows.x, rows.lengths), rows.lengths)
        return patches


def standardised(
    x: Float[Tensor, "batch rows mels"],
    lengths: Int[Tensor, " batch"] | None,
    *,
    each_band: bool = False,
) -> Float[Tensor, "batch rows mels"]:
    """Bring each map to zero mean and unit variance over its true rows; zero behind them.

    Args:
        x: Maps of time and bands, padded on the right.
        lengths: True numbers of rows; None means no padding.
        each_band: Whether every band is brought there by itself, not the map as a whole.
    """
    over = 1 if each_band else (1, 2)
    rows = (x.new_full((len(x),), x.shape[1]) if lengths is None else lengths)[:, None, None]
    count = rows if each_band else rows * x.shape[2]
    shown = masked(x, lengths)
    centred = masked(shown - shown.sum(dim=over, keepdim=True) / count, lengths)
    variance = centred.square().sum(dim=over, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-5)
