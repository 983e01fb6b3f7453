"""A small convolutional network: what two layers and a minute of training reach on a task.

DeepBind's design (Alipanahi et al. 2015) with a second layer: motif detectors, a max over positions, a linear
head. The head sees the stronger of the two strands and the given strand alone, so that it can use orientation
or ignore it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genomics.kmers import AMBIGUOUS
from seqmamba.linear import output_loss

CHANNELS = 64
MAX_LENGTH = 2000
"""Longer sequences are cut to their middle; two layers see 50 bases at a time, wherever they are."""

_PAD = AMBIGUOUS  # both are all-zero columns
_BATCH = 64
_POOL = 4
_PEAK_LR = 3e-3
_ORIENTED = 0.5  # share of training examples that show the given strand's features
_MAX_EPOCHS = 12
_EVALUATIONS = 12
_PATIENCE = 6
_BASES_PER_SECOND = 250_000  # training speed of one core; turns seconds into a number of steps


@dataclass(frozen=True)
class CodedSequences:
    """Sequences as rows of base codes, padded on the right.

    Args:
        codes: uint8 (n, longest), 0-3 for A, C, G, T and 4 for anything else.
        lengths: int64 (n,).
    """

    codes: Int[Tensor, "n longest"]
    lengths: Int[Tensor, " n"]

    @classmethod
    def from_flat(cls, codes: np.ndarray, offsets: np.ndarray) -> CodedSequences:
        """Lay out what `genomics.kmers.base_codes` returns, the middle 2,000 bases of long sequences."""
        full = np.diff(offsets)
        lengths = np.minimum(full, MAX_LENGTH)
        rows = np.full((len(lengths), max(int(lengths.max()), 1)), _PAD, dtype=np.uint8)
        starts = offsets[:-1] + (full - lengths) // 2
        for row, start, length in zip(rows, starts, lengths, strict=True):
            row[:length] = codes[start : start + length]
        return cls(torch.from_numpy(rows), torch.from_numpy(lengths))

    def take(self, index: Tensor) -> tuple[Int[Tensor, "batch length"], Int[Tensor, " batch"]]:
        """Return the codes and lengths of some sequences, padded to the longest of them."""
        lengths = self.lengths[index]
        return self.codes[index, : max(int(lengths.max()), 1)].long(), lengths


class BothStrandsCnn(nn.Module):
    """Two convolutions over each strand, masked so that padding has no effect.

    Args:
        outputs: Number of classes, labels or targets.
    """

    one_hot: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.motifs = nn.Conv1d(4, CHANNELS, 15, padding=7)
        self.motif_norm = nn.BatchNorm1d(CHANNELS)
        self.pairs = nn.Conv1d(CHANNELS, CHANNELS, 9, padding=4)
        self.pair_norm = nn.BatchNorm1d(CHANNELS)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * CHANNELS, outputs)
        self.register_buffer("one_hot", torch.eye(5)[:, :4], persistent=False)

    def forward(
        self, codes: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch outputs"]:
        """Return logits or predicted targets."""
        both = torch.cat([codes, reverse_complement_codes(codes, lengths)])
        given, other = self._detect(both, lengths.repeat(2)).chunk(2)
        features = torch.cat([torch.maximum(given, other), self._hide_some(given)], dim=1)
        return self.head(self.dropout(features))

    def _hide_some(self, given: Float[Tensor, "batch channels"]) -> Float[Tensor, "batch channels"]:
        # Half of the time the strands' maximum has to do alone: where orientation means nothing, the head
        # then learns not to lean on it (oct4_mafk: 0.987 to 0.991).
        if self.training:
            return given * (torch.rand(len(given), 1) < _ORIENTED)
        return given * _ORIENTED

    def _detect(self, codes: Tensor, lengths: Tensor) -> Float[Tensor, "batch channels"]:
        inside = torch.arange(codes.shape[1]) < lengths[:, None]
        hidden = F.relu(self.motif_norm(self.motifs(self.one_hot[codes].transpose(1, 2))))
        # After a ReLU zero is neutral to the maximum, so masked positions cannot win.
        hidden = F.max_pool1d(hidden * inside[:, None], _POOL, ceil_mode=True)
        inside = torch.arange(hidden.shape[-1]) * _POOL < lengths[:, None]
        hidden = F.relu(self.pair_norm(self.pairs(hidden)))
        return (hidden * inside[:, None]).amax(dim=-1)


def reverse_complement_codes(
    codes: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]
) -> Int[Tensor, "batch length"]:
    """Return the other strand of right-padded base codes, again padded on the right."""
    position = lengths[:, None] - 1 - torch.arange(codes.shape[1])
    reverse = codes.gather(1, position.clamp_min(0))
    known = (position >= 0) & (reverse != AMBIGUOUS)
    return torch.where(known, 3 - reverse, AMBIGUOUS)


def fit_cnn(
    sequences: CodedSequences,
    labels: Tensor,
    parts: tuple[Int[np.ndarray, " train"], Int[np.ndarray, " validation"]],
    task: str,
    outputs: int,
    *,
    seed: int,
    seconds: float,
) -> BothStrandsCnn:
    """Train on the training part and return the weights that did best on the validation part.

    Args:
        sequences: All sequences.
        labels: All labels, as for `seqmamba.linear.output_loss`.
        parts: Positions of the training and of the validation sequences.
        task: ``classification``, ``multilabel`` or ``regression``.
        outputs: Number of classes, labels or targets.
        seed: Seed of the weights, the order and the dropout.
        seconds: About how long to train on one core. It is turned into a number of steps beforehand, so
            that the result does not depend on the machine's load.
    """
    train, validation = (torch.from_numpy(part) for part in parts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BothStrandsCnn(outputs)
        steps = _steps(sequences.lengths[train], seconds)
        optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK_LR, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK_LR, total_steps=steps, pct_start=0.2)
        order = torch.empty(0, dtype=torch.long)
        best, best_loss, waited = copy.deepcopy(model.state_dict()), float("inf"), 0
        for step in range(1, steps + 1):
            # A batch of one would leave batch normalisation without a variance.
            if len(order) < 2:
                order = train[torch.randperm(len(train))]
            batch, order = order[:_BATCH], order[_BATCH:]
            model.train()
            loss = output_loss(model(*sequences.take(batch)), labels[batch], task)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % max(1, steps // _EVALUATIONS) == 0 or step == steps:
                validation_loss = float(
                    output_loss(predict_cnn(model, sequences, validation), labels[validation], task)
                )
                waited += 1
                if validation_loss < best_loss:
                    best, best_loss, waited = copy.deepcopy(model.state_dict()), validation_loss, 0
                if waited == _PATIENCE:
                    break
    model.load_state_dict(best)
    return model.eval()


def _steps(lengths: Tensor, seconds: float) -> int:
    epoch = -(-len(lengths) // _BATCH)
    affordable = seconds * _BASES_PER_SECOND / (_BATCH * max(float(lengths.double().mean()), 1.0))
    return max(_EVALUATIONS, min(_MAX_EPOCHS * epoch, int(affordable)))


@torch.no_grad()
def predict_cnn(
    model: BothStrandsCnn, sequences: CodedSequences, index: Tensor
) -> Float[Tensor, "m outputs"]:
    """Return logits or predicted targets of some sequences, in the order of ``index``."""
    was_training = model.training
    model.eval()
    # Alike lengths together waste the least padding.
    by_length = torch.argsort(sequences.lengths[index], stable=True)
    rows = [model(*sequences.take(batch)) for batch in index[by_length].split(4 * _BATCH)]
    outputs = torch.empty(len(index), model.head.out_features)
    outputs[by_length] = torch.cat(rows)
    model.train(was_training)
    return outputs
