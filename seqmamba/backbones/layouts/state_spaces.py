"""state-spaces' original files: MambaLMHeadModel of the mamba-ssm package, with Mamba or Mamba-2 layers."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.layouts.assembly import language_model
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.layouts.mamba2 import delta_limit
from seqmamba.nn.options import Mamba2Options

_NORM_EPS = 1e-5  # fixed there
_MLP_MULTIPLE = 128  # hidden channels of an MLP are rounded up to it

# Keys that change initial values, kernels or the dtype of the residual stream (ours is always float32).
_TOP = {
    "d_model",
    "n_layer",
    "vocab_size",
    "d_intermediate",
    "ssm_cfg",
    "attn_layer_idx",
    "attn_cfg",
    "rms_norm",
}
_TOP |= {"pad_vocab_size_multiple", "tie_embeddings", "residual_in_fp32", "fused_add_norm"}
_LAYER = {"layer", "d_state", "d_conv", "expand", "bias", "conv_bias"}
_LAYER |= {"dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor"}
_MAMBA = _LAYER | {"dt_rank", "use_fast_path"}
_MAMBA2 = _LAYER | {"headdim", "ngroups", "dt_limit", "d_ssm", "rmsnorm", "norm_before_gate", "D_has_hdim"}
_MAMBA2 |= {
    "A_init_range",
    "conv_init",
    "chunk_size",
    "use_mem_eff_path",
    "process_group",
    "sequence_parallel",
}


def import_model(config: dict[str, Any], weights: dict[str, Tensor], where: str) -> LanguageModel:
    """Build the model of a checkpoint that the mamba-ssm package wrote.

    Args:
        config: Content of config.json.
        weights: Tensors by published name, of any floating dtype.
        where: config.json's path, for messages.

    Returns:
        The model with these weights, float32. Its logits leave out the rows that pad the vocabulary.

    Raises:
        UserError: If an option is not supported or the weights do not fit.
    """
    fields = Fields(config, where)
    fields.known(_TOP)
    fields.only("attn_layer_idx", [], None)
    stack = {
        "d_model": fields.whole("d_model"),
        "n_layers": fields.whole("n_layer"),
        "norm": "rms" if fields.flag("rms_norm", True) else "layer",
        "norm_eps": _NORM_EPS,
        **_layer_options(fields),
    }
    return language_model(
        fields,
        weights,
        stack | _mlp_options(fields, stack),
        vocab_size=fields.whole("vocab_size", at_least=2),
        tie_embeddings=fields.flag("tie_embeddings", True),
        pad_vocab_multiple=fields.whole("pad_vocab_size_multiple", 8),
    )


def _layer_options(fields: Fields) -> dict[str, Any]:
    """Read ``ssm_cfg``: the arguments of the package's Mamba or Mamba2."""
    layer = fields.nested("ssm_cfg")
    layer.only("layer", "Mamba1", "Mamba2")
    options = {
        "d_conv": layer.whole("d_conv", 4),
        "expand": layer.whole("expand", 2),
        "bias": layer.flag("bias", False),
        "conv_bias": layer.flag("conv_bias", True),
    }
    if layer.get("layer", "Mamba1") == "Mamba1":
        layer.known(_MAMBA)
        rank = layer.get("dt_rank", "auto")
        selective = {
            "d_state": layer.whole("d_state", 16),
            "dt_rank": None if rank == "auto" else layer.whole("dt_rank"),
        }
        return {"mixer": "mamba", **options, **selective}
    layer.known(_MAMBA2)
    layer.only("d_ssm", None, options["expand"] * fields.whole("d_model"))
    layer.only("rmsnorm", True)
    layer.only("norm_before_gate", False)
    layer.only("D_has_hdim", False)
    dual = Mamba2Options(
        d_state=layer.whole("d_state", 128),
        head_dim=layer.whole("headdim", 64),
        n_groups=layer.whole("ngroups", 1),
        dt_limit=delta_limit(layer, "dt_limit"),
    )
    return {"mixer": "mamba2", "mamba2": dual, **options}


def _mlp_options(fields: Fields, stack: dict[str, Any]) -> dict[str, Any]:
    """Read the size of the gated MLPs, which the package puts behind every mixer or none."""
    hidden = fields.whole("d_intermediate", 0, at_least=0)
    if hidden == 0:
        return {}
    if stack["bias"]:
        raise fields.refuse(
            "d_intermediate", "0 in a model whose ssm_cfg has bias, since MLPs have none", hidden
        )
    hidden = math.ceil(hidden / _MLP_MULTIPLE) * _MLP_MULTIPLE
    return {"mixer": f"{stack['mixer']}+mlp", "mlp_ratio": hidden / stack["d_model"]}
