from __future__ import annotations

import pytest

from genomics.numbers import whole_number


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("007", 7), (" 12\t", 12), ("-3", -3), ("9" * 99, 10**99 - 1)]
)
def test_whole_numbers(text: str, value: int) -> None:
    assert whole_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1_000",
        "+5",
        "1e3",
        "5.0",
        "1,000",
        "0x1F",
        "NaN",
        "inf",
        "--1",
        "1 2",
        "٣",
        "１２",
        "\xa05",
        "9" * 5_000,
    ],
)
def test_everything_else(text: str) -> None:
    assert whole_number(text) is None
