"""Running a recipe: Lightning's CLI, bound to a run folder."""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seqmamba.atomic import atomic_path, name_file
from seqmamba.errors import UserError
from seqmamba.training.callbacks import EpochLines, EpochSeeds, PretrainedExport
from seqmamba.training.checkpoints import DataOnlyCheckpointIO, RunCheckpoint, read_checkpoint
from seqmamba.training.context_parallel import ContextParallel, lost_a_process
from seqmamba.training.finite import FiniteSteps
from seqmamba.training.hardware import describe_device, limit_threads
from seqmamba.training.memory_budget import MemoryBudget
from seqmamba.training.metrics_csv import MetricsCSV
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.shared_order import ResumedPlace
from seqmamba.training.task import Task
from seqmamba.training.termination import Termination

# as torch.utils.data says it, not what a worker raised itself
_WORKER_LOST = re.compile(r"DataLoader worker \(pid")
_LOADER_LOST = "a process that loads data was killed or ended, as happens where memory runs out"
_NOT_IN_CONFIG = ("ckpt_path", "weights_only", "overwrite", "verbose", "return_predictions", "config")
"""Options of one invocation, which a run's config.yaml does not keep."""

_IRRELEVANT_WARNINGS = (
    r".*does not have many workers.*",
    r".*smaller than the logging interval.*",
    r".*`tensorboardX` has been removed.*",
    r".*LightningCLI's args parameter.*",
    r".*Trying to infer the `batch_size`.*",
    r".*found in eval mode.*|.*in eval mode at the start of training.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*The `srun` command is available.*",
    r".*custom batch sampler .* for prediction.*",
    r".*was called with.*multiple `ModelCheckpoint`.*",
    r"FSDP2-wrapped module .* returned a view tensor.*",  # which nobody changes in place
    r"Total length of .* across ranks is zero.*",  # no validation part
)


class RecipeCLI(LightningCLI):
    """LightningCLI whose runs live in a folder: logs, checkpoints, exact resume, no code in checkpoints.

    Args:
        argv: The subcommand (fit, validate, test or predict) and its options.
    """

    folder: RunFolder
    resume_step: int | None = None

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(
            model_class=Task,
            datamodule_class=L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            trainer_defaults={"max_epochs": 10},
            save_config_callback=None,  # config.yaml is written atomically below
            auto_configure_optimizers=False,  # a Task owns its optimiser
            load_from_checkpoint_support=False,  # checkpoints hold weights, config.yaml the recipe
            parser_kwargs={
                name: {"exit_on_error": False, "allow_abbrev": False} for name in self.subcommands()
            }
            | {"exit_on_error": False, "allow_abbrev": False},
            args=list(argv),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the run folder."""
        parser.add_argument("-o", "--run", type=str, default="runs/latest", help="the run folder")
        parser.add_argument(
            "--overwrite", type=bool, default=False, help="let `fit` replace the run that the folder holds"
        )
        parser.add_argument(
            "--context_parallel", type=int, default=1, help="devices that share out every sequence"
        )
        parser.add_argument(
            "--memory_budget",
            type=str | None,
            default=None,
            help="GPU memory that `fit` may take, as in 40GiB: what does not fit is computed again",
        )

    def _parse_ckpt_path(self) -> None:
        """Merge no hyper-parameters from the checkpoint: what the user wrote is what runs."""

    def before_instantiate_classes(self) -> None:
        """Resolve the run folder and the checkpoint, and refuse what cannot work before anything is built."""
        options = self.config[self.subcommand]
        self.folder = RunFolder(Path(options.run).expanduser())
        if self.subcommand == "fit":
            self._check_resume(options)
            self.folder.check(resume=bool(options.ckpt_path), overwrite=options.overwrite)
        else:
            options.ckpt_path = str(self.folder.checkpoint(options.ckpt_path or "best"))
            read_checkpoint(options.ckpt_path)
            self._begin_with_own_model(options.model.init_args)

    def _begin_with_own_model(self, task: Any) -> None:
        """Let a run that began with a pretrained model be rebuilt from its own: the other may be gone.

        Args:
            task: Arguments of the task; it, or its model, may have ``init_from``.
        """
        if not self.folder.pretrained.is_dir():
            return
        own = str(self.folder.pretrained)
        if task.get("init_from") is not None:
            task.init_from.folder = own
        elif task.get("model.init_from") is not None:
            task.model.init_from = own

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer with the run folder's loggers, callbacks and checkpoint format."""
        options = dict(self._get(self.config_init, "trainer"))
        if str(options["strategy"]).startswith("fsdp"):
            raise UserError(
                f"trainer.strategy: {options['strategy']} flattens parameters, and matrices would not decay",
                hint="use --trainer.strategy sharded",
            )
        keeps_files = self.keeps_files = self.subcommand == "fit" and not options["fast_dev_run"]
        attended = sys.stdout.isatty() and options["enable_progress_bar"] is not False
        callbacks: list[L.Callback] = [
            *_as_list(options["callbacks"]),
            EpochSeeds(self._seed()),
            Termination(),
        ]
        if (size := self.config[self.subcommand]["context_parallel"]) != 1:
            callbacks.append(ContextParallel(size))
        if self.subcommand == "fit" and (budget := self.config[self.subcommand]["memory_budget"]) is not None:
            callbacks.append(MemoryBudget(budget))
        if self.subcommand == "fit":
            callbacks += [ResumedPlace(), FiniteSteps()]  # the latter logs what the lines of EpochLines show
        if not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks += [EpochLines(), *([RichProgressBar()] if attended else [])]
        if keeps_files:
            callbacks += [RunCheckpoint(self.folder), PretrainedExport(self.folder)]
        bound = {
            "default_root_dir": str(self.folder.path),
            "logger": [*self._loggers(), *_as_list(options["logger"])] if keeps_files else False,
            "callbacks": callbacks,
            "plugins": [*_as_list(options["plugins"]), DataOnlyCheckpointIO()],
            "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
            "enable_checkpointing": keeps_files,
            "enable_model_summary": bool(options["enable_model_summary"]),
        }
        try:
            return self.trainer_class(**{**options, **bound, **kwargs})
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError(f"trainer: {str(error).strip().splitlines()[0]}") from error

    def before_fit(self) -> None:
        """Make the folder ready, now that everything else is known to be in order, and say what will run."""
        if not self.trainer.is_global_zero:  # the others would clear what this process is writing
            return
        if self.keeps_files:
            self.folder.prepare(resume=self.resume_step is not None)
            self._write_config()
        # A task that takes its shape from the data builds its model later.
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        size = f"{parameters:,} parameters, " if parameters else ""
        device = describe_device(self.trainer.strategy.root_device)
        state = "from the start" if self.resume_step is None else f"resumed at step {self.resume_step}"
        print(
            f"run {self.folder.path}: {size}{device}, seed {self._seed()}, {state}",
            file=sys.stderr,
        )

    def _run_subcommand(self, subcommand: str) -> None:
        """Run, and turn Lightning's way of ending after a signal into an exception that says how to go on."""
        try:
            super()._run_subcommand(subcommand)
        except SIGTERMException:
            print(f"terminated; {self._how_to_resume()}", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM) from None
        except SystemExit as request:
            if isinstance(request.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt(self._how_to_resume() if subcommand == "fit" else "") from None
            raise
        except (ConnectionError, EOFError) as failure:  # a loader died while it handed over a batch
            raise self._lost(_LOADER_LOST, subcommand) from failure
        except OSError as failure:
            name_file(failure, self.folder.path)
            raise
        except RuntimeError as failure:
            if lost_a_process(failure):
                lost = "the connection to another process of this run is lost"
            elif _WORKER_LOST.search(str(failure)):
                lost = _LOADER_LOST
            else:
                raise
            raise self._lost(lost, subcommand) from failure

    def _lost(self, what: str, subcommand: str) -> UserError:
        return UserError(what, hint=self._how_to_resume() if subcommand == "fit" else None)

    def _how_to_resume(self) -> str:
        return f"go on with: {self.folder.resume_command}"

    def _check_resume(self, options: Any) -> None:
        """Turn ``--ckpt_path last`` into the file, or into a fresh start where no epoch was finished yet."""
        if not options.ckpt_path:
            return
        if options.ckpt_path == "last" and not self.folder.last.exists():
            print(
                f"{self.folder.last} does not exist yet: training starts from the beginning", file=sys.stderr
            )
            options.ckpt_path = None
            return
        path = self.folder.checkpoint(options.ckpt_path)
        checkpoint = read_checkpoint(path)
        if "optimizer_states" not in checkpoint:
            raise UserError(
                f"--ckpt_path {options.ckpt_path}: {path} holds weights only; training cannot go on from it",
                hint="resume with --ckpt_path last",
            )
        self.resume_step = int(checkpoint["global_step"])
        options.ckpt_path = str(path)

    def _write_config(self) -> None:
        self._dump_config()
        recipe = {key: value for key, value in self.config_dump.items() if key not in _NOT_IN_CONFIG}
        with atomic_path(self.folder.config) as part:
            part.write_text(yaml.safe_dump(recipe, sort_keys=False))

    def _loggers(self) -> list[Any]:
        board = TensorBoardLogger(
            save_dir=self.folder.path,
            name=self.folder.tensorboard.name,
            version="",
            default_hp_metric=False,
            purge_step=self.resume_step,
        )
        return [MetricsCSV(self.folder.metrics, self.resume_step), board]

    def _seed(self) -> int:
        return int(self.config[self.subcommand]["seed_everything"] or 0)


def run_recipe(argv: Sequence[str]) -> RecipeCLI:
    """Run a subcommand of `RecipeCLI` to its end.

    Args:
        argv: The subcommand and its options.

    Returns:
        The finished command line, with ``model``, ``datamodule``, ``trainer`` and ``folder``.

    Raises:
        KeyboardInterrupt: After an interrupt; its argument says how to go on.
        UserError: When the recipe cannot run.
    """
    _quieten()
    limit_threads()
    return RecipeCLI(argv)


def _quieten() -> None:
    """Keep Lightning's advertising, and advice that does not apply here, out of the output."""
    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    threading.excepthook = _report_unless_refused_write


def _report_unless_refused_write(arguments: threading.ExceptHookArgs) -> None:
    """Stay silent about TensorBoard's writer thread on a full disk; the main thread meets the same error."""
    if not issubclass(arguments.exc_type, OSError):
        threading.__excepthook__(arguments)


def _as_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
