"""Lets failures inside the checks say what the two sides of a comparison were."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("hostile_checks", "hostile_oracles")
