"""The front end that a config describes: what turns samples into the sequence that a backbone reads."""

from __future__ import annotations

from audio.code_stem import CodeStem, CodeStemConfig
from audio.filterbank import FilterbankConfig, FilterbankStem
from audio.spectrograms import SpectrogramConfig, SpectrogramStem
from audio.stems import StridedStem, StridedStemConfig
from seqmamba.errors import UserError

StemConfig = StridedStemConfig | FilterbankConfig | SpectrogramConfig | CodeStemConfig
Stem = StridedStem | FilterbankStem | SpectrogramStem | CodeStem


def build_stem(config: StemConfig, rate: int, channels: int, d_model: int, *, causal: bool) -> Stem:
    """Build a front end.

    Args:
        config: Which one, and its sizes.
        rate: Sampling rate of the training in Hz.
        channels: Channels of the waveform.
        d_model: Channels of the sequence.
        causal: Whether nothing may look ahead.

    Raises:
        UserError: If it is to be causal and cannot be.
    """
    if isinstance(config, StridedStemConfig):
        return StridedStem(config, channels, d_model, causal)
    if isinstance(config, CodeStemConfig):
        return CodeStem(config, channels, d_model)
    if causal:
        raise UserError(
            "stem: a causal model needs a StridedStemConfig or a CodeStemConfig, got a "
            f"{type(config).__name__}",
            hint="filter banks and spectrograms look ahead",
        )
    if isinstance(config, FilterbankConfig):
        return FilterbankStem(config, rate, d_model)
    return SpectrogramStem(config, rate, d_model)
