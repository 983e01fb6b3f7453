"""Layers with parameters. Every sequence is (batch, length, channels)."""

from seqmamba.nn.attention import Attention
from seqmamba.nn.bidirectional import BidirectionalMamba
from seqmamba.nn.bidirectional_mamba2 import BidirectionalMamba2
from seqmamba.nn.block import Block
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.cross_scan import CrossScan
from seqmamba.nn.mamba import Mamba
from seqmamba.nn.mamba2 import Mamba2
from seqmamba.nn.mixer import Mixer
from seqmamba.nn.mixers import MIXERS, build_mixer
from seqmamba.nn.mlp import GatedMLP
from seqmamba.nn.norm import LayerNorm, RMSNorm
from seqmamba.nn.options import AttentionOptions, GridOptions, Mamba2Options, S4Options
from seqmamba.nn.packing import length_mask, pack, reset_from_lengths, unpack
from seqmamba.nn.patches import PatchEmbedding, Patches
from seqmamba.nn.pooling import PoolingMode, last_pool, max_pool, mean_pool, pool
from seqmamba.nn.recurrent import GRU, LSTM
from seqmamba.nn.s4 import S4
from seqmamba.nn.selective import SelectiveSSM
from seqmamba.nn.shared_attention import SharedAttentionBlock, SharedTransformer
from seqmamba.nn.state import (
    AttentionState,
    GRUState,
    LSTMState,
    Mamba2State,
    MambaState,
    MixerState,
    S4State,
    map_state,
)
from seqmamba.nn.vision import VisionMamba

__all__ = [
    "GRU",
    "LSTM",
    "MIXERS",
    "S4",
    "Attention",
    "AttentionOptions",
    "AttentionState",
    "BidirectionalMamba",
    "BidirectionalMamba2",
    "Block",
    "CrossScan",
    "GRUState",
    "GatedMLP",
    "GridOptions",
    "LSTMState",
    "LayerNorm",
    "Mamba",
    "Mamba2",
    "Mamba2Options",
    "Mamba2State",
    "MambaState",
    "Mixer",
    "MixerConfig",
    "MixerState",
    "PatchEmbedding",
    "Patches",
    "PoolingMode",
    "RMSNorm",
    "S4Options",
    "S4State",
    "SelectiveSSM",
    "SharedAttentionBlock",
    "SharedTransformer",
    "VisionMamba",
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
