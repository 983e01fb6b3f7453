"""Argument checks shared by the operators: messages name the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqmamba.errors import UserError


def check_shape(operator: str, name: str, tensor: Tensor, expected: Mapping[str, int]) -> None:
    """Require `tensor` to have exactly the shape `expected`, an ordered mapping of axis name to size.

    Raises:
        UserError: The number of axes or any size differs.
    """
    if tensor.ndim == len(expected) and all(
        actual == size for actual, size in zip(tensor.shape, expected.values(), strict=True)
    ):
        return
    shape = ", ".join(f"{axis}={size}" for axis, size in expected.items())
    raise UserError(f"{operator}: {name} must have shape ({shape}), got {tuple(tensor.shape)}")


def check_axes(operator: str, name: str, tensor: Tensor, axes: tuple[str, ...]) -> None:
    """Require `tensor` to have one non-empty axis for each name in `axes`.

    Raises:
        UserError: The number of axes differs or one of them is empty.
    """
    if tensor.ndim != len(axes):
        raise UserError(f"{operator}: {name} must be ({', '.join(axes)}), got shape {tuple(tensor.shape)}")
    for axis, size in zip(axes, tensor.shape, strict=True):
        if size < 1:
            raise UserError(f"{operator}: {name} must have a {axis} of at least 1, got {tuple(tensor.shape)}")


def check_reset(operator: str, reset: Tensor | None, batch: int, length: int) -> None:
    """Require `reset` to be a (batch, length) bool mask or None.

    Raises:
        UserError: The dtype or the shape differs.
    """
    if reset is None:
        return
    check_shape(operator, "reset", reset, {"batch": batch, "length": length})
    if reset.dtype != torch.bool:
        raise UserError(f"{operator}: reset must be a bool mask, got dtype {reset.dtype}")


def check_tensors(
    operator: str, tensors: Mapping[str, Tensor | None], complex_allowed: tuple[str, ...]
) -> None:
    """Require the given tensors to be floating point (or complex where allowed) and on one device.

    Raises:
        UserError: A dtype is not floating point, or the devices differ.
    """
    first_name, first = next((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not (tensor.is_floating_point() or (tensor.is_complex() and name in complex_allowed)):
            kind = "floating point or complex" if name in complex_allowed else "floating point"
            raise UserError(f"{operator}: {name} must be {kind}, got dtype {tensor.dtype}")
        if tensor.device != first.device:
            raise UserError(
                f"{operator}: {name} must be on {first.device} like {first_name}, got {tensor.device}",
                hint="move the tensors to one device",
            )
