"""Our language models in Hugging Face's layouts, for transformers to load."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from seqmamba.atomic import atomic_path
from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.language_model import LanguageModel, LanguageModelConfig
from seqmamba.backbones.layouts.assembly import EMBEDDING, HEAD, HUGGING_FACE_EMBEDDING, STACK
from seqmamba.backbones.weights import writing_weights
from seqmamba.errors import UserError
from seqmamba.nn.options import require

_CLASSES = {"mamba": "Mamba", "falcon_mamba": "FalconMamba", "mamba2": "Mamba2"}


def export_transformers(model: nn.Module, folder: str | Path) -> None:
    """Write a causal language model as config.json and model.safetensors that transformers loads.

    Layers of ``mamba`` give the layout ``mamba``, with ``bc_norm`` rms ``falcon_mamba``; layers of ``mamba2``
    give ``mamba2``. A model without a head becomes one of the classes without a head. What matters for
    training alone (dropout, initial values, checkpointing) is left out, and so are the rows that pad the
    vocabulary.

    Args:
        model: A causal `LanguageModel` whose layers are all ``mamba`` or all ``mamba2``.
        folder: Is created; files of the same names are replaced.

    Raises:
        UserError: If the model has an option that the layout cannot express, or a file cannot be written.
    """
    if not isinstance(model, LanguageModel):
        raise UserError(f"model: expected a LanguageModel, got {type(model).__name__}")
    content, tensors = _describe(model.config), _published_tensors(model)
    target = Path(folder).expanduser()
    with atomic_path(target / constants.CONFIG_NAME) as path:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with (
        atomic_path(target / constants.SAFETENSORS_SINGLE_FILE) as path,
        writing_weights(path, target / constants.CONFIG_NAME),
    ):
        save_file(tensors, path, metadata={"format": "pt"})


def _describe(config: LanguageModelConfig) -> dict[str, Any]:
    """Write config.json, or refuse what it cannot say."""
    stack = config.backbone
    if not isinstance(stack, BackboneConfig):
        raise UserError(f"backbone: expected one stack of equal blocks, got {type(stack).__name__}")
    mixers = sorted(set(stack.pattern))
    expressible = mixers in (["mamba"], ["mamba2"])
    require(expressible, "mixer", "mamba in all layers or mamba2 in all layers", stack.mixer)
    require(stack.direction == "causal", "direction", "causal", stack.direction)
    require(stack.norm == "rms", "norm", "rms", stack.norm)
    require(not config.head_bias, "head_bias", "false", config.head_bias)
    model_type, options = _mamba2(stack) if mixers == ["mamba2"] else _mamba(stack)
    kind = "ForCausalLM" if config.head else "Model"
    return {
        "architectures": [_CLASSES[model_type] + kind],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": stack.d_model,
        "num_hidden_layers": stack.n_layers,
        "layer_norm_epsilon": stack.norm_eps,
        "expand": stack.expand,
        "conv_kernel": stack.d_conv,
        "use_bias": stack.bias,
        "use_conv_bias": stack.conv_bias,
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "tie_word_embeddings": config.tie_embeddings,
        "time_step_min": stack.dt_min,
        "time_step_max": stack.dt_max,
        **options,
        # The defaults there are ids of one tokenizer, and may lie beyond this vocabulary.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),
        "dtype": "float32",
    }


def _mamba(stack: BackboneConfig) -> tuple[str, dict[str, Any]]:
    require(not stack.complex_state, "complex_state", "false", stack.complex_state)
    require(stack.dt_limit is None, "dt_limit", "null", stack.dt_limit)
    require(stack.bc_norm != "learned", "bc_norm", "none or rms", stack.bc_norm)
    options: dict[str, Any] = {"state_size": stack.d_state, "time_step_rank": stack.delta_rank}
    options["intermediate_size"] = stack.d_inner
    if stack.bc_norm == "none":
        return "mamba", options
    return "falcon_mamba", {**options, "mixer_rms_eps": stack.bc_norm_eps}


def _mamba2(stack: BackboneConfig) -> tuple[str, dict[str, Any]]:
    dual = stack.mamba2
    groups = dual.norm_groups
    require(groups in (None, dual.n_groups), "mamba2.norm_groups", "null or n_groups", groups)
    expected = f"the norms' epsilon {stack.norm_eps}"
    require(dual.norm_eps == stack.norm_eps, "mamba2.norm_eps", expected, dual.norm_eps)
    return "mamba2", {
        "state_size": dual.d_state,
        "num_heads": stack.d_inner // dual.head_dim,
        "head_dim": dual.head_dim,
        "n_groups": dual.n_groups,
        "chunk_size": dual.chunk_size,
        "time_step_limit": list(dual.dt_limit or (0.0, math.inf)),
    }


def _published_tensors(model: LanguageModel) -> dict[str, Tensor]:
    """Return float32 copies under published names, a tied weight once, without the padding's rows."""
    config, prefix = model.config, STACK if model.config.head else ""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == HEAD and config.tie_embeddings:
            continue
        rows = tensor[: config.vocab_size] if name in (EMBEDDING, HEAD) else tensor
        published = name if name == HEAD else prefix + _inner(name)
        tensors[published] = rows.detach().float().cpu().contiguous()
    return tensors


def _inner(name: str) -> str:
    return HUGGING_FACE_EMBEDDING if name == EMBEDDING else name.removeprefix(STACK)
