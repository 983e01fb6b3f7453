"""A causal model of raw waveforms: it scores recordings, in bits per sample, and generates new ones."""

from __future__ import annotations

import copy
import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audio.codec import CODECS, Codec
from audio.wavenet import WaveNet, WaveNetConfig, WaveNetTokens
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.backbones.hub import HubModel
from seqmamba.errors import UserError
from seqmamba.nn.options import is_whole, require, require_choice, require_whole

Network = LanguageModel | WaveNet


def _default_network() -> MultiScaleConfig:
    """Linear outside, selective inside (Gu & Dao 2023, arXiv:2312.00752, appendix E.4.1)."""
    outer = BackboneConfig(64, 4, mixer="s4+mlp", norm="layer")
    return MultiScaleConfig(outer, inner_mixers=("s4+mlp", "mamba"))


@dataclass(frozen=True)
class WaveformModelConfig:
    """What a `WaveformModel` is made of.

    Args:
        network: The stack: U-shaped with a choice of mixer for each stage, of one width, or a WaveNet.
        rate: Samples a second of the recordings that it models.
        bits: Bits of a sample's code, 1 to 16.
        codec: ``mu_law`` spends its levels on quiet samples, ``linear`` has equal steps.
        classes: Names of the classes that a recording may be generated of; empty for a model without.
        max_length: Samples of the longest training segment, for who wants to know; None if unknown.

    Raises:
        UserError: If a field is out of range, or the network is bidirectional.
    """

    network: BackboneConfig | MultiScaleConfig | WaveNetConfig = field(default_factory=_default_network)
    _: KW_ONLY
    rate: int = 16_000
    bits: int = 8
    codec: Codec = "mu_law"
    classes: tuple[str, ...] = ()
    max_length: int | None = None

    def __post_init__(self) -> None:
        require_whole("rate", self.rate)
        require(is_whole(self.bits) and self.bits <= 16, "bits", "a whole number from 1 to 16", self.bits)
        require_choice("codec", self.codec, tuple(CODECS))
        object.__setattr__(self, "classes", tuple(self.classes))  # YAML and JSON have lists
        distinct = len(set(self.classes)) == len(self.classes)
        require(distinct, "classes", "distinct names", self.classes)
        if self.max_length is not None:
            require_whole("max_length", self.max_length)
        if self.network.direction != "causal":
            raise UserError(
                "network.direction: a model that generates sees the past only, expected causal, got "
                f"{self.network.direction}"
            )

    @property
    def vocab_size(self) -> int:
        """Codes of a sample."""
        return 2**self.bits

    @property
    def silence(self) -> int:
        """The code of silence, which stands before the first sample."""
        return 2 ** (self.bits - 1)


class WaveformModel(nn.Module, HubModel):
    """Predicts each sample's code from all before it, and from the recording's class if it knows classes.

    The class is a learned vector that is added to every sample's embedding, so it cannot be forgotten however
    long the recording. One more vector stands for no class.

    Args:
        config: What to build.
    """

    config_class = WaveformModelConfig

    def __init__(self, config: WaveformModelConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _build_network(config)
        n_conditions = len(config.classes) + 1 if config.classes else 0
        width = config.network.d_model
        self.conditions = nn.Embedding(n_conditions, width) if n_conditions else None
        if self.conditions is not None:
            nn.init.normal_(self.conditions.weight, std=width**-0.5)

    @property
    def backbone(self) -> nn.Module:
        """The stack between embedding and head."""
        return self.network.backbone

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        condition: Int[Tensor, " batch"] | None = None,
        state: Any = None,
        return_state: bool = False,
        last_only: bool = False,
    ) -> Float[Tensor, "batch _ vocabulary"] | tuple[Float[Tensor, "batch _ vocabulary"], Any]:
        """Score the code that follows each position.

        Args:
            tokens: Codes of samples, at least one; `WaveformModelConfig.silence` stands before the first.
            condition: Class numbers; the number of classes stands for none, as ``None`` does for all.
            state: State after the samples before; ``None`` starts a recording.
            return_state: Whether to return the state too.
            last_only: Whether to return the last position's logits only.

        Returns:
            Logits (batch, length or 1, 2^bits), and the new state if asked for.
        """
        if self.conditions is None:
            options: dict[str, Any] = {"state": state, "return_state": return_state, "last_only": last_only}
            return self.network(tokens, **options)
        if condition is None:
            condition = tokens.new_full((len(tokens),), len(self.config.classes))
        x = self.network.embedding(tokens) + self.conditions(condition)[:, None]
        output = self.network.backbone(x, state=state, return_state=return_state)
        features, new_state = output if return_state else (output, None)
        y = self.network.logits(features[:, -1:] if last_only else features)
        return (y, new_state) if return_state else y

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Return the state before the first sample."""
        return self.network.init_state(batch_size, device)

    def encode(self, waveform: Float[Tensor, "batch length 1"]) -> Int[Tensor, "batch length"]:
        """Turn samples in [-1, 1] into codes.

        Raises:
            UserError: If there is more than one channel.
        """
        if waveform.shape[-1] != 1:
            raise UserError(f"waveform: expected one channel, got {waveform.shape[-1]}")
        return CODECS[self.config.codec][0](waveform[..., 0], self.config.bits)

    def decode(self, codes: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length 1"]:
        """Turn codes into float32 samples in [-1, 1]."""
        return CODECS[self.config.codec][1](codes, self.config.bits)[..., None]

    def surprise(
        self,
        codes: Int[Tensor, "batch length"],
        *,
        before: Int[Tensor, " batch"] | None = None,
        condition: Int[Tensor, " batch"] | None = None,
        state: Any = None,
        return_state: bool = False,
    ) -> Float[Tensor, "batch length"] | tuple[Float[Tensor, "batch length"], Any]:
        """Return -log2 p of every code given those before: its bits.

        Args:
            codes: The next samples of recordings.
            before: The code in front of each; by default silence.
            condition: See `forward`.
            state: State before the code in front; ``None`` starts the recordings.
            return_state: Whether to return the state with which to go on, ``before`` being the last code.

        Returns:
            Bits, float32, and the state if asked for.
        """
        if before is None:
            before = codes.new_full((len(codes),), self.config.silence)
        tokens = torch.cat((before[:, None], codes[:, :-1]), dim=1)
        output = self(tokens, condition=condition, state=state, return_state=return_state)
        logits, new_state = output if return_state else (output, None)
        nats = F.cross_entropy(logits.float().flatten(0, 1), codes.flatten(), reduction="none")
        bits = nats.view_as(codes) / math.log(2)
        return (bits, new_state) if return_state else bits

    def class_number(self, name: str | None) -> int:
        """Return the number of a class, and of no class the number of classes.

        Raises:
            UserError: If the model knows no such class.
        """
        if name is None:
            return len(self.config.classes)
        if name not in self.config.classes:
            known = ", ".join(self.config.classes) or "none: it was trained without classes"
            raise UserError(f"class: the model knows {known}; got {name!r}")
        return self.config.classes.index(name)

    def of_class(self, name: str | None) -> Network:
        """Return the model of one class: logits from codes alone, with the speed of a plain language model.

        The class's vector is added to the table of embeddings; all other weights are shared.

        Args:
            name: A class; None for no class.

        Raises:
            UserError: If the model knows no such class.
        """
        row = self.class_number(name)
        if self.conditions is None:
            return self.network
        network = copy.copy(self.network)
        network._modules = dict(network._modules)  # the copy's own; what they hold stays shared
        table = (self.network.embedding.weight + self.conditions.weight[row]).detach()
        network.embedding = nn.Embedding.from_pretrained(table)
        return network

    def example_input(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw random codes; see `HubModel.example_input`."""
        return torch.randint(self.config.vocab_size, (batch, length), generator=generator)


def _build_network(config: WaveformModelConfig) -> Network:
    if isinstance(config.network, WaveNetConfig):
        return WaveNet(WaveNetTokens(config.network, config.vocab_size))
    return LanguageModel(
        # a tied table could not have a class's vector added to it
        LanguageModelConfig(config.network, config.vocab_size, tie_embeddings=False, head_bias=True)
    )


def require_waveform_model(model: nn.Module) -> WaveformModel:
    """Return the model if it is one of waveforms.

    Raises:
        UserError: If it is of another kind.
    """
    if not isinstance(model, WaveformModel):
        raise UserError(
            f"model: expected a WaveformModel, which generates sound, got a {type(model).__name__}"
        )
    return model
