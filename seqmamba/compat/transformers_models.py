"""`accelerate_transformers`: the Mamba models of Hugging Face transformers on our operators."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from seqmamba.compat.chunk_scan import mamba_chunk_scan_combined
from seqmamba.compat.convolution import causal_conv1d_fn, causal_conv1d_update
from seqmamba.compat.scan import selective_scan_fn
from seqmamba.compat.state_update import selective_state_update
from seqmamba.errors import UserError

FAMILIES = (
    "mamba",
    "mamba2",
    "falcon_mamba",
    "jamba",
    "zamba",
    "zamba2",
    "bamba",
    "falcon_h1",
    "granitemoehybrid",
    "nemotron_h",
)


def _no_fused_block(*arguments: Any, **options: Any) -> None:
    """What transformers' models take for: run the block function by function.

    The fused functions see neither the padding mask nor the activation, and normalise elsewhere than the
    models do (Falcon Mamba). Ours would be the same operators in the same order, so nothing is lost.
    """


# The names that the modeling modules give the functions of mamba-ssm and causal-conv1d.
_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "causal_conv1d_fn": causal_conv1d_fn,
    "causal_conv1d_update": causal_conv1d_update,
    "mamba_selective_scan": selective_scan_fn,
    "mamba_selective_state_update": selective_state_update,
    "mamba2_selective_state_update": selective_state_update,
    "mamba2_chunk_scan": mamba_chunk_scan_combined,
    "mamba_inner_fn": _no_fused_block,
    "mamba2_split_conv1d_scan_combined": _no_fused_block,
}


class Acceleration:
    """What `accelerate_transformers` did; leaving it as a context, or `undo`, takes it back.

    Attributes:
        patched: For each family, the functions that it now takes from here.
        skipped: For each other family, why it runs as before.
    """

    def __init__(self) -> None:
        self.patched: dict[str, list[str]] = {}
        self.skipped: dict[str, str] = {}
        self._originals: list[tuple[ModuleType, str, Any]] = []

    def patch(self, family: str, module: ModuleType) -> None:
        """Replace the functions of one family's modeling module."""
        self.patched[family] = []
        for name, function in _REPLACEMENTS.items():
            if callable(getattr(module, name, None)):
                self._originals.append((module, name, getattr(module, name)))
                setattr(module, name, _taking_what_it_knows(function))
                self.patched[family].append(name)

    def undo(self) -> None:
        """Give the models back the functions that they had."""
        while self._originals:
            module, name, function = self._originals.pop()
            setattr(module, name, function)

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __str__(self) -> str:
        done = f"on seqmamba's operators: {', '.join(self.patched) or 'none'}"
        left = "; ".join(f"{family} ({reason})" for family, reason in self.skipped.items())
        return f"{done}; not patched: {left}." if left else f"{done}; nothing left out."


def accelerate_transformers(*families: str) -> Acceleration:
    """Let the Mamba models of Hugging Face transformers call our operators, in place of their PyTorch loops.

    It works at once, for models that exist and for later ones, in training and in generation, on any device:

        with seqmamba.compat.accelerate_transformers():
            model.generate(...)

    or for the rest of the process without `with`. Outputs equal those of the models' own PyTorch code.

    Args:
        *families: Model types as in `config.model_type`; all of `FAMILIES` by default.

    Returns:
        What it did; `print` it.

    Raises:
        UserError: transformers is not installed, a family is unknown, or one asked for by name cannot be
            patched.
    """
    try:
        importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            f"accelerate_transformers: the package transformers cannot be imported: {error}",
            hint="pip install 'transformers>=5.17'",
        ) from None
    result = Acceleration()
    for family in families or FAMILIES:
        if family not in FAMILIES:
            raise UserError(
                f"accelerate_transformers: families must be of {', '.join(FAMILIES)}, got {family!r}"
            )
        module, reason = _modeling_module(family)
        if module is None:
            result.skipped[family] = reason
        else:
            result.patch(family, module)
    if families and result.skipped:
        result.undo()
        left = "; ".join(f"{family}: {reason}" for family, reason in result.skipped.items())
        raise UserError(f"accelerate_transformers: cannot patch {left}", hint="pip install -U transformers")
    return result


def _modeling_module(family: str) -> tuple[ModuleType | None, str]:
    """A family's modeling module, or None and why it cannot be patched."""
    try:
        module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    except ImportError:
        return None, "this version of transformers does not have it"
    # Before 5.16 the layers choose between two forward methods, and the fast one runs on CUDA only.
    if hasattr(module, "is_fast_path_available") or not hasattr(module, "use_kernelized_func"):
        return None, "transformers before 5.16 reaches its kernels another way"
    return module, ""


def _taking_what_it_knows(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` without the options that only transformers' own version has."""
    known = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **{name: value for name, value in options.items() if name in known})

    return call
