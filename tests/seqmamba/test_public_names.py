from __future__ import annotations

import importlib
import pkgutil

import pytest

import seqmamba

PACKAGES = [
    "seqmamba",
    *(module.name for module in pkgutil.walk_packages(seqmamba.__path__, "seqmamba.") if module.ispkg),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_promises_is_there_and_named_once(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(set(names)) == len(names)
