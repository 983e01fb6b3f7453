"""The options of a backbone."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mixers import MIXERS
from seqmamba.nn.norm import NORMS, NormKind
from seqmamba.nn.options import is_number, require, require_bool, require_choice, require_whole
from seqmamba.nn.shared_attention import SHARED_ATTENTION

_MLP = "+mlp"


@dataclass(frozen=True)
class BackboneConfig(MixerConfig):
    """A stack of residual blocks. Every value can be written to and read from JSON.

    Args:
        d_model: Channels of the residual stream.
        n_layers: Blocks.
        mixer: One mixer's name, or a pattern of names repeated over the depth. ``+mlp`` behind a name puts a
            gated MLP behind that mixer: ``("mamba", "mamba", "attention+mlp")``. All places of
            ``shared_attention`` share one attention with an MLP of its own; see `SharedTransformer`.
        direction: ``causal`` sees the past only; ``bidirectional`` sees both sides.
        combine: How the two directions meet: ``add``, ``concat`` or ``gate``.
        d_state: State size N of each channel of Mamba; ``mamba2`` and ``s4`` have their own.
        d_conv: Width of the depthwise convolution of Mamba and Mamba-2, in steps.
        expand: Inner channels as a multiple of ``d_model``.
        dt_rank: Rank of the projection that makes delta; ``None`` means ``ceil(d_model / 16)``.
        dt_min: Smallest step size delta at initialisation.
        dt_max: Largest step size delta at initialisation.
        scan_impl: Implementation of the scan and the convolution; ``auto`` picks the fastest that runs.
        complex_state: Whether Mamba's A, B, C and state are complex.
        bc_norm: RMS norm of Mamba's delta, B and C: ``none``, ``rms`` (without weights) or ``learned``.
        bc_norm_eps: Epsilon of these norms.
        dt_limit: Bounds of Mamba's delta after the softplus; ``None`` means none.
        bias: Whether the input and output projections have a bias.
        conv_bias: Whether the short convolution has a bias.
        mamba2: What only ``mamba2`` reads.
        s4: What only ``s4`` reads.
        attention: What only ``attention`` reads.
        grid: What only mixers over a grid read.
        dropout: Probability of dropping a channel of a block's branch.
        norm: ``rms`` or ``layer``.
        norm_eps: Epsilon of the norms.
        mlp_ratio: Channels inside the MLPs as a multiple of ``d_model``.
        checkpoint_activations: Recompute each block in the backward pass: less memory, a third more time.

    Raises:
        UserError: If a field is out of range.
    """

    n_layers: int
    _: KW_ONLY
    mixer: tuple[str, ...] | str = "mamba"
    dropout: float = 0.0
    norm: NormKind = "rms"
    norm_eps: float = 1e-5
    mlp_ratio: float = 2.0
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        names = f"{', '.join(MIXERS)}, each with or without {_MLP}, and {SHARED_ATTENTION}"
        expected = f"a name or a pattern of names out of {names}"
        require(isinstance(self.mixer, str | tuple | list), "mixer", expected, self.mixer)
        if not isinstance(self.mixer, str):  # JSON and YAML have lists, which are not hashable
            object.__setattr__(self, "mixer", tuple(self.mixer))
        require(len(self.pattern) > 0 and all(map(_is_known, self.pattern)), "mixer", expected, self.mixer)
        require_whole("n_layers", self.n_layers)
        require(
            is_number(self.dropout) and 0 <= self.dropout < 1, "dropout", "a number in [0, 1)", self.dropout
        )
        require_choice("norm", self.norm, tuple(NORMS))
        require(is_number(self.norm_eps) and self.norm_eps > 0, "norm_eps", "a number > 0", self.norm_eps)
        require(is_number(self.mlp_ratio) and self.mlp_ratio > 0, "mlp_ratio", "a number > 0", self.mlp_ratio)
        require_bool("checkpoint_activations", self.checkpoint_activations)

    @property
    def pattern(self) -> tuple[str, ...]:
        """The layers of one period of the depth: mixer names, ``+mlp`` behind those with an MLP."""
        return (self.mixer,) if isinstance(self.mixer, str) else self.mixer

    @property
    def d_mlp(self) -> int:
        """Channels inside the MLPs."""
        return round(self.mlp_ratio * self.d_model)

    def mixer_of(self, layer: int) -> str:
        """Return the mixer's name in that layer.

        Args:
            layer: Index from 0.
        """
        return self.pattern[layer % len(self.pattern)].removesuffix(_MLP)

    def has_mlp(self, layer: int) -> bool:
        """Tell whether that layer has an MLP behind its mixer.

        Args:
            layer: Index from 0.
        """
        return self.pattern[layer % len(self.pattern)].endswith(_MLP)


def _is_known(name: object) -> bool:
    """Tell whether a name may stand in a pattern; the shared attention has its MLP anyhow."""
    return isinstance(name, str) and (name == SHARED_ATTENTION or name.removesuffix(_MLP) in MIXERS)
