from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before anything loads torch

from hypothesis import settings

# Shells start background jobs with interrupts ignored, and so would be every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not fail a test, and a run must be repeatable.
settings.register_profile("seqmamba", deadline=None, derandomize=True)
settings.load_profile("seqmamba")
