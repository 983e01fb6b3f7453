"""The mixers by name. A new mixer is one file with a `Mixer` in it and one line here."""

from __future__ import annotations

from collections.abc import Callable

from seqmamba.errors import UserError
from seqmamba.nn.attention import Attention
from seqmamba.nn.bidirectional import BidirectionalMamba
from seqmamba.nn.bidirectional_mamba2 import BidirectionalMamba2
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.cross_scan import CrossScan
from seqmamba.nn.mamba import Mamba
from seqmamba.nn.mamba2 import Mamba2
from seqmamba.nn.mixer import Mixer
from seqmamba.nn.recurrent import GRU, LSTM
from seqmamba.nn.s4 import S4
from seqmamba.nn.vision import VisionMamba

MIXERS: dict[str, dict[str, Callable[[MixerConfig], Mixer]]] = {
    "mamba": {"causal": Mamba, "bidirectional": BidirectionalMamba},
    "mamba2": {"causal": Mamba2, "bidirectional": BidirectionalMamba2},
    "attention": {"causal": Attention, "bidirectional": Attention},
    "lstm": {"causal": LSTM, "bidirectional": LSTM},
    "gru": {"causal": GRU, "bidirectional": GRU},
    "s4": {"causal": S4, "bidirectional": S4},
    "vision_mamba": {"bidirectional": VisionMamba},
    "cross_scan": {"bidirectional": CrossScan},
}


def build_mixer(name: str, config: MixerConfig) -> Mixer:
    """Build the mixer of that name for ``config.direction``.

    Args:
        name: A key of `MIXERS`.
        config: Sizes and options.

    Raises:
        UserError: If there is no such mixer, or it lacks that direction.
    """
    if name not in MIXERS:
        raise UserError(f"mixer: expected one of {', '.join(MIXERS)}, got {name!r}")
    directions = MIXERS[name]
    if config.direction not in directions:
        raise UserError(
            f"direction: mixer {name!r} offers {', '.join(directions)}, got {config.direction!r}",
        )
    return directions[config.direction](config)
