from __future__ import annotations

from hypothesis import settings

# A busy machine must not fail a test, and a run must be repeatable.
settings.register_profile("seqmamba", deadline=None, derandomize=True)
settings.load_profile("seqmamba")
