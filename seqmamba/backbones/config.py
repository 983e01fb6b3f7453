"""The options of a backbone."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from seqmamba.nn.config import MixerConfig, is_number, is_whole, require
from seqmamba.nn.mixers import MIXERS


@dataclass(frozen=True)
class BackboneConfig(MixerConfig):
    """A stack of residual blocks. Every value can be written to and read from JSON.

    Args:
        d_model: Channels of the residual stream.
        n_layers: Blocks.
        mixer: One mixer's name, or a pattern of names repeated over the depth.
        direction: ``causal`` sees the past only; ``bidirectional`` sees both sides.
        combine: How the two directions meet: ``add``, ``concat`` or ``gate``.
        d_state: State size N of each channel.
        d_conv: Width of the depthwise convolution, in steps.
        expand: Inner channels as a multiple of ``d_model``.
        dt_rank: Rank of the projection that makes delta; ``None`` means ``ceil(d_model / 16)``.
        dt_min: Smallest step size delta at initialisation.
        dt_max: Largest step size delta at initialisation.
        scan_impl: Implementation of the scan and the convolution; ``auto`` picks the fastest that runs.
        dropout: Probability of dropping a channel of a block's branch.
        norm_eps: Epsilon of the norms.
        checkpoint_activations: Recompute each block in the backward pass: less memory, a third more time.

    Raises:
        UserError: If a field is out of range.
    """

    n_layers: int
    _: KW_ONLY
    mixer: tuple[str, ...] | str = "mamba"
    dropout: float = 0.0
    norm_eps: float = 1e-5
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = f"a name or a pattern of names out of {', '.join(MIXERS)}"
        require(isinstance(self.mixer, str | tuple | list), "mixer", expected, self.mixer)
        if not isinstance(self.mixer, str):  # JSON and YAML have lists, which are not hashable
            object.__setattr__(self, "mixer", tuple(self.mixer))
        known = all(isinstance(name, str) and name in MIXERS for name in self.pattern)
        require(known and len(self.pattern) > 0, "mixer", expected, self.mixer)
        require(is_whole(self.n_layers), "n_layers", "a whole number >= 1", self.n_layers)
        require(
            is_number(self.dropout) and 0 <= self.dropout < 1, "dropout", "a number in [0, 1)", self.dropout
        )
        require(is_number(self.norm_eps) and self.norm_eps > 0, "norm_eps", "a number > 0", self.norm_eps)
        require(
            isinstance(self.checkpoint_activations, bool),
            "checkpoint_activations",
            "true or false",
            self.checkpoint_activations,
        )

    @property
    def pattern(self) -> tuple[str, ...]:
        """The mixer names of one period of the depth."""
        return (self.mixer,) if isinstance(self.mixer, str) else self.mixer

    def mixer_of(self, layer: int) -> str:
        """Return the mixer's name in that layer.

        Args:
            layer: Index from 0.
        """
        return self.pattern[layer % len(self.pattern)]
