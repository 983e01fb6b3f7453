"""Pretraining of a language model on genomes."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from genomics.datasets.genome_batches import GenomeBatch
from genomics.guess_scores import count_guesses, summarise_guesses
from genomics.masked_model import MaskedModel
from genomics.pretraining import Objectives, PretrainingConfig, build_model
from seqmamba.atomic import atomic_path
from seqmamba.backbones import LanguageModel
from seqmamba.distributed import ContextGroup, mean_over_processes
from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.segments import CarriedState
from seqmamba.training.streamed_task import StreamedTask

_DEFAULT_MODEL = PretrainingConfig()
_CARRIED = "carried_state"
_FOLLOWED = ("val/loss", "val/perplexity", "val/accuracy")


class PretrainingTask(StreamedTask):
    """Masked or next-base pretraining on the windows of a `GenomeWindowDataModule`.

    Masks and strands are functions of the windows, so a run computes the same with any number of devices that
    make the same global batches, dropout aside. Validation asks for the same hidden bases every time.

    Args:
        model: What to build and what it learns.
        optimiser: AdamW and its schedule.
    """

    def __init__(
        self, model: PretrainingConfig = _DEFAULT_MODEL, optimiser: OptimiserConfig | None = None
    ) -> None:
        super().__init__(optimiser)
        self.record_hyperparameters(model=model, optimiser=self.optimiser_config)
        self.config = model
        self.model = build_model(model)
        self._objectives = Objectives(self.model, model)
        self._sums: list[Tensor] = []
        self._carried = CarriedState()
        self._readers = 1  # devices that share out a window

    @property
    def exported(self) -> MaskedModel | LanguageModel:
        """The model, for ``RUN/pretrained``."""
        return self.model

    @property
    def shardable(self) -> MaskedModel | LanguageModel | None:
        """The model, unless windows are read in segments."""
        return self.model if self.config.backprop.whole else None

    def join_context(self, context: ContextGroup) -> None:
        """Share windows out among ranks; see `Task.join_context`."""
        self._objectives.share(context)
        self._readers = context.size

    def on_fit_start(self) -> None:
        """Refuse to carry states between windows that do not follow on each other.

        Raises:
            UserError: If the data module draws them at random.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.config.backprop.carry != (data.windows.order == "stream"):
            raise UserError(
                f"backprop.carry: expected true with windows.order stream and false with random, got "
                f"{str(self.config.backprop.carry).lower()} with {data.windows.order}"
            )

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's mean loss, and its sequences."""
        super().on_train_epoch_start()
        self._carried.clear()  # every row begins another stretch

    def training_step(self, batch: GenomeBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self._loss(batch)
        shown = mean_over_processes(loss)
        self.log("train/loss_step", shown, on_step=True, on_epoch=False)
        self.log_loss(loss, len(batch["tokens"]) / self._readers)
        return loss

    def _loss(self, batch: GenomeBatch) -> Tensor:
        backprop = self.config.backprop
        if backprop.whole:
            return self._objectives.loss(self._objectives.ask(batch, training=True))
        state = None
        if backprop.carry:
            state = self._carried.begin(batch["fresh"], self._objectives.initial_state(batch))
        loss, state = self._objectives.loss_in_segments(batch, state)
        if backprop.carry:
            self._carried.keep(state)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the sums of an epoch that is not over, and the states of its rows."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_CARRIED] = self._carried.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        super().on_load_checkpoint(checkpoint)
        place, count = self.trainer.global_rank, self.trainer.world_size
        self._carried.load_state_dict(checkpoint.get(_CARRIED, ()), place, count)

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of an earlier pass."""
        self._sums.clear()

    def validation_step(self, batch: GenomeBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        guesses = self._objectives.ask(batch, training=False)
        self._sums.append(count_guesses(guesses, len(self._species)))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation windows."""
        if self.trainer.sanity_checking:
            return
        scores = {f"val/{name}": value for name, value in self._scores().items()}
        self.log_dict({name: scores.pop(name) for name in _FOLLOWED}, sync_dist=True)
        # The others are too many for the line that an epoch gets; they are for the files.
        for logger in self.trainer.loggers:
            logger.log_metrics({"epoch": self.current_epoch, **scores}, step=self.trainer.global_step - 1)

    def on_test_epoch_start(self) -> None:
        """Start as a validation does."""
        self.on_validation_epoch_start()

    def test_step(self, batch: GenomeBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Write the metrics of the test windows to the run folder and print them."""
        scores = self._scores()
        if not self.trainer.is_global_zero:
            return
        folder = RunFolder.of(self.trainer)
        with atomic_path(folder.results) as part:
            part.write_text(json.dumps({"test": scores}, indent=2) + "\n", encoding="utf-8")
        for name, value in scores.items():
            print(f"{name:24} {value:.4f}")
        print(f"results: {folder.results}")

    @property
    def _species(self) -> tuple[str, ...]:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.species

    def _scores(self) -> dict[str, float]:
        """Return the metrics of the windows of all devices."""
        if not self._sums:  # of a device that had none
            shape = (len(self._species), 4, 2, 3)
            total = torch.zeros(shape, dtype=torch.float64, device=self.device)
        else:
            total = torch.stack(self._sums).sum(dim=0)
        total = self.trainer.strategy.reduce(total, reduce_op="sum")
        scores = summarise_guesses(total.cpu().numpy(), self.config.repeat_weight, self._species)
        if "loss" not in scores:
            raise UserError(
                "validation: no base was asked for",
                hint="raise data.init_args.windows.evaluation_windows, or masking.rate",
            )
        return scores
