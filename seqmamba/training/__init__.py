"""Training: the task base class, the optimiser and its schedule, run folders, exact resume."""
