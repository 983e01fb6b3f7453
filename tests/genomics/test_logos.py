from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from genomics import logos
from genomics.palette import LIGHT


@pytest.mark.parametrize("letter", list("ACGTN"))
def test_glyph_fills_the_unit_square(letter: str) -> None:
    box = logos.glyph(letter).get_extents()
    assert box.extents == pytest.approx((0, 0, 1, 1), abs=1e-9)


def test_letters_are_as_tall_as_their_score() -> None:
    axes = Figure().subplots()
    logos.draw_letters(axes, "ACGA", np.array([1.0, -0.5, 0.0, 0.25]), start=10)
    found = {}
    for collection in axes.collections:
        assert isinstance(collection, PathCollection)
        for path in collection.get_paths():
            box = path.get_extents()
            found[round(box.x0 - 0.05)] = (to_hex(collection.get_facecolor()[0]), box.y0, box.y1)
    assert set(found) == {10, 11, 13}
    assert found[10] == (LIGHT["base_a"], 0, 1)
    assert found[11] == (LIGHT["base_c"], -0.5, 0)
    assert found[13] == (LIGHT["base_a"], 0, 0.25)


def test_window_holds_the_peak_near_its_middle() -> None:
    scores = np.full(500, 0.01)
    scores[300:306] = -2
    start, end = logos.best_window(scores, 50)
    assert end - start == 50
    assert abs((start + end) / 2 - 303) <= 3
    assert logos.best_window(scores[:20], 50) == (0, 20)


@pytest.mark.parametrize("length", [1, 30, 2000])
def test_figures_draw_any_length_and_nan(length: int) -> None:
    scores = np.random.default_rng(0).normal(size=length)
    scores[0] = np.nan
    sequence = "ACGTN" * (length // 5 + 1)
    for figure in (logos.logo(sequence[:length], scores), logos.track(scores, window=(0, length))):
        figure.canvas.draw()
    logos.logo("AC", np.zeros(2)).canvas.draw()
