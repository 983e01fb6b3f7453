"""Training, validation and testing of a `BinnedTrackModel`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genomics.bin_models import BinnedTrackModel, BinnedTrackModelConfig
from genomics.equivariance import mirror, reverse_complement_some
from genomics.target_tasks import TargetTask
from genomics.track_metrics import BlockMoments, evaluate_tracks
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import OptimiserConfig


@dataclass(frozen=True)
class TrackEvaluation:
    """How a test pass counts.

    Args:
        bootstrap: Resamples behind the 95 % intervals; 0 gives none.
        block: Bases of a block, the unit that is resampled; bins nearer to each other than that are not taken
            for independent. Cut into whole bins.

    Raises:
        UserError: If a value is out of range.
    """

    bootstrap: int = 1000
    block: int = 32_768

    def __post_init__(self) -> None:
        require_whole("evaluation.bootstrap", self.bootstrap, 0)
        require_whole("evaluation.block", self.block)


class BinnedTrackTask(TargetTask):
    """Values of every bin, for the data module's tracks and bins.

    Args:
        model: What to build.
        optimiser: AdamW and its schedule.
        evaluation: How a test pass counts.
        init_from: A pretrained model to begin with: its embedding and backbone take the place of `model`'s.
    """

    title = "binned tracks"

    def __init__(
        self,
        model: BinnedTrackModelConfig = BinnedTrackModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        evaluation: TrackEvaluation = TrackEvaluation(),
        init_from: InitConfig | None = None,
    ) -> None:
        super().__init__(model, optimiser, evaluation, init_from)
        self._blocks = np.zeros(1, dtype=np.int64)
        self._moments: BlockMoments | None = None

    def configure_model(self) -> None:
        """Build the model for the data's tracks; Lightning calls this after the data module's setup.

        Raises:
            UserError: If a track has negative values and the loss is Poisson's.
        """
        if hasattr(self, "model"):
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        config = replace(self.model_config, targets=data.targets, bin_size=data.windows.bin_size)
        for target, smallest in data.smallest.items():
            if config.loss == "poisson" and smallest < 0:
                raise UserError(
                    f"model.loss: poisson is for counts and rates, and the track {target} goes down to "
                    f"{smallest:g}",
                    hint="model.loss: mse takes any values",
                )
        self.build(BinnedTrackModel, config)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the values of every bin."""
        values: Tensor = self.model(tokens, lengths)
        return values

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, on random strands if the model asks for that."""
        tokens, targets, lengths = batch["tokens"], batch["targets"], batch.get("lengths")
        if self.model.augments:
            chosen = torch.rand(len(tokens), device=tokens.device) < 0.5
            tokens = reverse_complement_some(tokens, lengths, chosen)
            bins = None if lengths is None else lengths // self.model.config.bin_size
            targets = torch.where(chosen[:, None, None], mirror(targets, bins), targets)
        loss = self.model.loss(tokens, targets, lengths)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(tokens), prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self._begin("validation")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the validation loss and moments."""
        tokens, targets, lengths = batch["tokens"], batch["targets"], batch.get("lengths")
        values = self(tokens, lengths)
        total, known = self.model.head.sum_of_losses(values, targets)
        count = max(1, int(known))
        self.log("val/loss", total / count, batch_size=count, prog_bar=True, sync_dist=True)
        self._add(values, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation stretches."""
        if self.trainer.sanity_checking or self._moments is None or not self._moments.count.any():
            return
        found = evaluate_tracks(self._moments, self.targets, n_bootstrap=0)
        self.log_means(found, ("pearson", "r2"))

    def on_test_epoch_start(self) -> None:
        """Start counting anew; see `TimedTask`."""
        super().on_test_epoch_start()
        self._begin("test")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the moments."""
        self._add(self(batch["tokens"], batch.get("lengths")), batch)

    def on_test_epoch_end(self) -> None:
        """Write the results of the test stretches to the run folder, and print them."""
        assert self._moments is not None
        metrics = evaluate_tracks(
            self._moments, self.targets, n_bootstrap=self.evaluation_config.bootstrap, seed=self.seed
        )
        known = self._moments.count
        counts = {"bins": int(known.max(axis=1).sum()), "blocks": int(known.any(axis=1).sum())}
        self.report(counts, metrics)

    def _begin(self, part: str) -> None:
        """Number the blocks of all stretches one after the other."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        size = self._block_bins * data.windows.bin_size
        counts = [-(-len(region) // size) for region in data.regions[part]]
        self._blocks = np.concatenate([[0], np.cumsum(counts)])
        self._moments = BlockMoments(int(self._blocks[-1]), len(self.targets))

    @property
    def _block_bins(self) -> int:
        return max(1, self.evaluation_config.block // self.model.config.bin_size)

    def _add(self, values: Tensor, batch: dict[str, Tensor]) -> None:
        assert self._moments is not None
        predicted, truth = values.float().cpu().numpy(), batch["targets"].cpu().numpy()
        for row, (which, first, last, start) in enumerate(batch["place"].tolist()):
            kept = slice(first - start, last - start)
            block = self._blocks[which] + np.arange(first, last) // self._block_bins
            self._moments.add(block, predicted[row, kept], truth[row, kept])
