from __future__ import annotations

import pytest
import torch

from seqmamba.errors import UserError
from seqmamba.ops import bidirectional_scan, causal_conv1d, explain, selective_scan


@pytest.mark.parametrize("operator", ["selective_scan", "causal_conv1d", selective_scan, causal_conv1d])
def test_numba_serves_the_cpu(operator: object) -> None:
    explanation = explain(operator)
    assert explanation.chosen == "numba"
    assert list(explanation.verdicts)[-4:-1] == ["numba", "chunked", "reference"]
    assert "would run" in explanation.verdicts["numba"]
    assert 'with impl="chunked"' in str(explanation)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ({"u": torch.zeros(1, dtype=torch.float64)}, "it computes in float32 and an argument is float64"),
        ({"A": torch.zeros(1, dtype=torch.complex64)}, "it is real and an argument is complex"),
        ({"u": torch.zeros(1, device="meta")}, "it runs on the CPU and the tensors are on meta"),
    ],
)
def test_the_reason_is_given(example: dict[str, torch.Tensor], reason: str) -> None:
    explanation = explain("selective_scan", **example)
    assert explanation.chosen == "chunked"
    assert explanation.verdicts["numba"].endswith(f"cannot run: {reason}")
    with pytest.raises(UserError, match=reason):
        explain("selective_scan", impl="numba", **example)


def test_a_missing_numba_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqmamba.ops.dispatch.NUMBA_INSTALLED", False)
    explanation = explain("selective_scan")
    assert explanation.chosen == "chunked"
    assert "numba is not installed" in explanation.verdicts["numba"]


def test_mistakes_are_named() -> None:
    names = "selective_scan, causal_conv1d, ssd, bidirectional_scan, rms_norm, lti, bidirectional_lti, draw"
    with pytest.raises(UserError, match=f"op must be one of {names}, got 'scan'"):
        explain("scan")
    with pytest.raises(UserError, match="causal_conv1d takes no tensor argument u"):
        explain("causal_conv1d", u=torch.zeros(1))
    with pytest.raises(UserError, match=r"takes u as a pair \(forward, reverse\) of tensors"):
        explain("bidirectional_scan", u=torch.zeros(1))
    with pytest.raises(UserError, match="selective_scan takes u as a tensor, got tuple"):
        explain("selective_scan", u=(torch.zeros(1), torch.zeros(1)))


@pytest.mark.parametrize("operator", ["bidirectional_scan", bidirectional_scan])
def test_two_scans_serve_both_directions_on_the_cpu(operator: object) -> None:
    pair = (torch.zeros(1), torch.zeros(1))
    explanation = explain(operator, u=pair, D=(None, None), z=pair[0])
    assert (explanation.chosen, list(explanation.verdicts)) == ("separate", ["cuda", "separate"])
    assert explanation.verdicts["cuda"].endswith("it runs on an NVIDIA GPU and the tensors are on cpu")


def test_the_second_direction_counts_too() -> None:
    on_cpu, elsewhere = torch.zeros(1), torch.zeros(1, device="meta")
    verdict = explain("bidirectional_scan", B=(on_cpu, elsewhere)).verdicts["cuda"]
    assert verdict.endswith("the tensors are on cpu")
    states = torch.zeros(3, 17)
    verdict = explain("bidirectional_scan", A=(states, states)).verdicts["cuda"]
    assert verdict.endswith("it holds up to 16 states and A has 17")
