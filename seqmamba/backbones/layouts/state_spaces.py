"""state-spaces' original files: MambaLMHeadModel of the mamba-ssm package, with Mamba or Mamba-2 layers."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.layouts.assembly import language_model
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.layouts.mamba2 import delta_limit
from seqmamba.nn.options import AttentionOptions, Mamba2Options, is_whole

_NORM_EPS = 1e-5  # fixed there
_MLP_MULTIPLE = 128  # hidden channels of an MLP are rounded up to it

# Keys without effect on the model's function: initial values, kernels, and the dtype of the residual stream,
# which here is always float32.
_RESIDUAL = ("residual_in_fp32", "fused_add_norm")
_INITIAL = ("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "A_init_range", "conv_init")
_KERNELS = ("use_fast_path", "use_mem_eff_path", "sequence_parallel", "process_group")


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
    stack = _layer_options(fields)
    stack |= _attention_options(fields, stack)
    stack |= _mlp_options(fields, stack)
    stack |= {
        "d_model": fields.whole("d_model"),
        "n_layers": fields.whole("n_layer"),
        "norm": "rms" if fields.flag("rms_norm", True) else "layer",
        "norm_eps": _NORM_EPS,
    }
    vocabulary = {
        "vocab_size": fields.whole("vocab_size", at_least=2),
        "tie_embeddings": fields.flag("tie_embeddings", True),
        "pad_vocab_multiple": fields.whole("pad_vocab_size_multiple", 8),
    }
    fields.refuse_others(_RESIDUAL)
    return language_model(fields, weights, stack, **vocabulary)


def _layer_options(fields: Fields) -> dict[str, Any]:
    """Read ``ssm_cfg``: the arguments of the package's Mamba or Mamba2."""
    layer = fields.nested("ssm_cfg")
    layer.only("layer", "Mamba1", "Mamba2")
    options: dict[str, Any] = {
        "d_conv": layer.whole("d_conv", 4),
        "expand": layer.whole("expand", 2),
        "bias": layer.flag("bias", False),
        "conv_bias": layer.flag("conv_bias", True),
    }
    if layer.get("layer", "Mamba1") == "Mamba2":
        options |= {"mixer": "mamba2", "mamba2": _mamba2_options(layer, options["expand"], fields)}
    else:
        rank = layer.get("dt_rank", "auto")
        options |= {
            "mixer": "mamba",
            "d_state": layer.whole("d_state", 16),
            "dt_rank": None if rank == "auto" else layer.whole("dt_rank"),
        }
    layer.refuse_others(_INITIAL + _KERNELS)
    return options


def _mamba2_options(layer: Fields, expand: int, fields: Fields) -> Mamba2Options:
    layer.only("d_ssm", None, expand * fields.whole("d_model"))
    layer.only("rmsnorm", True)
    layer.only("norm_before_gate", False)
    layer.only("D_has_hdim", False)
    return Mamba2Options(
        d_state=layer.whole("d_state", 128),
        head_dim=layer.whole("headdim", 64),
        n_groups=layer.whole("ngroups", 1),
        dt_limit=delta_limit(layer, "dt_limit"),
        chunk_size=layer.whole("chunk_size", 256),
        norm_eps=_NORM_EPS,
    )


def _attention_options(fields: Fields, stack: dict[str, Any]) -> dict[str, Any]:
    """Read which layers are attention, and ``attn_cfg``: the arguments of the package's MHA."""
    n_layers, places = fields.whole("n_layer"), fields.get("attn_layer_idx", None)
    attention = fields.nested("attn_cfg")
    if not places:
        return {}
    if not (isinstance(places, list) and all(is_whole(place, 0) and place < n_layers for place in places)):
        raise fields.refuse("attn_layer_idx", f"a list of layers below {n_layers}", places)
    if not attention.flag("causal", False):
        raise attention.refuse("causal", "true in a language model", False)
    for key in ("qkv_proj_bias", "out_proj_bias"):
        if attention.flag(key, True) != stack["bias"]:
            raise attention.refuse(key, f"what ssm_cfg has as bias, {stack['bias']}", not stack["bias"])
    for key, supported in (("mlp_dim", 0), ("softmax_scale", None)):
        attention.only(key, supported)
    d_conv = attention.whole("d_conv", 0, at_least=0)
    if d_conv > 0 and not stack["conv_bias"]:
        raise attention.refuse("d_conv", "0 where ssm_cfg has no conv_bias", d_conv)
    attention.only("rotary_emb_interleaved", False)
    rotary_dim = attention.whole("rotary_emb_dim", 0, at_least=0)
    options = AttentionOptions(
        n_heads=attention.whole("num_heads"),
        n_kv_heads=attention.get("num_heads_kv", None),
        head_dim=attention.get("head_dim", None),
        rotary=rotary_dim > 0,
        rotary_dim=rotary_dim or None,
        d_conv=d_conv,
        rope_theta=attention.positive("rotary_emb_base", 1e4),
    )
    attention.refuse_others(())
    pattern = tuple("attention" if layer in places else stack["mixer"] for layer in range(n_layers))
    return {"mixer": pattern, "attention": options}


def _mlp_options(fields: Fields, stack: dict[str, Any]) -> dict[str, Any]:
    """Read the size of the gated MLPs, which the package puts behind every mixer or none."""
    hidden = fields.whole("d_intermediate", 0, at_least=0)
    if hidden == 0:
        return {}
    if stack["bias"]:
        raise fields.refuse("d_intermediate", "0 where ssm_cfg has bias, since its MLPs have none", hidden)
    hidden = math.ceil(hidden / _MLP_MULTIPLE) * _MLP_MULTIPLE
    mixers = [stack["mixer"]] if isinstance(stack["mixer"], str) else stack["mixer"]
    pattern = tuple(f"{mixer}+mlp" for mixer in mixers)
    return {"mixer": pattern, "mlp_ratio": hidden / fields.whole("d_model")}
