"""One step of a whole model as one kernel that works through a program of instructions."""
