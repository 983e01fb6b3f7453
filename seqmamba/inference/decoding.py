"""Drawing tokens one after the other, each fed back to the model."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seqmamba.errors import UserError
from seqmamba.inference.fused_steps import FusedDraws, FusedSteps, fusion_obstacle
from seqmamba.inference.graphs import GraphedSteps, contiguous_copy
from seqmamba.inference.model import TokenModel, evaluation_mode, require_tokens, step_period
from seqmamba.inference.philox import uniforms
from seqmamba.inference.sampling import SamplingConfig, draw
from seqmamba.inference.stopping import StopRule
from seqmamba.nn.options import require_whole
from seqmamba.nn.state import describe_state, map_state, register_state, repeat_rows, select_rows
from seqmamba.ops.draw import Draws
from seqmamba.ops.in_place import updating_states_in_place

_NUMBERS = 2**16  # random numbers that a GPU makes at once, in some hundred kernels
_LONG = 16  # steps of a graph, at least: they share the casts of the weights and one update of the buffers


@register_state
class Generation(NamedTuple):
    """All that generation carries from one token to the next: from a copy of it, it goes on as it would have.

    Attributes:
        model: The model's state before ``tokens``.
        tokens: The last token of each row, not yet fed to the model. int64.
        rows: Which sequence each row is, for the random numbers. int64.
        positions: Where in its sequence the next token of each row stands. int64.
        done: Which rows have met a stop token; they go on as padding.
    """

    model: Any
    tokens: Int[Tensor, " batch"]
    rows: Int[Tensor, " batch"]
    positions: Int[Tensor, " batch"]
    done: Bool[Tensor, " batch"]

    def select(self, rows: Tensor | slice) -> Generation:
        """Return some of the sequences; they go on as they would have in the whole batch.

        Args:
            rows: Indices, a mask or a slice of the batch axis.
        """
        return select_rows(self, rows)

    def repeat(self, copies: int) -> Generation:
        """Return copies of every sequence side by side, numbered anew so that each goes on in its own way.

        Args:
            copies: How many of each.
        """
        wider = repeat_rows(self, copies)
        return wider._replace(rows=torch.arange(len(wider.rows), device=wider.rows.device))

    def clone(self) -> Generation:
        """Return a copy that later steps do not touch."""
        return map_state(torch.clone, self)


class TokenBlock(NamedTuple):
    """Tokens that follow each other, and what they were drawn from.

    Attributes:
        tokens: int64; padding behind a row's stop token.
        log_probs: See `Draws`; zero in the padding.
        sampled_log_probs: See `Draws`; zero in the padding.
        drawn: Tokens of each row before the padding, a stop token included. int64.
        state: The state behind the block, to go on or to start again from.
    """

    tokens: Int[Tensor, "batch length"]
    log_probs: Float[Tensor, "batch length"]
    sampled_log_probs: Float[Tensor, "batch length"]
    drawn: Int[Tensor, " batch"]
    state: Generation


class Decoder:
    """Draws tokens in constant memory: step by step, or on a GPU whole periods of steps as CUDA graphs.

    Where `fusion_obstacle` has none, a step is one kernel and the drawing; and where the unlikely tokens are
    not cut off either, one kernel takes all steps of a block and draws, and leaves nothing for a graph.
    The period is that of the model (`step_period`). There are two graphs, of several periods and of one.
    Steps short of a period, and those up to the next border of two, run without: the numbers are the same.

    Args:
        model: A causal language model; it draws in evaluation mode.
        start: What `begin` or an earlier block returned. It is not changed.
        sampling: How tokens are drawn.
        stop: Where rows end.
        graph: Whether to use CUDA graphs; ``None`` does on a GPU once the model's state keeps its form.

    Raises:
        UserError: If a graph is asked for where there is no GPU, or the model knows no such stop token.
    """

    def __init__(
        self,
        model: TokenModel,
        start: Generation,
        sampling: SamplingConfig | None = None,
        stop: StopRule | None = None,
        graph: bool | None = None,
    ) -> None:
        self.model, self.sampling, self.stop = model, sampling or SamplingConfig(), stop or StopRule()
        device = start.tokens.device
        if graph and device.type != "cuda":
            raise UserError(f"graph: CUDA graphs need an NVIDIA GPU, but the state is on {device}")
        require_tokens(model, torch.tensor([*self.stop.tokens, self.stop.pad]), "stop")
        self._stop_tokens = torch.tensor(self.stop.tokens, dtype=torch.int64, device=device)
        self._may_graph = device.type == "cuda" and graph is not False
        self._steady = graph is True  # then the capture itself refuses what is not
        self._period = step_period(model)
        self._long = self._period * -(-_LONG // self._period)
        self._since_border = 0
        self._graphs: dict[int, GraphedSteps[Generation]] = {}
        self._active: GraphedSteps[Generation] | FusedDraws | None = None  # holds the state, if any does
        self._eager_state = start
        self._weights = _fingerprint(model)
        self._fused: FusedSteps | None = None  # of the graphs
        self._fused_draws: FusedDraws | None = None  # made when they are first needed
        self._ahead = torch.empty(len(start.tokens), 0, dtype=torch.float64, device=device)
        if fusion_obstacle(model, len(start.tokens)) is None:
            self._fused = FusedSteps(model)

    @property
    def graphed(self) -> bool:
        """Whether a CUDA graph has been captured."""
        return bool(self._graphs)

    def advance(self, n_tokens: int) -> TokenBlock:
        """Draw the next tokens of every row.

        Args:
            n_tokens: How many.

        Returns:
            The tokens, and the state behind them in memory of its own.

        Raises:
            UserError: If ``n_tokens`` is not positive, the model's logits are NaN or infinite, or a graph was
                asked for and the model's state changes its form.
        """
        require_whole("n_tokens", n_tokens)
        self._forget_graphs_of_other_weights()
        with torch.inference_mode():
            done_before = self._state.done.clone()
            draws = self._draw(n_tokens)
        # outside of inference mode, so that they may take part in training
        tokens, log_probs, sampled = (x.clone() for x in draws)
        drawn = n_tokens * (~done_before).long()
        if self.stop.tokens:
            before_stop = self._before_stop(tokens, done_before)
            log_probs, sampled = log_probs.where(before_stop, 0), sampled.where(before_stop, 0)
            drawn = before_stop.sum(dim=1)
        if not log_probs.isfinite().all():
            raise UserError(
                "the model's logits are not finite, so there is nothing to draw a token from",
                hint="its weights or its state have diverged; start again from the state of an earlier block",
            )
        state = self._active.copy() if isinstance(self._active, FusedDraws) else self._state.clone()
        return TokenBlock(tokens, log_probs, sampled, drawn, state)

    def _forget_graphs_of_other_weights(self) -> None:
        weights = _fingerprint(self.model) if self._graphs or self._fused_draws else self._weights
        if weights != self._weights:
            self._eager_state, self._active, self._graphs = self._state, None, {}
            self._fused_draws = None
            self._weights = weights
            self._fused = None if self._fused is None else FusedSteps(self.model)

    @property
    def _state(self) -> Generation:
        return self._eager_state if self._active is None else self._active.state

    def _draw(self, n_tokens: int) -> Draws:
        numbers = self._numbers(n_tokens)
        fused = self._draws_in_kernel()
        if fused is None:
            with evaluation_mode(self.model):
                return self._draw_by_steps(numbers)
        if fused is not self._active:
            fused.load(self._state)
        self._active = fused
        return fused(numbers)

    def _draw_by_steps(self, numbers: Tensor) -> Draws:
        n_tokens = numbers.shape[1]
        out = Draws.empty(*numbers.shape, device=numbers.device)
        at = 0
        while at < n_tokens:
            width = self._stretch(n_tokens - at)
            made = self._run(numbers[:, at : at + width])
            for whole, part in zip(out, made, strict=True):
                whole[:, at : at + width] = part
            at += width
        return out

    def _numbers(self, n_tokens: int) -> Tensor:
        """The random numbers of the next tokens (batch, tokens); a GPU makes many ahead as fast."""
        if self._ahead.shape[1] < n_tokens:
            start = self._state
            count = max(n_tokens, _NUMBERS // len(start.rows)) if self._ahead.is_cuda else n_tokens
            positions = start.positions[:, None] + torch.arange(count, device=start.positions.device)
            self._ahead = uniforms(self.sampling.seed, start.rows, positions)
        numbers, self._ahead = self._ahead[:, :n_tokens], self._ahead[:, n_tokens:]
        return numbers

    def _draws_in_kernel(self) -> FusedDraws | None:
        """What takes steps and draws in one kernel, if anything does."""
        cuts = self.sampling.cuts and self.sampling.temperature > 0
        if self._fused is None or cuts or torch.is_autocast_enabled("cuda"):
            return None
        if self._fused_draws is None:
            self._fused_draws = FusedDraws(self.model, self._state, self.sampling.temperature, self.stop)
        return self._fused_draws if self._fused_draws.fits else None

    def _stretch(self, left: int) -> int:
        """How many of the steps that are left to take at once."""
        if not self._may_graph:
            return left
        if self._since_border > 0 or left < self._period:
            return min(left, self._period - self._since_border)
        return self._long if left >= self._long else self._period

    def _run(self, numbers: Tensor) -> Draws:
        """Take some steps; whole periods from border to border go into a graph."""
        n_steps = numbers.shape[1]
        whole_periods = self._may_graph and n_steps % self._period == 0
        if whole_periods and self._steady:
            return self._replay(numbers)
        before = self._state
        draws, self._eager_state = self._step_by_step(before, numbers)
        self._active = None
        self._since_border = (self._since_border + n_steps) % self._period
        if whole_periods:
            self._steady = describe_state(before) == describe_state(self._eager_state)
        return draws

    def _step_by_step(self, state: Generation, numbers: Tensor) -> tuple[Draws, Generation]:
        """Take steps without a graph, by the same kernels: which steps a graph takes must not be seen."""
        if self._fused is None:
            return self._decode(state, numbers, None)
        with updating_states_in_place():
            return self._decode(map_state(contiguous_copy, state), numbers, FusedSteps(self.model))

    def _replay(self, numbers: Tensor) -> Draws:
        n_steps = numbers.shape[1]
        if n_steps not in self._graphs:
            decode = partial(self._decode, fused=self._fused)
            self._graphs[n_steps] = GraphedSteps(decode, self._state, in_place=True)
        steps = self._graphs[n_steps]
        if steps is not self._active:
            steps.load(self._state)
        self._active = steps
        return steps(numbers)

    def _decode(
        self, state: Generation, numbers: Tensor, fused: FusedSteps | None
    ) -> tuple[Draws, Generation]:
        """Take as many steps as there are random numbers for each row."""
        model_state, tokens, rows, positions, done = state
        made = Draws.empty(*reversed(numbers.shape), device=numbers.device)  # a step's are contiguous
        for number, *step in zip(numbers.unbind(dim=1), *made, strict=True):
            taken = None if fused is None else fused.step(tokens, model_state)
            if taken is None:
                logits, model_state = self.model(tokens[:, None], state=model_state, return_state=True)
                taken = logits[:, -1], model_state
            logits, model_state = taken
            tokens = draw(logits, number, self.sampling, out=Draws(*step)).tokens
            if self.stop.tokens:
                tokens.masked_fill_(done, self.stop.pad)
                done = done | (tokens[:, None] == self._stop_tokens).any(dim=-1)
        draws = Draws(*(x.T for x in made))
        return draws, Generation(model_state, tokens, rows, positions + numbers.shape[1], done)

    def _before_stop(self, tokens: Tensor, done_before: Tensor) -> Tensor:
        """Which tokens are no padding (batch, length): a row's stop token is its last."""
        ends = (tokens[..., None] == self._stop_tokens).any(dim=-1)
        ended_earlier = ends.cumsum(dim=1) - ends.long() > 0
        return ~ended_earlier & ~done_before[:, None]


def _fingerprint(model: TokenModel) -> tuple[Any, ...]:
    """Where the weights are and how often they changed, which tensors made in inference mode do not count.

    It is taken at every block: naming the modules, as `torch.nn.Module.parameters` does, takes longer.
    """
    found: list[nn.Parameter] = []
    modules = [cast(nn.Module, model)]
    while modules:
        module = modules.pop()
        modules += [child for child in module._modules.values() if child is not None]
        found += [x for x in module._parameters.values() if x is not None]
    return tuple((x.data_ptr(), 0 if x.is_inference() else x._version) for x in found)
