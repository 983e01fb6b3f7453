"""Steps of a language model as single kernels, where its weights and its GPU allow it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree

from seqmamba.backbones import BackboneState, LanguageModel
from seqmamba.backbones.token_program import program_obstacle, worthwhile, write_program
from seqmamba.inference.model import TokenModel
from seqmamba.nn.state import describe_state
from seqmamba.ops.dispatch import cuda_obstacle
from seqmamba.ops.in_place import may_overwrite
from seqmamba.ops.token_step.cuda import LoadedProgram, fits


def fusion_obstacle(model: TokenModel, batch: int) -> str | None:
    """Say why the steps of a model are not single kernels, or None if they are.

    Args:
        model: Any model.
        batch: Sequences side by side.
    """
    obstacle = program_obstacle(cast(torch.nn.Module, model)) or cuda_obstacle(next(model.parameters()))
    if obstacle is None and not worthwhile(cast(LanguageModel, model), batch):
        return f"operators on the whole GPU are faster for {batch} sequences"
    return obstacle


class FusedSteps:
    """Takes steps of a model by `seqmamba.ops.token_step`, over its state.

    A program is written for every form and place of the state that comes up, and kept: a CUDA graph of the
    steps runs those that were written before its capture.

    Args:
        model: One without an obstacle, whose weights stay where and as they are.
    """

    def __init__(self, model: TokenModel) -> None:
        self._model = cast(LanguageModel, model)
        self._programs: dict[Any, tuple[LoadedProgram, BackboneState] | None] = {}

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any] | None:
        """Take a step, if the state may be written over and a multiprocessor holds all vectors.

        Args:
            tokens: int64 (batch,).
            state: Of the model; see `updating_states_in_place`.

        Returns:
            Logits, float32 (batch, vocabulary), and the state after the step; or None if nothing was done.
        """
        tensors = [leaf for leaf in _pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
        if not all(map(may_overwrite, tensors)) or torch.is_autocast_enabled("cuda"):
            return None
        key = (tuple(tensor.data_ptr() for tensor in tensors), str(describe_state(state)))
        if key not in self._programs:
            if tokens.is_cuda and torch.cuda.is_current_stream_capturing():
                return None  # a program has to be copied to the GPU, which no graph can hold
            self._programs[key] = self._write(state, len(tokens), tokens.device)
        found = self._programs[key]
        if found is None:
            return None
        program, new_state = found
        logits = tokens.new_empty(len(tokens), self._model.config.vocab_size, dtype=torch.float32)
        program(tokens.contiguous(), logits)
        return logits, new_state

    def _write(
        self, state: BackboneState, batch: int, device: torch.device
    ) -> tuple[LoadedProgram, BackboneState] | None:
        program, new_state = write_program(self._model, state)
        return (LoadedProgram(program, batch, device), new_state) if fits(program, batch) else None
