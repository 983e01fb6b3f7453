"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter

from seqmamba.serving.batching import Batcher


class Metrics:
    """Counts requests.

    Args:
        batcher: Whose queue and workers are shown.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._statuses: Counter[int] = Counter()
        self._seconds = 0.0

    def note(self, status: int, seconds: float) -> None:
        """Count a request for a prediction.

        Args:
            status: Of HTTP.
            seconds: From its first byte to the answer.
        """
        self._statuses[status] += 1
        self._seconds += seconds

    def text(self) -> str:
        """Return all numbers in Prometheus' text format, version 0.0.4."""
        counts, workers = self._batcher.counts, self._batcher.workers
        rows: list[tuple[str, str, list[tuple[str, float]]]] = [
            (
                "requests_total",
                "counter",
                [(f'{{status="{s}"}}', n) for s, n in sorted(self._statuses.items())],
            ),
            ("request_seconds_total", "counter", [("", self._seconds)]),
            ("batches_total", "counter", [("", counts["batches"])]),
            ("batched_requests_total", "counter", [("", counts["batched requests"])]),
            ("workers_lost_total", "counter", [("", counts["workers lost"])]),
            ("workers_ready", "gauge", [("", sum(worker.ready for worker in workers))]),
            ("requests_waiting", "gauge", [("", self._batcher.waiting)]),
        ]
        lines = []
        for name, kind, values in rows:
            lines.append(f"# TYPE seqmamba_{name} {kind}")
            lines += [f"seqmamba_{name}{labels} {value:g}" for labels, value in values]
        return "\n".join(lines) + "\n"
