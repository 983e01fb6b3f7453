"""Initial values that the papers prescribe, and the marks that keep other code away from them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Below this the inverse softplus loses its digits in float32; the same floor as in the published code.
_DELTA_FLOOR = 1e-4


def s4d_real(dim: int, state: int) -> Float[Tensor, "dim state"]:
    """Return ``log(-A)`` for the real diagonal initialisation ``A[d, n] = -(n + 1)``.

    S4D-Real: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models",
    section 4; used by Mamba (Gu & Dao 2023, section 3.6).

    Args:
        dim: Channels.
        state: State size N.

    Returns:
        Float32 logarithms, one row a channel.
    """
    return torch.log(torch.arange(1, state + 1, dtype=torch.float32)).repeat(dim, 1)


def s4d_complex(dim: int, state: int) -> tuple[Float[Tensor, "dim state"], Float[Tensor, "dim state"]]:
    """Return ``log(-Re A)`` and ``Im A`` for the complex initialisation ``A[d, n] = -1/2 + n i``.

    S4D-Lin as Mamba scales it (Gu & Dao 2023, section 3.6).

    Args:
        dim: Channels.
        state: Complex states of a channel.

    Returns:
        Two float32 tensors, one row a channel.
    """
    frequencies = torch.arange(state, dtype=torch.float32)
    return torch.full((dim, state), math.log(0.5)), frequencies.repeat(dim, 1)


def log_of_uniform_decay(heads: int, A_min: float, A_max: float) -> Float[Tensor, " heads"]:
    """Draw ``log(-A)`` with ``-A`` uniform in ``[A_min, A_max]``, one a head (the published Mamba-2 code).

    Args:
        heads: Heads.
        A_min: Smallest decay rate.
        A_max: Largest decay rate.

    Returns:
        Float32 logarithms.
    """
    return torch.log(torch.empty(heads).uniform_(A_min, A_max))


def log_uniform_log_delta(dim: int, dt_min: float, dt_max: float) -> Float[Tensor, " dim"]:
    """Draw the logarithms of step sizes that are log-uniform in ``[dt_min, dt_max]``, as S4 starts from.

    Args:
        dim: Channels.
        dt_min: Smallest step size.
        dt_max: Largest step size.

    Returns:
        Float32 logarithms.
    """
    log_low, log_high = math.log(dt_min), math.log(dt_max)
    return log_low + (log_high - log_low) * torch.rand(dim)


def log_uniform_delta_bias(dim: int, dt_min: float, dt_max: float) -> Float[Tensor, " dim"]:
    """Draw biases whose softplus is log-uniform in ``[dt_min, dt_max]`` (Gu & Dao 2023, section 3.6).

    Args:
        dim: Channels.
        dt_min: Smallest step size.
        dt_max: Largest step size.

    Returns:
        Float32 biases.
    """
    delta = torch.exp(log_uniform_log_delta(dim, dt_min, dt_max)).clamp(min=_DELTA_FLOOR)
    return delta + torch.log(-torch.expm1(-delta))  # the inverse of softplus


def initialise_delta_projection(projection: nn.Linear, dt_min: float, dt_max: float) -> None:
    """Initialise the map from the low-rank delta to every channel, in place.

    The weight keeps the variance of its input (uniform with bound ``rank ** -0.5``); the bias comes from
    `log_uniform_delta_bias`. Both are marked, see `protect`.

    Args:
        projection: Linear layer from the rank of delta to the channels, with a bias.
        dt_min: Smallest step size.
        dt_max: Largest step size.
    """
    bound = projection.in_features**-0.5
    nn.init.uniform_(projection.weight, -bound, bound)
    with torch.no_grad():
        projection.bias.copy_(log_uniform_delta_bias(projection.out_features, dt_min, dt_max))
    protect(projection.get_parameter("bias"))
    protect(projection.get_parameter("weight"), weight_decay=True)


def protect(
    parameter: nn.Parameter, *, weight_decay: bool = False, max_lr: float | None = None
) -> nn.Parameter:
    """Mark a parameter whose initial value matters, so that outer code leaves it alone.

    Args:
        parameter: The parameter; it gets ``_no_reinit`` and, unless ``weight_decay``, ``_no_weight_decay``.
        weight_decay: Whether the optimiser may decay it.
        max_lr: Largest peak learning rate it may get, kept as ``_max_lr``; ``None``: that of the others.

    Returns:
        The same parameter.
    """
    parameter._no_reinit = True  # type: ignore[attr-defined]
    if not weight_decay:
        parameter._no_weight_decay = True  # type: ignore[attr-defined]
    if max_lr is not None:
        parameter._max_lr = max_lr  # type: ignore[attr-defined]
    return parameter


def scale_residual_projection(projection: nn.Linear, n_layers: int) -> None:
    """Divide an output projection by ``sqrt(n_layers)``, in place.

    Keeps the variance of the residual stream independent of the depth (Radford et al. 2019, section 2.3).

    Args:
        projection: The last linear layer of a residual branch.
        n_layers: Residual branches in the stack.
    """
    with torch.no_grad():
        projection.weight.div_(math.sqrt(n_layers))
