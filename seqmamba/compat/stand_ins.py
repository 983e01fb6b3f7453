"""`install`: our functions where code imports them from, when the packages themselves are not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from seqmamba.compat.chunk_scan import mamba_chunk_scan_combined, mamba_split_conv1d_scan_combined
from seqmamba.compat.convolution import causal_conv1d_fn, causal_conv1d_update
from seqmamba.compat.scan import mamba_inner_fn, selective_scan_fn, selective_scan_ref
from seqmamba.compat.state_update import selective_state_update
from seqmamba.errors import UserError
from seqmamba.ops.causal_conv1d.upstream import STAND_IN

_CONVOLUTION = (causal_conv1d_fn, causal_conv1d_update)
# Each module with the functions that it offers; a package comes before what it holds.
_MODULES: dict[str, tuple[Callable[..., Any], ...]] = {
    "mamba_ssm": (selective_scan_fn, mamba_inner_fn),
    "mamba_ssm.ops": (),
    "mamba_ssm.ops.selective_scan_interface": (selective_scan_fn, selective_scan_ref, mamba_inner_fn),
    "mamba_ssm.ops.triton": (),
    "mamba_ssm.ops.triton.selective_state_update": (selective_state_update,),
    "mamba_ssm.ops.triton.ssd_combined": (mamba_chunk_scan_combined, mamba_split_conv1d_scan_combined),
    "causal_conv1d": _CONVOLUTION,
    "causal_conv1d.causal_conv1d_interface": _CONVOLUTION,
}
# The release whose functions these are, for code that asks.
_VERSIONS = {"mamba_ssm": "2.3.2", "causal_conv1d": "1.7.0"}
_PACKAGES = tuple(_VERSIONS)
_displaced: dict[str, ModuleType] = {}


def install(packages: Sequence[str] = _PACKAGES, *, force: bool = False) -> tuple[str, ...]:
    """Register stand-ins for `mamba_ssm` and `causal_conv1d`, so that code that imports from them runs here.

    `from mamba_ssm.ops.selective_scan_interface import selective_scan_fn` and its like then give ours, on
    any device. Call it before that code is imported. Another name of these packages, such as a layer, is not
    there: importing it fails and says so.

    Args:
        packages: Which of the two.
        force: Put the stand-ins in front of a package that is installed, for this process.

    Returns:
        The names of the modules that it registered.

    Raises:
        UserError: A package is unknown, or is installed and `force` is not set.
    """
    for package in packages:
        if package not in _PACKAGES:
            raise UserError(f"install: packages must be of {', '.join(_PACKAGES)}, got {package!r}")
        if not force and not _is_stand_in(package) and _is_installed(package):
            raise UserError(
                f"install: the package {package} is installed and would be hidden",
                hint="use it as it is, or force=True to put the stand-ins in front of it",
            )
    chosen = tuple(name for name in _MODULES if name.partition(".")[0] in packages)
    # What the real package has loaded goes too: a stand-in holding real submodules would be neither.
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        if not _is_stand_in(name):
            _displaced[name] = sys.modules[name]
        del sys.modules[name]
    for name in chosen:
        module = sys.modules[name] = _stand_in(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    return chosen


def uninstall() -> None:
    """Remove the stand-ins, and put back the modules that they displaced."""
    for name in filter(_is_stand_in, _MODULES):
        del sys.modules[name]
    sys.modules.update(_displaced)
    _displaced.clear()


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name, "Stand-in by seqmamba.compat.install.")
    is_package = any(other.startswith(f"{name}.") for other in _MODULES)
    module.__spec__ = ModuleSpec(name, loader=None, is_package=is_package)
    if is_package:
        module.__path__ = []
    if name in _VERSIONS:
        module.__dict__["__version__"] = _VERSIONS[name]
    functions = {function.__name__: function for function in _MODULES[name]}
    module.__dict__.update(functions, **{STAND_IN: True, "__all__": list(functions)})

    def missing(attribute: str) -> Any:
        offered = f"offers {', '.join(functions)}" if functions else "holds modules only"
        raise AttributeError(f"{name} is seqmamba's stand-in, which {offered}, and not {attribute}")

    module.__dict__["__getattr__"] = missing
    return module


def _is_stand_in(name: str) -> bool:
    return hasattr(sys.modules.get(name), STAND_IN)


def _is_installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None
