"""Training, validation and testing of a `SegmentationModel`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genomics.codons import BACTERIAL, stop_codons
from genomics.datasets.segments import Region
from genomics.equivariance import reverse_complement_some
from genomics.finetuning import build_model
from genomics.gene_decoding import EDGE, Segment, decode_genes, segments
from genomics.gene_labels import UNKNOWN, LabelArray, reverse_complement_labels
from genomics.segmentation import SegmentationModel, SegmentationModelConfig
from genomics.segmentation_metrics import Decided, evaluate_segmentation, right_by_block
from genomics.segmentation_results import Evaluation, Group, SegmentationResults, write_gff3
from seqmamba.errors import UserError
from seqmamba.metrics import confusion_metrics
from seqmamba.nn.lora import merge_lora
from seqmamba.training.callbacks import run_seed
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.hardware import describe_device, software_versions
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.task import Task

SHOWN = (
    *("accuracy", "mcc", "coding_sensitivity", "coding_specificity"),
    *("decoded_accuracy", "decoded_mcc", "gene_exact_f1", "gene_overlap_f1"),
)
PREDICTED_GENES = "predictions.gff3"


@dataclass(frozen=True)
class SegmentationEvaluation:
    """How a test pass decides and counts.

    Args:
        bootstrap: Resamples behind the 95 % intervals; 0 gives none.
        edge: What the first and the last base of a gene cost, in nats; see `genomics.gene_decoding`.
        genetic_code: NCBI's number of the code whose start and stop codons genes must have; None reads no
            codons.
    """

    bootstrap: int = 1000
    edge: float = EDGE
    genetic_code: int | None = BACTERIAL

    def __post_init__(self) -> None:
        for name in ("bootstrap", "edge"):
            if not getattr(self, name) >= 0:
                raise UserError(f"evaluation.{name}: expected zero or more, got {getattr(self, name)}")
        if self.genetic_code is not None:
            stop_codons(self.genetic_code)  # raises where there is none


class SegmentationTask(Task):
    """A class for every base, from the data module's scheme.

    Args:
        model: What to build.
        optimiser: AdamW and its schedule.
        balance_classes: Weigh every class by the inverse of its frequency in the loss.
        evaluation: How a test pass decides and counts.
        init_from: A pretrained model to begin with: its embedding and backbone take the place of `model`'s.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: SegmentationModelConfig = SegmentationModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        balance_classes: bool = False,
        evaluation: SegmentationEvaluation = SegmentationEvaluation(),
        init_from: InitConfig | None = None,
    ) -> None:
        super().__init__(optimiser)
        self.record_hyperparameters(
            model=model,
            optimiser=self.optimiser_config,
            balance_classes=balance_classes,
            evaluation=evaluation,
            init_from=init_from,
        )
        self.model_config = model
        self.balance_classes = balance_classes
        self.evaluation_config = evaluation
        self.init_from = init_from
        self.register_buffer("class_weights", None, persistent=False)
        self._confusion: Tensor | None = None
        self._regions: list[Region] = []
        self._log_probabilities: dict[int, np.ndarray] = {}
        self._start = 0.0

    @property
    def exported(self) -> SegmentationModel:
        """The model, for ``RUN/pretrained``; low-rank updates become part of its weights."""
        return merge_lora(self.model)

    def configure_model(self) -> None:
        """Build the model for the data's classes; Lightning calls this after the data module's setup."""
        if hasattr(self, "model"):
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        config = replace(self.model_config, scheme=data.scheme.name)
        self.model = build_model(SegmentationModel, config, self.init_from, self.optimiser_config.lr)
        if self.balance_classes:
            counts = np.maximum(data.class_counts(), 1)
            weights = counts.sum() / (len(counts) * counts)
            self.class_weights = torch.as_tensor(weights, dtype=torch.float32, device=self.device)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the model's logits."""
        logits: Tensor = self.model(tokens, lengths)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, on random strands if the model asks for that."""
        tokens, labels, lengths = batch["tokens"], batch["labels"], batch.get("lengths")
        if self.model.augments:
            chosen = torch.rand(len(tokens), device=tokens.device) < 0.5
            tokens = reverse_complement_some(tokens, lengths, chosen)
            turned = reverse_complement_labels(labels, lengths, self.model.scheme)
            labels = torch.where(chosen.unsqueeze(1), turned, labels)
        loss = self.model.loss(tokens, labels, lengths, self.class_weights)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(tokens), prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        k = len(self.model.scheme.classes)
        self._confusion = torch.zeros(k, k, dtype=torch.int64, device=self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the validation loss and counts."""
        assert self._confusion is not None
        k = len(self._confusion)
        losses, bases = torch.zeros((), device=self.device), 0
        for here, logits in self.model.logit_slices(batch["tokens"], batch.get("lengths")):
            labels = batch["labels"][:, here].long()
            known = labels != UNKNOWN
            labels, logits = labels[known], logits[known]
            losses += F.cross_entropy(logits, labels, self.class_weights, reduction="sum")
            bases += len(labels)
            self._confusion += torch.bincount(labels * k + logits.argmax(-1), minlength=k * k).view(k, k)
        self.log("val/loss", losses / max(1, bases), batch_size=max(1, bases), prog_bar=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation regions."""
        if self.trainer.sanity_checking or self._confusion is None:
            return
        scores = confusion_metrics(self._confusion.double().cpu().numpy()[None])
        for name in ("accuracy", "mcc"):
            if np.isfinite(scores[name][0]):
                self.log(f"val/{name}", float(scores[name][0]), sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Make room for the log-probabilities of the test regions: two bytes a class and base.

        Raises:
            UserError: On several devices, where each would see, and report on, a part of the regions only.
        """
        self._start_pass("test")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Keep a batch's log-probabilities of the bases that count."""
        self._keep(batch)

    def on_test_epoch_end(self) -> None:
        """Decode the genes, write them and the results to the run folder, and print what was found."""
        stretches: dict[tuple[str, bool], list[Decided]] = defaultdict(list)
        genes: list[tuple[str, int, list[Segment]]] = []
        for region, likeliest, decoded in self._decided():
            truth = region.chromosome.labels[region.start : region.end]
            stretches[region.genome, region.unseen].append(Decided(truth, likeliest, decoded))
            genes.append((region.chromosome.name, region.start, segments(decoded)))
        groups = []
        for (genome, unseen), parts in stretches.items():
            metrics = evaluate_segmentation(
                parts,
                self.model.scheme,
                n_bootstrap=self.evaluation_config.bootstrap,
                seed=run_seed(self.trainer) or 0,
            )
            bases = sum(int((part.truth != UNKNOWN).sum()) for part in parts)
            groups.append(Group(genome, unseen, bases, metrics, tuple(right_by_block(parts))))
        folder = RunFolder.of(self.trainer)
        write_gff3(folder.path / PREDICTED_GENES, genes)
        self._write(folder, tuple(groups))
        _print(groups)

    def on_predict_epoch_start(self) -> None:
        """Start as a test pass does, on whole genomes."""
        self._start_pass("whole")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Keep a batch's log-probabilities; return what they belong to, see `SegmentDataModule`."""
        self._keep(batch)
        return batch["place"]

    def on_predict_epoch_end(self) -> None:
        """Write the genes of all sequences to the run folder."""
        path = RunFolder.of(self.trainer).path / PREDICTED_GENES
        found = ((r.chromosome.name, r.start, segments(decoded)) for r, _, decoded in self._decided())
        print(f"{write_gff3(path, found):,} coding segments: {path}")

    def _start_pass(self, part: str) -> None:
        self.require_one_device()
        self._start = time.monotonic()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self._regions = data.regions[part]
        classes = len(self.model.scheme.classes)
        self._log_probabilities = {
            number: np.full((len(region), classes), np.nan, dtype=np.float16)
            for number, region in enumerate(self._regions)
        }

    def _keep(self, batch: dict[str, Tensor]) -> None:
        slices = [
            logits.log_softmax(-1).half().cpu().numpy()
            for _, logits in self.model.logit_slices(batch["tokens"], batch.get("lengths"))
        ]
        scores = np.concatenate(slices, axis=1)
        for row, (which, first, last, start) in zip(scores, batch["place"].tolist(), strict=True):
            self._log_probabilities[which][first:last] = row[first - start : last - start]

    def _decided(self) -> Iterator[tuple[Region, LabelArray, LabelArray]]:
        """Yield every region, its likeliest classes, and its labels that make up genes."""
        config = self.evaluation_config
        for number, region in enumerate(self._regions):
            scores = self._log_probabilities.pop(number)
            tokens = region.chromosome.tokens[region.start : region.end]
            decoded = decode_genes(
                scores, tokens, self.model.scheme, genetic_code=config.genetic_code, edge=config.edge
            )
            yield region, scores.argmax(1).astype(np.int8), decoded

    def _write(self, folder: RunFolder, groups: tuple[Group, ...]) -> None:
        windows = self.trainer.datamodule.windows  # type: ignore[attr-defined]
        seconds = time.monotonic() - self._start
        results = SegmentationResults(
            title="gene segmentation",
            seed=run_seed(self.trainer),
            hardware=describe_device(self.device),
            versions=software_versions(),
            parameters=sum(p.numel() for p in self.model.parameters()),
            model=asdict(self.model.config),
            evaluations=(Evaluation(windows.context, windows.overlap, seconds, groups),),
        )
        if folder.results.exists():  # of the same training: `fit` removes that of an earlier one
            try:
                results = results.merged(SegmentationResults.load(folder.results))
            except UserError as error:  # must not cost the pass that just ended
                print(f"{error.message}; replaced")
        results.save(folder.results)


def _print(groups: list[Group]) -> None:
    for group in groups:
        kind = "unseen genome" if group.unseen else "held-out region"
        print(f"{group.genome} ({kind}, {group.bases:,} bases)")
        for name in SHOWN:
            estimate = group.metrics[name]
            print(f"  {name:20}{estimate.value:8.4f}  {estimate.low:.4f} - {estimate.high:.4f}")
