"""Stretches of the recordings of a batch, on the device where they are."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def samples_at(
    waveform: Float[Tensor, "batch length channels"],
    places: Int[Tensor, "batch count"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "batch count channels"]:
    """Read samples of each recording; silence outside of it.

    Args:
        waveform: Samples, padded on the right.
        places: Which samples.
        lengths: True lengths in samples.
    """
    inside = (places >= 0) & (places < lengths[:, None])
    index = places.clamp(0, waveform.shape[1] - 1)[..., None].expand(-1, -1, waveform.shape[2])
    return torch.gather(waveform, 1, index).masked_fill(~inside[..., None], 0)


def even_crops(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    size: int,
    count: int,
) -> Float[Tensor, "crops_batch size channels"]:
    """Cut evenly spaced stretches out of recordings, for testing.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        size: Samples of a stretch; a shorter recording is in the middle of silence.
        count: Stretches of each recording.

    Returns:
        All stretches of the first recording, then those of the second, and so on.
    """
    room = lengths - size
    share = (
        torch.linspace(0, 1, count, device=waveform.device)
        if count > 1
        else torch.full((1,), 0.5, device=waveform.device)
    )
    start = torch.where(room[:, None] > 0, room[:, None] * share, room[:, None] / 2).floor().long()
    if waveform.shape[1] < size:
        waveform = F.pad(waveform, (0, 0, 0, size - waveform.shape[1]))
    rows = waveform.repeat_interleave(count, dim=0)
    places = start.flatten()[:, None] + torch.arange(size, device=waveform.device)
    return samples_at(rows, places, lengths.repeat_interleave(count))


def random_crops(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    size: int | None,
    speed: Float[Tensor, "batch 1"],
    margin: Float[Tensor, "batch 1"],
) -> tuple[Float[Tensor, "batch new_length channels"], Int[Tensor, " batch"]]:
    """Cut a stretch out of each recording, at a random place, and play it at a speed.

    A place between two samples is read by linear interpolation.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        size: Samples of a stretch; None makes whole recordings of them, longer or shorter by their speed.
        speed: Of each; above one is faster, pitch and all.
        margin: Samples in front of a recording at which a stretch may begin, and behind it, at which it may
            end.

    Returns:
        The stretches, silence where they reach past a recording, and their lengths.
    """
    count, device = len(waveform), waveform.device
    speed = speed.double()  # a place late in a long recording needs more than the 24 bits of a float
    if size is None:
        new = (lengths / speed[:, 0]).floor().long().clamp(min=1)
        longest, taken = int(new.max()), lengths[:, None].double()
    else:
        new = torch.full((count,), size, device=device)
        longest, taken = size, speed * size
    room = lengths[:, None] - taken  # what does not fit goes to the margins
    low, high = room.clamp(max=0) - margin, room.clamp(min=0) + margin
    start = low + torch.rand(count, 1, device=device) * (high - low)
    places = start + speed * torch.arange(longest, device=device)
    below = places.floor()
    share = (places - below)[..., None].to(waveform.dtype)
    first = samples_at(waveform, below.long(), lengths)
    return torch.lerp(first, samples_at(waveform, below.long() + 1, lengths), share), new
