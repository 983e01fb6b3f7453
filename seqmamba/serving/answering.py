"""What a domain brings to a server: how bodies of requests are read, and what the model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from torch import nn

from seqmamba.errors import UserError
from seqmamba.predictions import classes_above
from seqmamba.serving.limits import Limits

GROUP = "seqmamba.servers"
"""Entry points: name -> a function of (model, limits) that returns an `Answerer`, or None if the model is not
its domain's."""


class Answerer(Protocol):
    """Reads bodies and answers them with a model.

    Attributes:
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Of the model.
        takes: What a body is, in words.
    """

    task: str
    classes: tuple[str, ...]
    takes: str

    def read(self, body: Path) -> list[tuple[str, Any]]:
        """Return the names and the items of a body.

        Raises:
            UserError: If it is none, or beyond the limits.
        """
        ...

    def predict(self, items: Sequence[Any]) -> list[Float[np.ndarray, " classes"] | str]:
        """Return what the model says of each item, or why it cannot be read."""
        ...


@dataclass(frozen=True)
class Answer:
    """What becomes of a request.

    Attributes:
        status: Of HTTP.
        rows: A dictionary an item: name, prediction, and probabilities by class.
        error: A sentence, if it is none.
    """

    status: int
    rows: tuple[dict[str, Any], ...] = ()
    error: str = ""

    def content(self) -> dict[str, Any]:
        """Return what is sent as JSON."""
        return {"error": self.error} if self.error else {"predictions": list(self.rows)}


def find_answerer(model: nn.Module, limits: Limits) -> Answerer:
    """Ask the installed domains who answers with a model.

    Args:
        model: Of a run.
        limits: Of the server.

    Raises:
        UserError: If no one does.
    """
    for point in entry_points(group=GROUP):
        answerer: Answerer | None = point.load()(model, limits)
        if answerer is not None:
            return answerer
    raise UserError(
        f"expected a model that classifies sequences or recordings, got a {type(model).__name__}",
        hint="other models have verbs of their own, such as `audio generate` and `genomics track`",
    )


def answer_bodies(answerer: Answerer, bodies: Sequence[Path]) -> list[Answer]:
    """Answer some requests at once: their items share the batches of the model.

    Args:
        answerer: Reads and predicts.
        bodies: A file each.
    """
    read = [_read(answerer, body) for body in bodies]
    items = [item for found in read if isinstance(found, list) for _, item in found]
    try:
        outputs = iter(answerer.predict(items) if items else [])
    except Exception as failure:  # of the model: the process lives on, and says so
        failed = Answer(500, error=f"the model failed: {type(failure).__name__}")
        return [found if isinstance(found, Answer) else failed for found in read]
    answers = []
    for body, found in zip(bodies, read, strict=True):
        if isinstance(found, Answer):
            answers.append(found)
        else:
            names = [name for name, _ in found]
            answers.append(_answer(answerer, names, [next(outputs) for _ in names], body))
    return answers


def _read(answerer: Answerer, body: Path) -> list[tuple[str, Any]] | Answer:
    """Read a body; whatever is wrong with it concerns nobody else."""
    try:
        return answerer.read(body)
    except UserError as error:
        return Answer(400, error=_without_path(str(error), body))
    except FileNotFoundError:  # who asked did not wait, and took it along
        return Answer(504, error="body: it is gone")
    except Exception as failure:
        return Answer(500, error=f"body: it could not be read: {type(failure).__name__}")


def _answer(answerer: Answerer, names: list[str], outputs: list[Any], body: Path) -> Answer:
    bad = next((output for output in outputs if isinstance(output, str)), None)
    if bad is not None:
        return Answer(400, error=_without_path(bad, body))
    rows = [_row(answerer, name, output) for name, output in zip(names, outputs, strict=True)]
    return Answer(200, tuple(rows))


def _row(answerer: Answerer, name: str, output: Float[np.ndarray, " classes"]) -> dict[str, Any]:
    values = dict(zip(answerer.classes, map(float, output), strict=True))
    if answerer.task == "regression":
        return {"name": name, "prediction": values}
    if answerer.task == "multilabel":
        chosen = classes_above(answerer.classes, output)
        return {"name": name, "prediction": chosen, "probabilities": values}
    return {"name": name, "prediction": answerer.classes[int(output.argmax())], "probabilities": values}


def _without_path(sentence: str, body: Path) -> str:
    """Clients know nothing of the file that their body lay in."""
    return sentence.replace(str(body), "body")
