"""How fast a language model generates, one token after the other, beside other packages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.benchmarks.generation_peers import PROMPT, Generator, MambaSSMGraph, TransformersSteps
from seqmamba.benchmarks.peers import PeerUnavailable, is_out_of_memory
from seqmamba.benchmarks.timing import Clock, Spread, size_of
from seqmamba.errors import UserError
from seqmamba.inference import Decoder, SamplingConfig, begin, step_period

GRAPH, STEPS = "graph", "steps"
GREEDY = SamplingConfig(temperature=0.0)
_PROMPT, _CHECKED = 16, 48  # tokens of the check
_STEPS = 64  # of one sample, at least
_FEWEST, _MOST = 3, 50
Start = Callable[[LanguageModel, Tensor, int], Generator]
"""Takes the model, a prompt (1, length) and the sequences to continue it by."""
PEERS: dict[str, Start] = {"mamba-ssm": MambaSSMGraph, "transformers": TransformersSteps}
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


@dataclass(frozen=True)
class GenerationSettings:
    """What to time.

    Attributes:
        backbone: The stack; the vocabulary below makes a language model of it.
        vocab_size: Tokens.
        device: Where it runs.
        dtype: Of the parameters.
        batches: Sequences side by side.
        positions: Tokens taken in before the clock starts.
        seconds: For the repeats of each row.
        seed: Of weights and prompt.
    """

    backbone: BackboneConfig | MultiScaleConfig
    vocab_size: int
    device: torch.device
    dtype: torch.dtype
    batches: tuple[int, ...]
    positions: tuple[int, ...]
    seconds: float
    seed: int = 0

    def build(self) -> LanguageModel:
        """The model, the same each time."""
        torch.manual_seed(self.seed)
        model = LanguageModel(LanguageModelConfig(self.backbone, self.vocab_size))
        return model.to(self.device, self.dtype).eval()

    def prompt(self, length: int) -> Tensor:
        """Random tokens (1, length)."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randint(self.vocab_size, (1, length), generator=generator)


def start_decoder(model: LanguageModel, prompt: Tensor, batch: int, *, graph: bool) -> Decoder:
    """Ours, with or without a CUDA graph."""
    return Decoder(model, begin(model, prompt, batch_size=batch), GREEDY, graph=graph)


def candidates(settings: GenerationSettings) -> dict[str, Start]:
    """Return what is timed by name, the peers first."""
    starts = dict(PEERS)
    if settings.device.type == "cuda":
        starts[GRAPH] = partial(start_decoder, graph=True)
    return {**starts, STEPS: partial(start_decoder, graph=False)}


def measure(settings: GenerationSettings, names: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Check and time every candidate at every batch size and position.

    Args:
        settings: What to time.
        names: Of the candidates; all by default.

    Yields:
        One row of JSON values for each. ``status`` is ok, FAIL (wrong probabilities of the tokens), OOM,
        absent or error; ``ratio`` how many times faster than the fastest peer at that batch size.
    """
    model, chosen = settings.build(), candidates(settings)
    unknown = set(names or ()) - set(chosen)
    if unknown:
        raise UserError(
            f"bench generate: --impls takes {', '.join(chosen)}, got {', '.join(sorted(unknown))}"
        )
    peer_speed: dict[int, float] = {}
    for name in (
        x for x in chosen if names is None or x in names
    ):  # the peers first: ratios need their times
        positions = (PROMPT,) if name in PEERS else settings.positions
        for batch, position in product(settings.batches, positions):
            row: dict[str, Any] = {"name": name, "batch": batch, "position": position}
            row |= _attempt(settings, model, name, batch, position)
            if row["status"] == "ok":
                speed = row["tokens_per_second"]
                if name in PEERS:
                    peer_speed[batch] = max(speed, peer_speed.get(batch, 0.0))
                row["ratio"] = speed / peer_speed[batch] if batch in peer_speed else None
            yield row


def _attempt(
    settings: GenerationSettings, model: LanguageModel, name: str, batch: int, position: int
) -> dict[str, Any]:
    """Measure, or say what came in between: one candidate's failure must not hide the others' times."""
    try:
        return _measure(settings, model, candidates(settings)[name], batch, position)
    except PeerUnavailable as failure:
        return {"status": "absent", "detail": str(failure)}
    except UserError as failure:  # a graph cannot hold every model
        return {"status": "absent" if name == GRAPH else "error", "detail": failure.message}
    except Exception as failure:
        status = "OOM" if is_out_of_memory(failure) else "error"
        return {"status": status, "detail": str(failure).splitlines()[0]}


def _measure(
    settings: GenerationSettings, model: LanguageModel, start: Start, batch: int, position: int
) -> dict[str, Any]:
    error = _error(settings, model, start)
    limit = _TOLERANCE[settings.dtype]
    if not error <= limit:
        return {"status": "FAIL", "error": error, "detail": f"log-probabilities differ by more than {limit}"}
    cuda = settings.device.type == "cuda"
    generator = start(model, settings.prompt(position), batch)
    if cuda:
        torch.cuda.reset_peak_memory_stats(settings.device)
    spread = _time(settings, generator, step_period(model))
    microseconds = spread.median
    state = begin(model, batch_size=1).model
    return {
        "status": "ok",
        "error": error,
        "microseconds_per_step": {"median": microseconds, "best": spread.best, "worst": spread.worst},
        "tokens_per_second": 1e6 * batch / microseconds,
        "state_bytes": size_of([x for x in tree_leaves(state) if isinstance(x, Tensor)]),
        "weight_bytes": size_of(list(model.parameters())),
        "peak_bytes": torch.cuda.max_memory_allocated(settings.device) if cuda else None,
    }


def _time(settings: GenerationSettings, generator: Generator, period: int) -> Spread:
    """Microseconds a step, of repeated stretches of whole periods."""
    clock = Clock(settings.device)
    steps = period * -(-_STEPS // period)
    generator.advance(steps)  # compiles, and captures the graph
    clock.wait()
    samples: list[float] = []
    begun = time.perf_counter()
    while len(samples) < _FEWEST or (len(samples) < _MOST and time.perf_counter() - begun < settings.seconds):
        clock.wait()
        start = time.perf_counter()
        generator.advance(steps)
        clock.wait()
        samples.append(1e6 * (time.perf_counter() - start) / steps)
    return Spread(tuple(samples))


@torch.no_grad()
def _error(settings: GenerationSettings, model: LanguageModel, start: Start) -> float:
    """How far the log-probabilities of generated tokens are from those of one pass over them in float64."""
    prompt = settings.prompt(_PROMPT)
    block = start(model, prompt, 2).advance(_CHECKED)
    exact = LanguageModel(model.config).to(settings.device, torch.float64).eval()
    exact.load_state_dict(model.state_dict())
    tokens = torch.cat([prompt.expand(2, -1).to(settings.device), block.tokens], dim=1)
    log_probs = exact(tokens)[:, _PROMPT - 1 : -1].log_softmax(dim=-1)
    expected = log_probs.gather(-1, block.tokens[..., None])[..., 0]
    return float((block.log_probs - expected).abs().max())
