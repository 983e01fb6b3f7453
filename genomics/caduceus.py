"""Published Caduceus and PlantCaduceus checkpoints (Schiff et al. 2024, arXiv:2403.03234) as a `MaskedModel`.

Parameter-shared checkpoints (PS, ``rcps``) trained with ``fused_add_norm``, as all on the hub are, compute
something else than the paper says. The channels in a block are two halves, u of one strand and v = rc(w) of
the other strand w, where rc reverses positions and channels. F is the block's branch: norm, then mixer. The
fused code takes the second half for the first one and so swaps them in every block:

    not fused   u' = u + F(u)       v' = v + rc F(rc v)
    fused       u' = v + F(v)       v' = u + rc F(rc u)

So a strand passes through F and through rc F rc in turns. The latter is F with other weights: the channels of
its norm, the columns of its input projection and the rows of its output projection in reverse order, and the
weights of its two scan directions exchanged. `import_model` turns every other block into that, counted from
the last, so that the last norm and the head stay as published. An odd number of blocks leaves the halves in
each other's place; the embedding makes up for that, and is then no longer tied to the head. Nothing is
flipped at run time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.vocabulary import Vocabulary, recognise
from seqmamba.backbones import BackboneConfig
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.weights import load_weights
from seqmamba.errors import UserError

_OWN = "language_model."
_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.(.+)")
_EMBEDDING, _HEAD = "embedding.weight", "lm_head.weight"
_DIRECTIONS = ("mamba_fwd", "mamba_rev")
_CHANNEL_AXIS = {  # of a block's parameters, where they meet the residual stream
    "norm.weight": 0,
    "norm.bias": 0,
    "mixer.in_proj.weight": 1,
    "mixer.out_proj.weight": 0,
    "mixer.out_proj.bias": 0,
}
_START_AND_SPEED = ("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path")


def import_model(config: dict[str, Any], weights: dict[str, Tensor], where: str) -> MaskedModel:
    """Build the model of a checkpoint with ``model_type`` ``caduceus``, with a head or without.

    Args:
        config: Content of config.json.
        weights: Tensors by published name, of any floating dtype.
        where: config.json's path, for messages.

    Returns:
        The model with these weights, float32, in evaluation mode. One that was saved without a head that is
        tied to the embedding has it again.

    Raises:
        UserError: If an option is not supported, tied weights differ, or the weights do not fit.
    """
    fields = Fields(config, where)
    equivariant = fields.flag("rcps", False)
    layout = _Layout(
        equivariant=equivariant,
        swaps=equivariant and fields.flag("fused_add_norm", True),
        fused=fields.flag("fused_add_norm", True),
        n_layers=fields.whole("n_layer"),
        tied=equivariant or fields.flag("tie_word_embeddings", True),
        base="backbone." if any(name.startswith("backbone.") for name in weights) else "caduceus.backbone.",
    )
    published = _Tensors(weights, where)
    vocabulary = _vocabulary(fields, layout, published)
    model = MaskedModel(
        MaskedModelConfig(
            backbone=_backbone(fields),
            vocabulary=vocabulary,
            equivariant=equivariant,
            tie_embeddings=layout.tied and not layout.ends_swapped,
        )
    )
    own = {
        name: _convert(name.removeprefix(_OWN), parameter, layout, published, vocabulary)
        for name, parameter in model.state_dict().items()
    }
    published.refuse_unused()
    load_weights(model, own, where)
    return model.eval()


@dataclass(frozen=True)
class _Layout:
    """How the published tensors are named and what the published code does with them.

    Attributes:
        equivariant: Whether modules are wrapped for two strands.
        swaps: Whether the blocks swap the strands' halves.
        fused: Whether the norms are bare.
        n_layers: Blocks.
        tied: Whether the head's weight is the embedding's.
        base: Prefix of the stack.
    """

    equivariant: bool
    swaps: bool
    fused: bool
    n_layers: int
    tied: bool
    base: str

    @property
    def ends_swapped(self) -> bool:
        """Whether the halves come out in each other's place."""
        return self.swaps and self.n_layers % 2 == 1

    def turns(self, block: int) -> bool:
        """Whether our block stands for rc F rc of the published one."""
        return self.swaps and (self.n_layers - block) % 2 == 0

    def names(self, own: str) -> list[str]:
        """Return the published names of a parameter, all of which hold the same tensor."""
        embedding = f"{self.base}embeddings.word_embeddings{'.embedding' if self.equivariant else ''}.weight"
        head = f"lm_head{'.lm_head' if self.equivariant else ''}.weight"
        if own in (_EMBEDDING, _HEAD):
            return [embedding, head] if self.tied else [embedding if own == _EMBEDDING else head]
        norm = ".submodule" if self.equivariant and not self.fused else ""
        block = _BLOCK.fullmatch(own)
        if block is None:
            return [self.base + own.removeprefix("backbone.").replace("norm_f", f"norm_f{norm}")]
        prefix, name = f"{self.base}layers.{block[1]}.", block[2]
        kind, _, rest = name.partition(".")
        if kind == "norm":
            return [f"{prefix}norm{norm}.{rest}"]
        prefix += "mixer.submodule." if self.equivariant else "mixer."
        direction, _, inner = rest.partition(".")
        if direction not in _DIRECTIONS:  # a projection, which both directions share
            return [f"{prefix}{each}.{rest}" for each in _DIRECTIONS]
        if self.turns(int(block[1])):
            direction = _DIRECTIONS[1 - _DIRECTIONS.index(direction)]
        return [f"{prefix}{direction}.{inner}"]


class _Tensors:
    """The checkpoint's tensors; those that nobody asked for are an error."""

    def __init__(self, weights: dict[str, Tensor], where: str) -> None:
        self.weights = weights
        self.where = where
        self.unused = set(weights)

    def take(self, names: list[str], shape: torch.Size) -> Tensor:
        """Return a tensor that is stored under one or more of the names."""
        stored = [name for name in names if name in self.weights]
        if not stored:
            raise UserError(f"{self.where}: the weights lack {' or '.join(names)}")
        first, *others = stored
        tensor = self.weights[first]
        if tensor.shape != shape:
            raise UserError(
                f"{self.where}: {first}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}"
            )
        for name in others:
            copy = self.weights[name]
            if copy.dtype != tensor.dtype or not torch.equal(copy, tensor):
                raise UserError(
                    f"{self.where}: {first} and {name} are tied, but their weights differ",
                    hint="the checkpoint was trained or saved after the tie was lost",
                )
        self.unused -= set(stored)
        return tensor

    def refuse_unused(self) -> None:
        if self.unused:
            some = ", ".join(sorted(self.unused)[:3])
            raise UserError(f"{self.where}: the weights have unknown {some} ({len(self.unused)} in all)")


def _convert(own: str, like: Tensor, layout: _Layout, published: _Tensors, vocabulary: Vocabulary) -> Tensor:
    """Return the value of one of our parameters."""
    tensor = published.take(layout.names(own), like.shape)
    if own == _EMBEDDING and layout.ends_swapped:
        # What comes out as the first half went in as the second one: the complement, its channels reversed.
        return tensor[list(vocabulary.complement)].flip(1)
    block = _BLOCK.fullmatch(own)
    if block is None:
        return tensor
    if block[2] == "mixer.out_proj.bias":
        tensor = 2 * tensor  # each direction adds it
    if layout.turns(int(block[1])) and block[2] in _CHANNEL_AXIS:
        return tensor.flip(_CHANNEL_AXIS[block[2]])
    return tensor


def _backbone(fields: Fields) -> BackboneConfig:
    """Read the sizes of the stack."""
    for key in ("layer_cfg", "norm_cfg"):
        if key in fields.content:
            raise UserError(
                f"{fields.where}: {key}: the layout of PlantCAD2, with Mamba-2 layers, is not supported",
                hint="Caduceus and the first PlantCaduceus models are",
            )
    fields.only("bidirectional", True)
    fields.only("bidirectional_strategy", "add", None)
    fields.only("bidirectional_weight_tie", True)
    ssm = fields.nested("ssm_cfg")
    config = BackboneConfig(
        d_model=fields.whole("d_model"),
        n_layers=fields.whole("n_layer"),
        direction="bidirectional",
        d_state=ssm.whole("d_state", 16),
        d_conv=ssm.whole("d_conv", 4),
        expand=ssm.whole("expand", 2),
        dt_rank=None if ssm.get("dt_rank", "auto") == "auto" else ssm.whole("dt_rank"),
        bias=ssm.flag("bias", False),
        conv_bias=ssm.flag("conv_bias", True),
        norm="rms" if fields.flag("rms_norm", True) else "layer",
        norm_eps=fields.positive("norm_epsilon", 1e-5),
    )
    ssm.refuse_others(_START_AND_SPEED)
    return config


def _vocabulary(fields: Fields, layout: _Layout, published: _Tensors) -> Vocabulary:
    """Read the complements from config.json; the copies among the tensors must be the same."""
    multiple = fields.whole("pad_vocab_size_multiple", 8)
    rows = -(-fields.whole("vocab_size") // multiple) * multiple
    content = fields.get("complement_map", None)
    if content is None and layout.equivariant:
        raise fields.refuse("complement_map", "the complement of every token id", content)
    complement = dict(enumerate(range(rows)))
    try:
        complement |= {int(token): other for token, other in (content or {}).items()}
    except (AttributeError, ValueError) as error:
        raise fields.refuse("complement_map", "an object of token ids", content) from error
    if len(complement) != rows:
        raise fields.refuse("complement_map", f"ids below {rows}, the padded vocabulary", content)
    try:
        vocabulary = recognise(tuple(complement.values()))
    except UserError as error:
        raise fields.refuse("complement_map", "ids in pairs", content) from error
    for name in (f"{layout.base}embeddings.word_embeddings.complement_map", "lm_head.complement_map"):
        if name in published.unused and layout.equivariant:
            stored = published.take([name], torch.Size([rows]))
            if stored.tolist() != list(vocabulary.complement):
                raise fields.refuse("complement_map", f"what the weights hold as {name}", content)
    return vocabulary
