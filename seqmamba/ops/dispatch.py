"""Choosing the implementation of an operator, and saying why."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmamba.errors import UserError

NUMBA_INSTALLED = importlib.util.find_spec("numba") is not None
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
# "cuda" is a namespace of several packages: where none is installed, looking inside it raises
BINDINGS_INSTALLED = importlib.util.find_spec("cuda") is not None and (
    importlib.util.find_spec("cuda.bindings") is not None
)
_OLDEST_CAPABILITY = (8, 0)  # asynchronous copies, bfloat16 and tf32 matrix instructions


@dataclass(frozen=True)
class Options:
    """What a call asks for besides its tensors, for the implementations that do not offer all of it.

    Attributes:
        reverse: Whether it processes the sequence from right to left.
        reset: Whether it packs several sequences into one row.
    """

    reverse: bool = False
    reset: bool = False


PLAIN = Options()
_only_pytorch = False  # no context variable: torch.compile does not look into one


def no_limits(options: Options) -> str | None:
    """The limits of an implementation that offers every option."""
    return None


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator.

    Attributes:
        name: What `impl=` calls it.
        summary: One line for `explain`.
        run: The function that computes it, on validated arguments.
        obstacle: Given the operator's tensors, says in words why this cannot run on them, or None if it can.
        hint: What the user can do about an obstacle.
        limits: Given the options of a call, says in words which of them this lacks, or None.
        automatic: Whether impl="auto" may choose it; else it runs only where it is asked for by name.
    """

    name: str
    summary: str
    run: Callable[..., Any]
    obstacle: Callable[..., str | None]
    hint: str
    limits: Callable[[Options], str | None] = no_limits
    automatic: bool = True

    def objection(self, tensors: Sequence[Tensor | None], options: Options) -> str | None:
        """Say in words why this cannot serve a call, or None if it can."""
        return self.obstacle(*tensors) or self.limits(options)


def no_obstacle(*tensors: Tensor | None) -> str | None:
    """The obstacle of an implementation that always runs."""
    return None


def numba_obstacle(*tensors: Tensor | None) -> str | None:
    """Say why a numba kernel cannot run on these tensors: they need a CPU and compute in float32."""
    if not NUMBA_INSTALLED:
        return "the package numba is not installed"
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cpu":
            return f"it runs on the CPU and the tensors are on {tensor.device}"
        if tensor.is_complex():
            return "it is real and an argument is complex"
        if tensor.dtype == torch.float64:
            return "it computes in float32 and an argument is float64"
    return None


def cuda_obstacle(*tensors: Tensor | None) -> str | None:
    """Say why a kernel compiled by NVRTC cannot run on these tensors."""
    missing = None if BINDINGS_INSTALLED else "the package cuda-bindings is not installed"
    return _gpu_obstacle(tensors) or missing


def triton_obstacle(*tensors: Tensor | None, float64: bool = False) -> str | None:
    """Say why a Triton kernel, which may compute in float64, cannot run on these tensors."""
    missing = None if TRITON_INSTALLED else "the package triton is not installed"
    return _gpu_obstacle(tensors, float64) or missing


def _gpu_obstacle(tensors: Sequence[Tensor | None], float64: bool = False) -> str | None:
    """Say why a kernel on an NVIDIA GPU, in float32 unless told, cannot run on these tensors."""
    given = [tensor for tensor in tensors if tensor is not None]
    if not given:
        return "it runs on an NVIDIA GPU"
    for tensor in given:
        if tensor.device.type != "cuda" or torch.version.hip is not None:
            return f"it runs on an NVIDIA GPU and the tensors are on {tensor.device}"
        if tensor.is_complex():
            return "it is real and an argument is complex"
        if tensor.dtype == torch.float64 and not float64:
            return "it computes in float32 and an argument is float64"
    # torch.compile folds the properties into a constant; get_device_capability it would put into the graph
    properties = torch.cuda.get_device_properties(given[0].device)
    capability = (properties.major, properties.minor)
    if capability < _OLDEST_CAPABILITY:
        return f"it needs compute capability 8.0 and {given[0].device} has {capability[0]}.{capability[1]}"
    return None


def extension_obstacle(extension: str, package: str) -> str | None:
    """Say why the compiled module `extension` of the PyPI `package` cannot be called."""
    try:
        importlib.import_module(extension)
    except ModuleNotFoundError:
        return f"the compiled module {extension} of the package {package} is not installed"
    except ImportError as error:  # built for another torch, CUDA or Python: the loader names the symbol
        return f"the compiled module {extension} of the package {package} does not load: {error}"
    return None


@contextmanager
def only_pytorch() -> Iterator[None]:
    """Let ``impl="auto"`` choose what is made of PyTorch's own operators, for programs that are saved.

    Not for several threads at once: the others would compute more slowly meanwhile.
    """
    global _only_pytorch
    before, _only_pytorch = _only_pytorch, True
    try:
        yield
    finally:
        _only_pytorch = before


def choose(
    operator: str,
    implementations: Sequence[Implementation],
    impl: str,
    tensors: Sequence[Tensor | None],
    options: Options = PLAIN,
) -> Implementation:
    """Pick the implementation called `impl`, or for "auto" the first of `implementations` that can run.

    Args:
        operator: Name of the operator, for messages.
        implementations: In order of preference; the last one always runs.
        impl: Name of an implementation, or "auto".
        tensors: The operator's tensor arguments, for the implementations to judge.
        options: What else the call asks for, for them to judge too.

    Returns:
        The chosen implementation.

    Raises:
        UserError: `impl` is unknown, or named and unable to run here: nothing falls back in silence.
    """
    for candidate in implementations:
        if impl != candidate.name and not (impl == "auto" and candidate.automatic):
            continue
        if impl == "auto" and _only_pytorch and candidate.obstacle is not no_obstacle:
            continue
        objection = candidate.objection(tensors, options)
        if objection is None:
            return candidate
        if impl != "auto":
            raise UserError(
                f"{operator}: impl={impl!r} cannot run here: {objection}", hint=candidate.hint or None
            )
    names = ", ".join(["auto", *(candidate.name for candidate in implementations)])
    raise UserError(f"{operator}: impl must be one of {names}, got {impl!r}")


def refuse_second_derivative(operator: str) -> None:
    """Called in a kernel's backward: under create_graph=True its result would lack a graph, in silence.

    Raises:
        UserError: A second derivative is asked for.
    """
    if not torch.compiler.is_compiling() and torch.is_grad_enabled():
        raise UserError(
            f"{operator}: its compiled kernels have no second derivative (create_graph=True)",
            hint='use impl="chunked"',
        )
