"""Training, validation and testing of a `PairedAlleleModel`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from genomics.allele_models import PairedAlleleModel, PairedAlleleModelConfig
from genomics.areas import ranked_areas
from genomics.equivariance import reverse_complement_some
from genomics.labelled_variants import AlleleTask, LabelledAlleles
from genomics.target_tasks import TargetTask
from seqmamba.atomic import atomic_path
from seqmamba.metrics import Estimate, evaluate
from seqmamba.nn.options import require_whole
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder

SHOWN = {"labels": ("auroc", "auprc"), "effects": ("spearman", "pearson", "r2")}
"""Metrics of each kind of task, the most telling one first."""


@dataclass(frozen=True)
class AlleleEvaluation:
    """How a test pass counts.

    Args:
        bootstrap: Resamples of the variants behind the 95 % intervals; 0 gives none.

    Raises:
        UserError: If it is negative.
    """

    bootstrap: int = 1000

    def __post_init__(self) -> None:
        require_whole("evaluation.bootstrap", self.bootstrap, 0)


class PairedAlleleTask(TargetTask):
    """What variants do, for the data module's labels or effects.

    Labels have no direction, so their model is not signed; effects have one; see `PairedAlleleHead`.

    Args:
        model: What to build.
        optimiser: AdamW and its schedule.
        evaluation: How a test pass counts.
        init_from: A pretrained model to begin with: its embedding and backbone take the place of `model`'s.
    """

    title = "pairs of alleles"

    def __init__(
        self,
        model: PairedAlleleModelConfig = PairedAlleleModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        evaluation: AlleleEvaluation = AlleleEvaluation(),
        init_from: InitConfig | None = None,
    ) -> None:
        super().__init__(model, optimiser, evaluation, init_from)
        self._kind: AlleleTask = "labels"
        self._found: list[tuple[Tensor, Tensor]] = []

    def configure_model(self) -> None:
        """Build the model for the data's targets; Lightning calls this after the data module's setup."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self._kind = data.labels.task
        if hasattr(self, "model"):
            return
        config = replace(self.model_config, targets=data.targets, signed=self._kind == "effects")
        self.build(PairedAlleleModel, config)
        if self._kind == "effects":
            # Of the effects themselves, not about their mean: no change is no effect.
            spread = np.sqrt(np.nanmean(data.alleles.values[data.part("train")] ** 2, axis=0))
            spread = np.where(spread > 0, spread, 1.0)  # of a target without a known value, too
            self.model.head.scale.copy_(torch.from_numpy(spread))

    def forward(self, reference: Tensor, alternative: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return effects, or log-odds of labels."""
        effects: Tensor = self.model(reference, alternative, lengths, lengths)
        return effects

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, on random strands if the model asks for that."""
        reference, alternative, lengths = batch["reference"], batch["alternative"], batch.get("lengths")
        if self.model.augments:
            chosen = torch.rand(len(reference), device=reference.device) < 0.5
            reference, alternative = (
                reverse_complement_some(tokens, lengths, chosen) for tokens in (reference, alternative)
            )
        loss = self._loss(self(reference, alternative, lengths), batch["values"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(reference), prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget an earlier pass."""
        self._found.clear()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the validation loss and predictions."""
        effects = self._keep(batch)
        loss = self._loss(effects, batch["values"])
        self.log("val/loss", loss, batch_size=len(effects), prog_bar=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation variants."""
        if self.trainer.sanity_checking:
            return
        index, effects = self._gathered()
        if not np.isfinite(effects).all():  # the loss says so already, and stops the run
            return
        found = evaluate_alleles(effects, self._alleles.values[index], self.targets, self._kind, 0)
        self.log_means(found, SHOWN[self._kind])

    def on_test_epoch_start(self) -> None:
        """Forget an earlier pass; see `TimedTask`."""
        super().on_test_epoch_start()
        self._found.clear()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Keep a batch's effects."""
        self._keep(batch)

    def on_test_epoch_end(self) -> None:
        """Write predictions and results of the test variants to the run folder, and print them."""
        index, effects = self._gathered()
        values, resamples = self._alleles.values[index], self.evaluation_config.bootstrap
        metrics = evaluate_alleles(effects, values, self.targets, self._kind, resamples, self.seed)
        write_alleles(RunFolder.of(self.trainer), self._alleles, index, effects, self.targets)
        self.report({"variants": len(index)}, metrics)

    @property
    def _alleles(self) -> LabelledAlleles:
        alleles: LabelledAlleles = self.trainer.datamodule.alleles  # type: ignore[attr-defined]
        return alleles

    def _loss(self, effects: Tensor, values: Tensor) -> Tensor:
        known = values.isfinite()
        truth = values.masked_fill(~known, 0)
        if self._kind == "labels":
            losses = F.binary_cross_entropy_with_logits(effects, truth, reduction="none")
        else:
            losses = ((effects - truth) / self.model.head.scale) ** 2
        return losses.masked_fill(~known, 0).sum() / known.sum().clamp_min(1)

    def _keep(self, batch: dict[str, Tensor]) -> Tensor:
        effects: Tensor = self(batch["reference"], batch["alternative"], batch.get("lengths"))
        self._found.append((batch["index"].cpu(), effects.detach().float().cpu()))
        return effects

    def _gathered(self) -> tuple[np.ndarray, np.ndarray]:
        index, effects = (torch.cat(parts).numpy() for parts in zip(*self._found, strict=True))
        order = np.argsort(index, kind="stable")
        return index[order], effects[order].astype(np.float64)


def evaluate_alleles(
    effects: Float[np.ndarray, "n targets"],
    values: Float[np.ndarray, "n targets"],
    targets: tuple[str, ...],
    kind: AlleleTask,
    n_bootstrap: int,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """Compute the metrics of every target over the variants whose value is known.

    Args:
        effects: Predicted effects, or log-odds of labels.
        values: True ones; NaN where unknown.
        targets: Names of the columns.
        kind: What they are.
        n_bootstrap: Number of resamples; 0 gives NaN intervals.
        seed: Seed of the resampling.

    Returns:
        Target to metric to estimate; NaN where a metric does not exist, as without any known value.
    """
    found: dict[str, dict[str, Estimate]] = {}
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    for column, target in enumerate(targets):
        known = np.isfinite(values[:, column])
        mine, truth = effects[known, column], values[known, column]
        if not known.any():
            found[target] = dict.fromkeys(SHOWN[kind], nothing)
            continue
        options: dict[str, int] = {"n_bootstrap": n_bootstrap, "seed": seed}
        if kind == "labels":
            found[target] = ranked_areas(mine, truth == 1, **options)
        else:
            metrics = evaluate(mine[:, None], truth[:, None], "regression", (target,), **options)
            found[target] = {name: metrics[name] for name in SHOWN[kind]}
    return found


def write_alleles(
    folder: RunFolder,
    alleles: LabelledAlleles,
    index: np.ndarray,
    effects: Float[np.ndarray, "n targets"],
    targets: tuple[str, ...],
) -> None:
    """Write ``predictions.tsv``: chrom, pos (1-based), ref, alt, and the true and predicted values.

    Args:
        folder: The run folder.
        alleles: All variants.
        index: Which of them.
        effects: What was predicted of these.
        targets: Names of the values.
    """
    with atomic_path(folder.predictions) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        names = [f"{name}{kind}" for name in targets for kind in ("", "_predicted")]
        out.write("\t".join(["chrom", "pos", "ref", "alt", *names]) + "\n")
        for place, row in zip(index.tolist(), effects, strict=True):
            variant = alleles.variants[place]
            cells = [variant.chrom, str(variant.position), variant.ref.decode(), variant.alts[0].decode()]
            for true, predicted in zip(alleles.values[place].tolist(), row.tolist(), strict=True):
                cells += ["" if np.isnan(true) else f"{true:.6g}", f"{predicted:.6g}"]
            out.write("\t".join(cells) + "\n")
