"""WaveNet: dilated convolutions over audio codes, the baseline that recurrent models are compared with.

van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", arXiv:1609.03499. The default sizes are
those that SaShiMi was compared with (Goel et al. 2022, arXiv:2202.09729, table 2): 4.2 million parameters, a
receptive field of 4,093 samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqmamba.nn.options import require_whole
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.state import register_state

_EMBEDDING_STD = 0.02


@dataclass(frozen=True)
class WaveNetConfig:
    """Sizes of a WaveNet.

    Args:
        n_cycles: How often the dilations begin again at 1.
        layers_per_cycle: Layers of a cycle; their dilations are 1, 2, 4, ...
        channels: Channels of the residual stream and of each gate.
        kernel_size: Taps of each convolution.
        skip_channels: Channels of the sum that all layers add to.
        head_channels: Channels between the two layers of the head.

    Raises:
        UserError: If a field is out of range.
    """

    n_cycles: int = 4
    layers_per_cycle: int = 10
    channels: int = 64
    kernel_size: int = 2
    skip_channels: int = 1024
    head_channels: int = 512

    def __post_init__(self) -> None:
        for name in ("n_cycles", "layers_per_cycle", "channels", "skip_channels", "head_channels"):
            require_whole(name, getattr(self, name))
        require_whole("kernel_size", self.kernel_size, 2)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of every layer."""
        return tuple(2**layer for _ in range(self.n_cycles) for layer in range(self.layers_per_cycle))

    @property
    def receptive_field(self) -> int:
        """Positions that an output depends on, its own included."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)

    @property
    def d_model(self) -> int:
        """Channels of the input."""
        return self.channels

    @property
    def direction(self) -> Literal["causal"]:
        """A WaveNet sees the past only."""
        return "causal"


@register_state
class WaveNetState(NamedTuple):
    """What the convolutions remember.

    Attributes:
        tails: For each layer its last ``(kernel_size - 1) * dilation`` inputs, oldest first.
    """

    tails: tuple[Float[Tensor, "batch width channels"], ...]


class DilatedStack(nn.Module):
    """Gated dilated convolutions with residual and skip connections (section 2.3 and 2.4).

    Whole, in chunks of any length with the state carried between them, and step by step the numbers are
    the same.

    Args:
        config: Sizes.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.gates = nn.ModuleList(
            nn.Conv1d(width, 2 * width, config.kernel_size, dilation=dilation)
            for dilation in config.dilations
        )
        # the last layer's residual would go nowhere
        self.residuals = nn.ModuleList(nn.Linear(width, width) for _ in config.dilations[1:])
        # the layers' skip connections side by side: one product makes them and their sum
        self.skip = nn.Linear(len(config.dilations) * width, config.skip_channels)

    def forward(
        self,
        x: Float[Tensor, "batch length channels"],
        *,
        state: WaveNetState | None = None,
        return_state: bool = False,
    ) -> (
        Float[Tensor, "batch length skip_channels"]
        | tuple[Float[Tensor, "batch length skip_channels"], WaveNetState]
    ):
        """Run the stack over the next positions.

        Args:
            x: Features of at least one position.
            state: State after the positions before; ``None`` starts a sequence.
            return_state: Whether to return the state too.

        Returns:
            The sum of the skip connections, float32 or wider, and the new state if asked for.
        """
        tails = self.init_state(len(x), x.device).tails if state is None else state.tails
        kept, gated = [], []
        for layer, (gate, tail) in enumerate(zip(self.gates, tails, strict=True)):
            joined = torch.cat((tail, at_least_float32(x)), dim=1)
            kept.append(joined[:, joined.shape[1] - tail.shape[1] :].clone())  # a view would keep the chunk
            signal, opening = gate(joined.mT).mT.chunk(2, dim=-1)
            gated.append(signal.tanh() * opening.sigmoid())
            if layer < len(self.residuals):
                x = x + self.residuals[layer](gated[-1])
        y = at_least_float32(self.skip(torch.cat(gated, dim=-1)))
        return (y, WaveNetState(tuple(kept))) if return_state else y

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> WaveNetState:
        """Return the state before the first position: zeros."""
        like = self.skip.weight
        taps = self.config.kernel_size - 1
        shapes = [(batch_size, taps * dilation, self.config.channels) for dilation in self.config.dilations]
        return WaveNetState(tuple(at_least_float32(like.new_zeros(shape, device=device)) for shape in shapes))


@dataclass(frozen=True)
class WaveNetTokens:
    """A WaveNet over a vocabulary.

    Args:
        backbone: Sizes.
        vocab_size: Audio codes.
    """

    backbone: WaveNetConfig
    vocab_size: int


class WaveNet(nn.Module):
    """Embedding, dilated stack and head: logits of the next code, called as a `seqmamba.LanguageModel` is.

    Args:
        config: What to build.
    """

    def __init__(self, config: WaveNetTokens) -> None:
        super().__init__()
        self.config = config
        sizes = config.backbone
        self.embedding = nn.Embedding(config.vocab_size, sizes.channels)
        nn.init.normal_(self.embedding.weight, std=_EMBEDDING_STD)
        self.backbone = DilatedStack(sizes)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(sizes.skip_channels, sizes.head_channels),
            nn.ReLU(),
            nn.Linear(sizes.head_channels, config.vocab_size),
        )

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        state: WaveNetState | None = None,
        return_state: bool = False,
        last_only: bool = False,
    ) -> Float[Tensor, "batch _ vocabulary"] | tuple[Float[Tensor, "batch _ vocabulary"], WaveNetState]:
        """Score every code at every position.

        Args:
            tokens: Codes below ``vocab_size``.
            state: State after the codes before; ``None`` starts a recording.
            return_state: Whether to return the state too.
            last_only: Whether to return the last position's logits only.
        """
        output: Any = self.backbone(self.embedding(tokens), state=state, return_state=return_state)
        new_state: Any
        features, new_state = output if return_state else (output, None)
        y = self.logits(features[:, -1:] if last_only else features)
        return (y, new_state) if return_state else y

    def logits(
        self, features: Float[Tensor, "batch length skip_channels"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Apply the head to the stack's output."""
        y: Tensor = self.head(features)
        return y

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> WaveNetState:
        """Return the state before the first code."""
        return self.backbone.init_state(batch_size, device)
