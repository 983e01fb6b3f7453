"""Other packages' ways to generate from the weights of one of our language models."""

from __future__ import annotations

import inspect
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from seqmamba.backbones import BackboneConfig, LanguageModel
from seqmamba.benchmarks.peers import PeerUnavailable, import_without_init
from seqmamba.errors import UserError

PROMPT = 16
"""Tokens taken in at most: a step costs the same anywhere, but to take in a prompt may take them minutes."""


class Generator(Protocol):
    """Draws the likeliest tokens and keeps its place."""

    def advance(self, n_tokens: int) -> Any:
        """Return what has (batch, n_tokens) ``tokens`` and ``log_probs``."""


@dataclass
class GeneratedBlock:
    """What a peer makes.

    Attributes:
        tokens: (batch, n_tokens).
        log_probs: Of the tokens, float32.
    """

    tokens: Tensor
    log_probs: Tensor


class _Greedy(ABC):
    """Takes the likeliest token of each step; a subclass says how a step gives logits."""

    _tokens: Tensor

    @abstractmethod
    def _step(self, tokens: Tensor) -> Tensor:
        """Logits (batch, vocabulary) after tokens (batch, length)."""

    @torch.inference_mode()
    def advance(self, n_tokens: int) -> GeneratedBlock:
        """Draw the likeliest tokens."""
        tokens, log_probs = [], []
        for _ in range(n_tokens):
            best = self._step(self._tokens).float().log_softmax(dim=-1).max(dim=-1)
            self._tokens = best.indices[:, None]
            tokens.append(best.indices)
            log_probs.append(best.values)
        return GeneratedBlock(torch.stack(tokens, dim=1), torch.stack(log_probs, dim=1))


class TransformersSteps(_Greedy):
    """The Mamba of Hugging Face transformers, stepped with its own cache."""

    def __init__(self, model: LanguageModel, prompt: Tensor, batch: int) -> None:
        try:
            from transformers import AutoModelForCausalLM
        except ImportError as failure:
            raise PeerUnavailable("not installed: pip install transformers") from failure
        from seqmamba.backbones.layouts.export import export_transformers

        weight = next(model.parameters())
        with tempfile.TemporaryDirectory() as folder:
            try:
                export_transformers(model, folder)
            except UserError as failure:
                raise PeerUnavailable(f"has no such model: {failure.message}") from failure
            loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=weight.dtype)
        if "cache" not in inspect.signature(loaded.forward).parameters:
            raise PeerUnavailable("this version of transformers keeps its cache elsewhere")
        self._model = loaded.to(weight.device).eval()
        self._cache: Any = None
        self._tokens = prompt[:, -PROMPT:].expand(batch, -1).to(weight.device)

    def _step(self, tokens: Tensor) -> Tensor:
        out = self._model(input_ids=tokens, cache=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.cache
        return out.logits[:, -1]


class MambaSSMGraph(_Greedy):
    """The language model of mamba-ssm with its own CUDA graph of a step (``generate(cg=True)`` there)."""

    def __init__(self, model: LanguageModel, prompt: Tensor, batch: int) -> None:
        weight = next(model.parameters())
        if not weight.is_cuda:
            raise PeerUnavailable("it generates on a GPU only")
        self._model = _mamba_ssm_model(model).to(weight.device, weight.dtype).eval()
        generation = import_without_init("mamba_ssm", "utils.generation")
        tokens = prompt[:, -PROMPT:].expand(batch, -1).to(weight.device)
        with torch.inference_mode():
            self._graph = generation.update_graph_cache(
                self._model, None, batch, tokens.shape[1], max_seqlen=1 << 20
            )
            self._place = self._graph.inference_params
            self._place.reset(1 << 20, batch)
        self._tokens = tokens

    def _step(self, tokens: Tensor) -> Tensor:
        offset = self._place.seqlen_offset
        if offset == 0:
            logits = self._model(tokens, inference_params=self._place, num_last_tokens=1).logits
        else:
            positions = torch.full_like(tokens, offset)
            logits = self._graph.run(tokens, positions, offset)
        self._place.seqlen_offset = offset + tokens.shape[1]
        return logits[:, -1]


def _mamba_ssm_model(model: LanguageModel) -> Any:
    """The same model built by mamba-ssm, with the same weights."""
    config, stack = model.config, model.config.backbone
    layer = {"mamba": "Mamba1", "mamba2": "Mamba2"}.get(
        stack.mixer_of(0) if isinstance(stack, BackboneConfig) else ""
    )
    if not isinstance(stack, BackboneConfig) or layer is None or len(set(stack.pattern)) > 1:
        raise PeerUnavailable("has no such model: its layers are all mamba or all mamba2")
    mixer = {"layer": layer, "d_conv": stack.d_conv, "expand": stack.expand}
    if layer == "Mamba1":
        mixer["d_state"] = stack.d_state
    else:
        mixer |= {"d_state": stack.mamba2.d_state, "headdim": stack.mamba2.head_dim}
    try:
        package = import_without_init("mamba_ssm", "models.mixer_seq_simple")
    except ImportError as failure:
        raise PeerUnavailable(f"not installed: {failure}") from failure
    built = package.MambaLMHeadModel(
        package.MambaConfig(
            d_model=stack.d_model,
            n_layer=stack.n_layers,
            vocab_size=config.vocab_size,
            ssm_cfg=mixer,
            rms_norm=True,
            residual_in_fp32=True,
            fused_add_norm=True,
            pad_vocab_size_multiple=1,
            tie_embeddings=config.tie_embeddings,
        )
    )
    weights = {name: x.detach().cpu() for name, x in model.state_dict().items()}
    weights["backbone.embedding.weight"] = weights.pop("embedding.weight")
    built.load_state_dict(weights)
    return built
