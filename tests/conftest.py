from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before anything loads torch

from hypothesis import settings

# A busy machine must not fail a test, and a run must be repeatable.
settings.register_profile("seqmamba", deadline=None, derandomize=True)
settings.load_profile("seqmamba")
