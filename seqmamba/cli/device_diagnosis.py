"""The checks of ``seqmamba doctor`` that are about devices: is there a GPU, and can this PyTorch use it?"""

from __future__ import annotations

import ctypes
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

from seqmamba.cli.finding import Finding, first_line

_GROUP = "devices"
_OLDEST_DRIVERS = {12: "525.60", 13: "580.65"}
"""Oldest Linux driver of each CUDA major version, of NVIDIA's release notes of the toolkit."""
_NO_KERNELS = "no kernel image is available"
_INSTALL = "install a PyTorch with CUDA: pip install --upgrade --force-reinstall torch torchaudio"


def examine_devices() -> list[Finding]:
    """Look at the CPU, the driver, every GPU and the compilers of its kernels."""
    import torch

    from seqmamba.training.hardware import available_cores

    threads = torch.get_num_threads()
    findings = [Finding(_GROUP, "cpu", f"{available_cores()} usable cores, {threads} threads by default")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch says of an old driver is said below
        usable = torch.cuda.is_available()  # the number of devices counts those of an old driver, too
    if not usable:
        return [*findings, _no_gpu(torch.version.cuda, torch.version.hip)]
    return [*findings, *(_gpu(index) for index in range(torch.cuda.device_count())), *_compilers()]


def gpu_present() -> bool:
    """Say whether the kernel driver of an NVIDIA GPU is loaded, whatever PyTorch makes of it."""
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA version that the installed driver runs, or None without a driver."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    number = ctypes.c_int()
    try:
        if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def _no_gpu(built_for: str | None, hip: str | None) -> Finding:
    """Say why PyTorch finds no GPU: there is none, it is hidden, or driver and PyTorch do not fit.

    Args:
        built_for: CUDA version that PyTorch was built for, if any.
        hip: ROCm version that it was built for, if any.
    """
    driver = driver_cuda()
    if driver is None and not gpu_present():
        return Finding(_GROUP, "cuda", "no NVIDIA GPU here; everything runs on the CPU")
    if built_for is None:
        kind = "for AMD GPUs" if hip else "for CPUs only"
        detail = f"there is an NVIDIA GPU, but this PyTorch was built {kind}"
        return Finding(_GROUP, "cuda", detail, ok=False, fix=_INSTALL)
    major = int(built_for.split(".")[0])
    oldest = _OLDEST_DRIVERS.get(major)
    if driver is None:
        detail = "there is an NVIDIA GPU, but its driver library libcuda does not load"
        fix = f"install the NVIDIA driver{f' {oldest} or newer' if oldest else ''}; in a container, start it "
        return Finding(_GROUP, "cuda", detail, ok=False, fix=f"{fix}with access to the GPU (--gpus all)")
    if driver[0] < major:
        detail = f"the driver runs CUDA up to {driver[0]}.{driver[1]}, this PyTorch was built for {built_for}"
        wanted = f"driver {oldest} or newer" if oldest else "a newer driver"
        fix = f"install NVIDIA {wanted}, or a torch and a torchaudio that were built for CUDA {driver[0]}"
        return Finding(_GROUP, "cuda", detail, ok=False, fix=fix)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return Finding(_GROUP, "cuda", f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU; the CPU is used")
    detail = f"the driver (CUDA {driver[0]}.{driver[1]}) is there, but PyTorch finds no GPU that works"
    return Finding(
        _GROUP,
        "cuda",
        detail,
        ok=False,
        fix="look at what `nvidia-smi` says; restart the machine or container",
    )


def _gpu(index: int) -> Finding:
    """Compute something on a GPU."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    capability = f"{properties.major}.{properties.minor}"
    memory = f"{properties.total_memory / 2**30:.0f} GiB"
    detail = f"{properties.name}, {memory}, compute capability {capability}"
    name = f"cuda:{index}"
    try:
        torch.ones(8, device=name).sum().item()
    except Exception as failure:
        fix = "look at what `nvidia-smi` says; another program may have it, or the driver needs a restart"
        if _NO_KERNELS in str(failure):
            fix = f"install a torch that was built for compute capability {capability}"
        return Finding(_GROUP, name, f"{detail}: {first_line(failure)}", ok=False, fix=fix)
    if (properties.major, properties.minor) < (8, 0):
        detail += "; the kernels need 8.0, so plain PyTorch runs"
    return Finding(_GROUP, name, detail)


def _compilers() -> list[Finding]:
    """Look for what compiles the kernels of a GPU."""
    wanted = {
        "triton": ("triton", "convolution, norm and ssd run in plain PyTorch, many times slower"),
        "cuda-bindings": ("cuda.bindings", "the selective scan runs in plain PyTorch, many times slower"),
    }
    findings = []
    for package, (module, consequence) in wanted.items():
        if _is_missing(module):
            fix = f"install it: pip install {package}"
            detail = f"not installed, so {consequence}"
            findings.append(Finding(_GROUP, package, detail, ok=False, fix=fix))
    return findings


def _is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # of the package that it is in
        return True
