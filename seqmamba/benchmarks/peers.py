"""Other packages' functions for the same operators, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.benchmarks.candidates import Candidate
from seqmamba.benchmarks.exact import EPS
from seqmamba.benchmarks.inputs import Arguments, one_direction

Call = Callable[[Arguments], Tensor]


class PeerUnavailable(Exception):
    """A peer cannot be timed here; the message says why in words."""


@dataclass(frozen=True)
class Peer:
    """A function of another package.

    Attributes:
        name: The package, and which of its functions where it has several.
        install: The command that installs it.
        devices: Device types that it is timed on.
        load: Imports it and returns a function like `Candidate.call`.
        transposed: Whether its layout is (batch, channels, length).
        longest: Longer sequences would take minutes and are timed only if the peer is asked for by name.
    """

    name: str
    install: str
    devices: tuple[str, ...]
    load: Callable[[], Call]
    transposed: bool = False
    longest: int | None = None

    def candidate(self, device_type: str) -> Candidate:
        """Import the peer.

        Raises:
            PeerUnavailable: It is not installed, lacks the function, or does not run on the device.
        """
        if device_type not in self.devices:
            raise PeerUnavailable(f"runs on {' and '.join(self.devices)} only")
        try:
            call = self.load()
        except ModuleNotFoundError as failure:
            missing = (failure.name or "").partition(".")[0].replace("_", "-")
            raise PeerUnavailable(f"not installed ({missing}): {self.install}") from failure
        except (ImportError, AttributeError, OSError) as failure:
            first_line = str(failure).strip().partition("\n")[0]
            raise PeerUnavailable(f"cannot be imported ({first_line}): {self.install}") from failure
        return Candidate(self.name, "peer", call, self.transposed)


def import_without_init(package: str, module: str) -> types.ModuleType:
    """Import a module of a package without running the package's ``__init__``.

    That of mamba-ssm imports whole models and transformers, which may not fit each other.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    if package not in sys.modules:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        bare = types.ModuleType(package)
        bare.__path__ = list(spec.submodule_search_locations)
        bare.__spec__ = spec
        sys.modules[package] = bare
    return importlib.import_module(f"{package}.{module}")


def _selective_scan_fn() -> Callable[..., Tensor]:
    interface = import_without_init("mamba_ssm", "ops.selective_scan_interface")
    if getattr(interface, "selective_scan_cuda", None) is None:
        raise ImportError("mamba-ssm was built without its compiled scan")
    function: Callable[..., Tensor] = interface.selective_scan_fn
    return function


def _mamba_ssm_scan() -> Call:
    function = _selective_scan_fn()
    return lambda arguments: function(**arguments, delta_softplus=True)


def _mamba_ssm_bidirectional() -> Call:
    """Two calls, with every sequence of the reverse direction flipped before and its result after."""
    function = _selective_scan_fn()

    def call(arguments: Arguments) -> Tensor:
        gate = arguments["z"]
        forward = function(**one_direction(arguments, "forward"), z=gate, delta_softplus=True)
        reverse = one_direction(arguments, "reverse")
        flipped = {name: x.flip(2) if x.ndim == 3 else x for name, x in reverse.items()}
        return forward + function(**flipped, z=gate.flip(2), delta_softplus=True).flip(2)

    return call


def _mamba_ssm_ssd() -> Call:
    function = import_without_init("mamba_ssm", "ops.triton.ssd_combined").mamba_chunk_scan_combined

    def call(a: Arguments) -> Tensor:
        result: Tensor = function(
            a["x"], a["delta"], a["A"], a["B"], a["C"], chunk_size=256, D=a["D"], z=a["z"],
            dt_bias=a["delta_bias"], dt_softplus=True,
        )  # fmt: skip
        return result

    return call


def _causal_conv1d() -> Call:
    function = importlib.import_module("causal_conv1d").causal_conv1d_fn
    return lambda arguments: function(**arguments, activation="silu")


def _mamba_ssm_norm() -> Call:
    function = import_without_init("mamba_ssm", "ops.triton.layer_norm").rms_norm_fn

    def call(a: Arguments) -> Tensor:
        y, _ = function(
            a["x"],
            a["weight"],
            None,
            residual=a["residual"],
            eps=EPS,
            prenorm=True,  # gives the new residual stream as well, as ours does
            residual_in_fp32=True,
        )
        result: Tensor = y
        return result

    return call


def _torch_norm() -> Call:
    def call(a: Arguments) -> Tensor:
        total = a["x"] + a["residual"]
        return F.rms_norm(total, (total.shape[-1],), a["weight"], EPS).to(a["x"].dtype)

    return call


def _torch_conv() -> Call:
    def call(a: Arguments) -> Tensor:
        weight, bias = (a[name].to(a["x"].dtype) for name in ("weight", "bias"))
        dim, width = weight.shape
        y = F.conv1d(a["x"], weight[:, None], bias, padding=width - 1, groups=dim)
        return F.silu(y[..., : a["x"].shape[-1]])

    return call


def _transformers_scan() -> Call:
    """The loop over steps that Hugging Face's Mamba runs where no CUDA kernel is installed."""
    modeling = importlib.import_module("transformers.models.mamba.modeling_mamba")
    function = inspect.unwrap(modeling.mamba_selective_scan)
    return lambda arguments: function(**_renamed(arguments), delta_softplus=True)


def _renamed(arguments: Arguments) -> dict[str, Any]:
    names = {"u": "hidden_states", "delta": "dt"}
    return {names.get(name, name): x for name, x in arguments.items()}


def _mambapy_scan() -> Call:
    """mamba.py's scan, with the softplus before it and the gate behind it as in its layer."""
    layer = importlib.import_module("mambapy.mamba").MambaBlock

    def call(a: Arguments) -> Tensor:
        step = F.softplus(a["delta"] + a["delta_bias"])
        # the method reads nothing of the layer
        y = layer.selective_scan(None, a["u"], step, a["A"], a["B"], a["C"], a["D"])
        result: Tensor = y * F.silu(a["z"])
        return result

    return call


_MAMBA_SSM = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation"

PEERS: dict[str, tuple[Peer, ...]] = {
    "scan": (
        Peer("mamba-ssm", _MAMBA_SSM, ("cuda",), _mamba_ssm_scan, transposed=True),
        Peer(
            "transformers",
            "pip install transformers",
            ("cpu",),
            _transformers_scan,
            transposed=True,
            longest=1024,  # every step's slice has a gradient of the whole sequence's size
        ),
        Peer("mamba.py", "pip install mambapy", ("cpu",), _mambapy_scan),
    ),
    "bidirectional": (
        Peer("mamba-ssm twice", _MAMBA_SSM, ("cuda",), _mamba_ssm_bidirectional, transposed=True),
    ),
    "conv": (
        Peer(
            "causal-conv1d",
            "pip install causal-conv1d --no-build-isolation",
            ("cuda",),
            _causal_conv1d,
            transposed=True,
        ),
        Peer("torch", "pip install torch", ("cuda", "cpu"), _torch_conv, transposed=True),
    ),
    "norm": (
        Peer("mamba-ssm", _MAMBA_SSM, ("cuda",), _mamba_ssm_norm),
        Peer("torch", "pip install torch", ("cuda", "cpu"), _torch_norm),
    ),
    "ssd": (Peer("mamba-ssm", _MAMBA_SSM, ("cuda",), _mamba_ssm_ssd),),
}
"""For each operator, in the order in which one is chosen to compare with."""


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether a candidate failed because the memory was too small for it."""
    if isinstance(failure, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(failure, RuntimeError) and "can't allocate memory" in str(failure).lower()
