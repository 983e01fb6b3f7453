"""Settings that `seqmamba audio fit` chooses from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audio.defaults import choose
from audio.filterbank import FilterbankConfig
from audio.frontends import build_stem
from audio.stems import StridedStemConfig

STEM = "model.init_args.model.stem."


def chosen(rate: int, **options: Any) -> dict[str, Any]:
    return {choice.key: choice.value for choice in choose(np.full(100, 0.5), rate, **options)}


def stem(rate: int, **options: Any) -> dict[str, Any]:
    return {
        key.removeprefix(STEM): value
        for key, value in chosen(rate, **options).items()
        if key.startswith(STEM)
    }


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("rate", [1000, 4000, 8000, 16_000, 22_050, 44_100, 96_000])
def test_filters_have_frames_of_20_ms_and_half_the_rate_keeps_them(rate: int, gpu: bool) -> None:
    config = FilterbankConfig(**stem(rate, gpu=gpu))
    assert config.hop % 2 == 0
    assert config.frame / rate == pytest.approx(0.02, rel=0.25)
    build_stem(config, rate, 1, 8, causal=False)


@pytest.mark.parametrize(("rate", "causal"), [(16_000, True), (250, False)])
def test_causal_models_and_slow_signals_have_strided_convolutions(rate: int, causal: bool) -> None:
    config = StridedStemConfig(**stem(rate, gpu=False, causal=causal))
    build_stem(config, rate, 1, 8, causal=causal)


def test_long_recordings_are_cut() -> None:
    long = {choice.key: choice.value for choice in choose(np.full(10, 60.0), 8000, gpu=False)}
    assert long["model.init_args.augmentation.seconds"] == 5.0
    assert "model.init_args.augmentation.seconds" not in chosen(8000, gpu=False)
