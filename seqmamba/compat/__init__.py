"""The functions of mamba-ssm and causal-conv1d under their own names, on `seqmamba.ops`.

They keep the signatures, layouts and meaning of mamba-ssm 2.3.2 and causal-conv1d 1.7.0, run on any device,
and are differentiable throughout. `install` puts them where code imports them from; `accelerate_transformers`
lets the Mamba models of Hugging Face transformers call them.
"""

from seqmamba.compat.chunk_scan import mamba_chunk_scan_combined, mamba_split_conv1d_scan_combined
from seqmamba.compat.convolution import causal_conv1d_fn, causal_conv1d_update
from seqmamba.compat.scan import mamba_inner_fn, selective_scan_fn, selective_scan_ref
from seqmamba.compat.stand_ins import install, uninstall
from seqmamba.compat.state_update import selective_state_update
from seqmamba.compat.transformers_models import Acceleration, accelerate_transformers

__all__ = [
    "Acceleration",
    "accelerate_transformers",
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "install",
    "mamba_chunk_scan_combined",
    "mamba_inner_fn",
    "mamba_split_conv1d_scan_combined",
    "selective_scan_fn",
    "selective_scan_ref",
    "selective_state_update",
    "uninstall",
]
