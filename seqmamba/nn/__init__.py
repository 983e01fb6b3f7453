"""Layers with parameters. Every sequence is (batch, length, channels)."""

from seqmamba.nn.bidirectional import BidirectionalMamba
from seqmamba.nn.block import Block
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mamba import Mamba
from seqmamba.nn.mixer import Mixer
from seqmamba.nn.mixers import MIXERS, build_mixer
from seqmamba.nn.norm import RMSNorm
from seqmamba.nn.packing import length_mask, pack, reset_from_lengths, unpack
from seqmamba.nn.pooling import PoolingMode, last_pool, max_pool, mean_pool, pool
from seqmamba.nn.selective import SelectiveSSM
from seqmamba.nn.state import MambaState, MixerState

__all__ = [
    "MIXERS",
    "BidirectionalMamba",
    "Block",
    "Mamba",
    "MambaState",
    "Mixer",
    "MixerConfig",
    "MixerState",
    "PoolingMode",
    "RMSNorm",
    "SelectiveSSM",
    "build_mixer",
    "last_pool",
    "length_mask",
    "max_pool",
    "mean_pool",
    "pack",
    "pool",
    "reset_from_lengths",
    "unpack",
]
