"""Checks of the arguments of the time-invariant operators."""

from __future__ import annotations

import math

from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.validation import check_axes, check_reset, check_shape, check_tensors

DISCRETISATIONS = ("zoh", "bilinear")


def check_system(
    operator: str, delta: Tensor, A: Tensor, B: Tensor, P: Tensor | None, discretisation: str, rate: float
) -> None:
    """Check the continuous system and how it is to be discretised.

    Raises:
        UserError: A shape, dtype, device or option does not fit.
    """
    check_axes(operator, "A", A, ("dim", "state"))
    system = {"dim": A.shape[0], "state": A.shape[1]}
    check_shape(operator, "delta", delta, {"dim": A.shape[0]})
    for name, tensor in {"B": B, "P": P}.items():
        if tensor is not None:
            check_shape(operator, name, tensor, system)
    check_complex(operator, {"A": A, "B": B, "P": P})
    check_tensors(operator, {"A": A, "delta": delta, "B": B, "P": P}, complex_allowed=("A", "B", "P"))
    if discretisation not in DISCRETISATIONS:
        names = ", ".join(DISCRETISATIONS)
        raise UserError(f"{operator}: discretisation must be one of {names}, got {discretisation!r}")
    if not (rate > 0 and math.isfinite(rate)):
        raise UserError(f"{operator}: rate must be a positive number, got {rate!r}")


def check_complex(operator: str, tensors: dict[str, Tensor | None]) -> None:
    """Require the given tensors to be complex.

    Raises:
        UserError: One of them is not.
    """
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_complex():
            raise UserError(f"{operator}: {name} must be complex, got dtype {tensor.dtype}")


def check_signal(
    operator: str,
    u: Tensor,
    A: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    directions: int | None = None,
) -> None:
    """Check what meets the system A: the input, the read-out (of so many directions) and the states.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    check_axes(operator, "u", u, ("batch", "length", "dim"))
    (batch, length, dim), state = u.shape, A.shape[1]
    if A.shape[0] != dim:
        raise UserError(
            f"{operator}: A must have a row for each of the {dim} channels of u, got {A.shape[0]}"
        )
    system = {"dim": dim, "state": state}
    check_shape(operator, "C", C, system if directions is None else {"directions": directions, **system})
    if D is not None:
        check_shape(operator, "D", D, {"dim": dim})
    if initial_state is not None:
        check_shape(operator, "initial_state", initial_state, {"batch": batch, **system})
    check_complex(operator, {"C": C, "initial_state": initial_state})
    check_reset(operator, reset, batch, length)
    named = {"u": u, "A": A, "C": C, "D": D, "initial_state": initial_state}
    check_tensors(operator, named, complex_allowed=("A", "C", "initial_state"))
    if reset is not None and reset.device != u.device:
        raise UserError(
            f"{operator}: reset must be on {u.device} like u, got {reset.device}",
            hint="move the tensors to one device",
        )
