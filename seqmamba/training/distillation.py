"""Training a small model on what a large one answers (Hinton et al. 2015, arXiv:1503.02531, section 2).

With z the logits of the model that is trained, p the answers of its teacher and T a temperature, the loss is

    (1 - weight) own(z) + weight T^2 KL(softmax(log p / T) || softmax(z / T))

where ``own`` is the task's loss. T^2 keeps the two gradients in proportion whatever T is. For labels that do
not exclude each other each has a sigmoid of its own; for regression the second term is the squared error of
standardised targets, without T. A domain says how batches reach the teacher; the rest is here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require
from seqmamba.training.exported import load_any_model

_TINY = 1e-12  # a probability whose logarithm float32 has


@dataclass(frozen=True)
class DistillationConfig:
    """A trained model to learn from.

    Args:
        folder: Its run folder, a folder with config.json and weights, or a repository (``owner/name``).
        temperature: Divides the logits of both models: the higher, the more the answers that are not right
            tell.
        weight: Share of the teacher's answers in the loss; the rest is that of the labels.

    Raises:
        UserError: If a value is out of range.
    """

    folder: str
    temperature: float = 2.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        good = is_number(self.temperature) and self.temperature > 0
        require(good, "distil_from.temperature", "a number > 0", self.temperature)
        require(
            is_number(self.weight) and 0 < self.weight <= 1,
            "distil_from.weight",
            "a number above 0, 1 at most",
            self.weight,
        )


class Teacher:
    """A trained model that answers for batches, and the loss of what another makes of its answers.

    It is no module: neither the optimiser nor checkpoints see its weights.

    Args:
        model: With ``predict``, whose config says ``task``.
        config: How it teaches.
    """

    def __init__(self, model: nn.Module, config: DistillationConfig) -> None:
        self.model = cast(Any, model.eval().requires_grad_(False))
        self.task: str = self.model.config.task
        self.config = config

    @classmethod
    def read(cls, config: DistillationConfig, kinds: tuple[type[nn.Module], ...], **expected: Any) -> Teacher:
        """Read a teacher and make sure that it answers what is asked.

        Args:
            config: Where it is, and how it teaches.
            kinds: Classes that will do.
            **expected: What its config must say: ``task``, ``classes`` and what else the domain asks for.

        Raises:
            UserError: If there is no such model, or it answers something else.
        """
        model: Any = load_any_model(config.folder, "cpu")
        if not isinstance(model, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(
                f"distil_from: the model in {config.folder} is a {type(model).__name__}, expected a {names}"
            )
        for name, value in expected.items():
            got = getattr(model.config, name)
            if got != value:
                raise UserError(
                    f"distil_from: the {name} of the model in {config.folder}: expected {value!r}, as in the "
                    f"data, got {got!r}"
                )
        size = sum(parameter.numel() for parameter in model.parameters())
        print(f"learning from the {size:,} parameters of {config.folder}", file=sys.stderr)
        return cls(model, config)

    @torch.no_grad()
    def answer(self, *batch: Tensor | None) -> Float[Tensor, "batch outputs"]:
        """Return soft targets: probabilities at the temperature, or values in the units of the targets.

        Args:
            *batch: Arguments of the model's ``predict``, the first of them a tensor.
        """
        first = batch[0]
        assert first is not None
        self.model.to(first.device)
        answers: Tensor = self.model.predict(*batch).float()
        if self.task == "classification":
            return (answers.clamp_min(_TINY).log() / self.config.temperature).softmax(dim=-1)
        if self.task == "multilabel":
            return (
                torch.logit(answers, eps=torch.finfo(answers.dtype).eps) / self.config.temperature
            ).sigmoid()
        return answers

    def loss(
        self,
        own: Float[Tensor, ""],
        logits: Float[Tensor, "batch outputs"],
        soft: Float[Tensor, "batch outputs"],
        pupil: Any,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Args:
            own: That of the labels.
            logits: Of the model that is trained; for regression, standardised values.
            soft: What `answer` returned, or a mix of it.
            pupil: The model that is trained; for regression, its ``target_mean`` and ``target_scale``.
        """
        temperature, weight = self.config.temperature, self.config.weight
        logits = logits.float()
        if self.task == "classification":
            cooled = (logits / temperature).log_softmax(dim=-1)
            distance = temperature**2 * F.kl_div(cooled, soft, reduction="batchmean")
        elif self.task == "multilabel":
            distance = temperature**2 * F.binary_cross_entropy_with_logits(logits / temperature, soft)
        else:
            distance = F.mse_loss(logits, (soft - pupil.target_mean) / pupil.target_scale)
        return torch.lerp(own, distance, weight)
