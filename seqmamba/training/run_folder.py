"""The layout of a run folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqmamba.atomic import remove_parts
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from lightning import Trainer


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files.

    Args:
        path: The folder; it need not exist.
    """

    path: Path

    @classmethod
    def of(cls, trainer: Trainer) -> RunFolder:
        """Return the run folder that a trainer of `seqmamba fit` writes to."""
        return cls(Path(trainer.default_root_dir))

    @property
    def config(self) -> Path:
        """The complete recipe of the run; `seqmamba fit --config` takes it."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Everything that was logged, a row a logging step."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the two checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the best monitored value."""
        return self.checkpoints / "best.ckpt"

    @property
    def resume_command(self) -> str:
        """The command line that goes on with the run's training."""
        return f"seqmamba fit --config {self.config} --ckpt_path last"

    @property
    def last(self) -> Path:
        """Complete state at the end of the last finished epoch; training resumes here."""
        return self.checkpoints / "last.ckpt"

    @property
    def pretrained(self) -> Path:
        """Folder with the best model as safetensors and config.json."""
        return self.path / "pretrained"

    @property
    def predictions(self) -> Path:
        """Predictions for the test part."""
        return self.path / "predictions.tsv"

    @property
    def results(self) -> Path:
        """Metrics of the test part, baselines, split and data summaries."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"

    def checkpoint(self, name: str) -> Path:
        """Return the path that ``--ckpt_path`` means.

        Args:
            name: ``best``, ``last``, or the path of a checkpoint file.

        Raises:
            UserError: When there is no such file.
        """
        path = {"best": self.best, "last": self.last}.get(name, Path(name).expanduser())
        if not path.is_file():
            raise UserError(
                f"--ckpt_path {name}: there is no file {path}",
                hint="train first, or name the folder of the run with --run",
            )
        return path

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to train where that would cost the user something.

        Args:
            resume: Training goes on from `last`.
            overwrite: The files of an earlier run may be removed.

        Raises:
            UserError: When the folder holds an earlier run that nobody allowed to be removed, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--run {self.path} is a file, expected a folder", hint="name another folder")
        if self.last.exists() and not (resume or overwrite):
            raise UserError(
                f"--run {self.path} already holds a run",
                hint="--ckpt_path last goes on with it, --overwrite true replaces it",
            )

    def prepare(self, *, resume: bool) -> None:
        """Make the folder ready for training; clear what an earlier run left in it.

        Args:
            resume: Training goes on from `last`: keep everything.
        """
        if not resume:
            # The state goes first: without it the rest can never be mistaken for a run to resume.
            for folder in (self.checkpoints, self.tensorboard, self.pretrained):
                shutil.rmtree(folder, ignore_errors=True)
            for file in (self.metrics, self.predictions, self.results, self.report):
                file.unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        remove_parts(self.path)


def exported_model(folder: str | Path) -> Path:
    """Return the model folder of a run folder; any other path is a model folder itself.

    Raises:
        UserError: If the run has not exported its model yet.
    """
    run = RunFolder(Path(folder).expanduser())
    if not run.pretrained.is_dir() and run.checkpoints.is_dir():
        raise UserError(
            f"{run.path}: the run has no exported model yet",
            hint=f"finish its training: {run.resume_command}",
        )
    return run.pretrained if run.pretrained.is_dir() else run.path
