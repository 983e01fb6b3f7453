"""What a run logs while it trains, without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def metrics_csv(folder: Path, epochs: int = 10, seed: int = 0) -> None:
    """Write learning curves: training rows within epochs, validation rows at their end."""
    rng = np.random.default_rng(seed)
    lines = ["epoch,step,train/loss,lr,val/loss,val/accuracy,val/mcc,val/auroc"]
    for epoch in range(epochs):
        for part in range(1, 5):
            step = epoch * 80 + part * 20
            loss = 0.05 + 0.65 * np.exp(-step / 160) + rng.normal(0, 0.012)
            lines.append(f"{epoch},{step},{loss:.5f},0.001,,,,")
        loss = 0.11 + 0.5 * np.exp(-epoch / 2) + 0.006 * epoch + rng.normal(0, 0.008)
        right = 0.985 - 0.4 * np.exp(-epoch / 1.7) + rng.normal(0, 0.004)
        row = f"{epoch},{epoch * 80 + 80},,,{loss:.5f},{right:.4f},{2 * right - 1:.4f},{0.5 + right / 2:.4f}"
        lines.append(row)
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
