"""CUDA C++ kernels compiled at first use: sources, compiler, disk cache, launches."""
