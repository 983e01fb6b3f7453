"""Layers with parameters. Every sequence is (batch, length, channels)."""

from seqmamba.nn.bidirectional import BidirectionalMamba
from seqmamba.nn.block import Block
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mamba import Mamba
from seqmamba.nn.mixer import Mixer
from seqmamba.nn.mixers import MIXERS, build_mixer
from seqmamba.nn.mlp import GatedMLP
from seqmamba.nn.norm import LayerNorm, RMSNorm
from seqmamba.nn.options import AttentionOptions, GridOptions, Mamba2Options, S4Options
from seqmamba.nn.packing import length_mask, pack, reset_from_lengths, unpack
from seqmamba.nn.pooling import PoolingMode, last_pool, max_pool, mean_pool, pool
from seqmamba.nn.selective import SelectiveSSM
from seqmamba.nn.state import MambaState, MixerState, map_state

__all__ = [
    "MIXERS",
    "AttentionOptions",
    "BidirectionalMamba",
    "Block",
    "GatedMLP",
    "GridOptions",
    "LayerNorm",
    "Mamba",
    "Mamba2Options",
    "MambaState",
    "Mixer",
    "MixerConfig",
    "MixerState",
    "PoolingMode",
    "RMSNorm",
    "S4Options",
    "SelectiveSSM",
    "build_mixer",
    "last_pool",
    "length_mask",
    "map_state",
    "max_pool",
    "mean_pool",
    "pack",
    "pool",
    "reset_from_lengths",
    "unpack",
]
