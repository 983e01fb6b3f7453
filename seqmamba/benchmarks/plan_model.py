"""Time and memory of a training step on several GPUs, from formulas with a few measured constants.

A step of one GPU goes over n tokens, its share of the windows. Each of the s strands of each token passes L
blocks of d channels, e inside (`expand` x d), with states of N values and r directions (1 causal, 2
bidirectional). F is the number of weights in matrix products, P that of all parameters. A step has 2 passes,
the forward and the backward, or 3 where activations are recomputed, a second forward.

- **computing**: n s L (scan(e N / 16, r) + conv(e r) + norm(d)) from the measured rates of the operators, and
  2 n s F operations a forward, twice that a backward. All of it times `slowdown`, for what lies between
  the operators, and `launch` seconds for each block and pass, in which the GPU waits for the host.
- **context parallel**, c GPUs for a window: n is a c-th of it. Each block and pass costs the host
  `exchange` seconds at least; where that takes longer than the GPU computes it is the time of the step. What
  is sent, 4 (c - 1) e N r s bytes for the states and as many for their decays (both float32) and 2 e r s
  bytes for each of the convolution's other taps, is divided by the bandwidth.
- **data parallel**, n GPUs in all: 2 (n - 1) / n 4 P bytes a step for the gradients' all-reduce by a ring,
  the least that there is (Patarasuk & Yuan 2009, J. Parallel Distrib. Comput. 69), none of it hidden. With
  parameters shared out 3 (n - 1) / n 4 P bytes for each batch: gathered twice and the gradients scattered
  (Rajbhandari et al. 2020, arXiv:1910.02054, section 7). The slowest GPU sets the pace: times 1 + `waiting`.
- **memory**: 16 P bytes for weights, gradients and two moments in float32, shared out or not (then also the
  whole weights of a block); of each token L s 2 e (2 + `kept` r) bytes of bfloat16 inside of the blocks, or
  with recomputation 4 L s d for what enters them and the inside of one block; 4 s d `around` outside of them.

`seqmamba.benchmarks.plan_fit` finds the six constants in backquotes.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole

GIB = 2**30
_STATE = 16  # of the measured scans


@dataclass(frozen=True)
class Workload:
    """A model and what it reads.

    Args:
        backbone: The stack.
        length: Tokens of a window.
        strands: How often the stack reads each token: 2 for both strands of DNA.

    Raises:
        UserError: If nothing like it was measured.
    """

    backbone: BackboneConfig
    length: int
    strands: int = 1

    def __post_init__(self) -> None:
        require_whole("length", self.length)
        require_whole("strands", self.strands)
        if any(name != "mamba" for name in self.backbone.pattern):
            raise UserError(
                f"plan: rates are known of the mixer mamba only, got {' '.join(self.backbone.pattern)}"
            )

    @property
    def directions(self) -> int:
        """Directions that each block reads in."""
        return 2 if self.backbone.direction == "bidirectional" else 1

    @property
    def inner(self) -> int:
        """Channels inside the blocks."""
        return self.backbone.expand * self.backbone.d_model


@dataclass(frozen=True)
class Weights:
    """Sizes of a model.

    Attributes:
        parameters: All of them.
        products: Those that are factors of matrix products.
    """

    parameters: int
    products: int

    @classmethod
    def of(cls, config: BackboneConfig) -> Weights:
        """Count those of a stack, which is not filled with values."""
        import torch

        with torch.device("meta"):
            model = Backbone(config)
        linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
        return cls(
            sum(parameter.numel() for parameter in model.parameters()),
            sum(part.weight.numel() for part in linear),
        )


@dataclass(frozen=True)
class Rates:
    """Seconds that operators take for an element of one strand, forward and backward.

    Attributes:
        scan: Of one direction, with states of 16 values.
        both_scans: Of both directions in one kernel.
        conv: Of one direction.
        norm: With the residual's addition.
        operations: Of matrix products in a second, multiplications and additions apart.
    """

    scan: tuple[float, float]
    both_scans: tuple[float, float]
    conv: tuple[float, float]
    norm: tuple[float, float]
    operations: float

    def seconds(self, workload: Workload, weights: Weights, recompute: bool) -> float:
        """Return what the operators take for a token."""
        config, inner = workload.backbone, workload.inner
        scans = self.both_scans if workload.directions == 2 else self.scan
        forward, backward = (
            config.n_layers
            * (
                inner * config.d_state / _STATE * scans[phase]
                + inner * workload.directions * self.conv[phase]
                + config.d_model * self.norm[phase]
            )
            + (2 + 2 * phase) * weights.products / self.operations
            for phase in (0, 1)
        )
        return workload.strands * (forward * (2 if recompute else 1) + backward)


@dataclass(frozen=True)
class Layout:
    """How GPUs share the work.

    Args:
        gpus: All of them.
        context: Neighbours that share out each window.
        sharded: Whether parameters and moments are shared out among all.
        recompute: Whether activations are recomputed.
        windows: Windows at a time of each group of neighbours.
        batches: Such batches of a step of the optimiser.
    """

    gpus: int
    context: int = 1
    sharded: bool = False
    recompute: bool = False
    windows: int = 1
    batches: int = 1

    @property
    def groups(self) -> int:
        """Groups that read different windows."""
        return self.gpus // self.context


@dataclass(frozen=True)
class Links:
    """What connects the GPUs, for each GPU, in bytes a second.

    Args:
        node: GPUs of a node.
        within: Bandwidth within a node.
        between: Bandwidth between nodes.
    """

    node: int = 8
    within: float = 300e9
    between: float = 50e9

    def slowest(self, gpus: int) -> float:
        """Return the bandwidth of the narrowest link among neighbours."""
        return self.within if gpus <= self.node else self.between


@dataclass(frozen=True)
class Constants:
    """What was fitted to measurements; see the module."""

    slowdown: float
    launch: float
    exchange: float
    waiting: float
    kept: float
    around: float


@dataclass(frozen=True)
class Model:
    """Predicts what a workload takes.

    Args:
        rates: Of operators.
        constants: Fitted ones.
        links: Between the GPUs.
    """

    rates: Rates
    constants: Constants
    links: Links = Links()

    def seconds(self, workload: Workload, weights: Weights, layout: Layout) -> float:
        """Return what a step of the optimiser takes."""
        constants, config = self.constants, workload.backbone
        tokens = own_tokens(workload, layout)
        launches = config.n_layers * (3 if layout.recompute else 2)
        batch = constants.slowdown * tokens * self.rates.seconds(workload, weights, layout.recompute)
        batch += constants.launch * launches
        if layout.context > 1:
            batch = max(batch, constants.exchange * launches)
            sent = exchanged_bytes(workload, layout) * layout.windows
            batch += launches * sent / self.links.slowest(layout.context)
        if layout.groups > 1:
            batch *= 1 + constants.waiting
        ring = (layout.gpus - 1) / layout.gpus * 4 * weights.parameters / self.links.slowest(layout.gpus)
        shared = 3 * ring * layout.batches if layout.sharded else 2 * ring
        return layout.batches * batch + shared

    def bytes(self, workload: Workload, weights: Weights, layout: Layout) -> float:
        """Return the most memory that a GPU takes."""
        a_token = self.bytes_of_token(workload, layout.recompute)
        fixed = 16.0 * weights.parameters
        if layout.sharded:
            fixed = fixed / layout.gpus + 4 * weights.parameters / workload.backbone.n_layers
        return fixed + own_tokens(workload, layout) * a_token

    def bytes_of_token(self, workload: Workload, recompute: bool) -> float:
        """Return what is kept of a token until the backward has passed it."""
        fixed, inside, outside = kept_bytes(workload, recompute)
        return fixed + inside * self.constants.kept + outside * self.constants.around


def own_tokens(workload: Workload, layout: Layout) -> float:
    """Return the tokens that a GPU holds at a time."""
    return layout.windows * workload.length / layout.context


def exchanged_bytes(workload: Workload, layout: Layout) -> float:
    """Return what a GPU is sent for a window in a block and a pass by those that share it out."""
    config, directions = workload.backbone, workload.strands * workload.directions
    states = 2 * 4 * (layout.context - 1) * workload.inner * config.d_state
    return directions * (states + 2 * workload.inner * (config.d_conv - 1))


def kept_bytes(workload: Workload, recompute: bool) -> tuple[float, float, float]:
    """Return the bytes that are kept of a token: fixed ones, and what `kept` and `around` are times."""
    config, strands = workload.backbone, workload.strands
    inside = strands * 2 * workload.inner
    blocks = 1 if recompute else config.n_layers
    entering = 4 * config.n_layers * strands * config.d_model if recompute else 0
    return entering + 2 * blocks * inside, blocks * inside * workload.directions, 4 * strands * config.d_model
