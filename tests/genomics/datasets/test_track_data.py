from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from track_files import LENGTH, write_tracks

from genomics.alphabet import PAD, N, encode
from genomics.binned_tracks import TrackConfig
from genomics.datasets.tracks import BinnedTrackDataModule, BinnedWindowPlan
from genomics.fasta import read_fasta
from genomics.genome_regions import GenomeConfig
from seqmamba.errors import UserError

BIN = 8


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return write_tracks(tmp_path)


def module(options: dict[str, Any], tracks: list[TrackConfig] | None = None, **windows: Any) -> Any:
    data = BinnedTrackDataModule(
        GenomeConfig(**options["genome"]),
        tracks or [TrackConfig(**each) for each in options["tracks"]],
        BinnedWindowPlan(**(options["windows"] | windows)),
        seed=3,
    )
    data.setup()
    return data


def truth(folder: Path) -> dict[str, np.ndarray]:
    """The value of every bin of the genome, counted base by base."""
    found = {}
    for record in read_fasta(folder / "g.fa"):
        letters = np.array(list(record.sequence.decode()))
        rows = np.full((LENGTH // BIN, 2), np.nan)
        for b in range(len(rows)):
            bases = range(b * BIN, (b + 1) * BIN)
            known = [i for i in bases if letters[i] != "N"]
            covered = [i for i in known if not (record.name == "chr1" and 600 <= i < 700)]
            if len(covered) * 2 >= BIN:
                rows[b, 0] = min(7.0, BIN * np.mean([letters[i] in "GC" for i in covered]))
            if len(known) * 2 >= BIN:
                rows[b, 1] = np.mean([letters[i] in "AT" for i in known])
        found[record.name] = rows
    return found


def test_the_split_is_cut_to_whole_bins_of_the_chromosome(options: dict[str, Any]) -> None:
    data = module(options)
    assert data.targets == ("gc", "weak")
    shown = {part: [str(region) for region in regions] for part, regions in data.regions.items()}
    assert shown == {
        "train": ["chr1:0-1200", "chr2:8-2392"],
        "validation": ["chr1:1208-1800"],
        "test": ["chr1:1808-2400"],
    }


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_targets_are_those_of_the_bases_beside_them(
    options: dict[str, Any], tmp_path: Path, part: str
) -> None:
    data, values = module(options), truth(tmp_path)
    bases = {record.name: encode(record.sequence) for record in read_fasta(tmp_path / "g.fa")}
    loaders = {
        "train": data.train_dataloader,
        "validation": data.val_dataloader,
        "test": data.test_dataloader,
    }
    masked = 0
    for batch in loaders[part]():
        assert batch["tokens"].dtype == torch.int64
        assert batch["targets"].dtype == torch.float32
        lengths = batch.get("lengths", torch.full((len(batch["tokens"]),), 64)).tolist()
        rows = zip(batch["tokens"].numpy(), batch["targets"].numpy(), batch["place"].tolist(), strict=True)
        for (tokens, targets, (which, first, last, start)), length in zip(rows, lengths, strict=True):
            region = data.regions[part][which]
            begin, bins = region.start + start * BIN, length // BIN
            assert begin % BIN == 0
            assert region.start <= begin
            assert begin + length <= region.end
            assert (first, last) == (start, start + bins)
            np.testing.assert_array_equal(tokens[:length], bases[region.chrom][begin : begin + length])
            assert (tokens[length:] == PAD).all()
            here = values[region.chrom][begin // BIN : begin // BIN + bins]
            np.testing.assert_allclose(targets[:bins], here, rtol=1e-6)
            assert np.isnan(targets[bins:]).all()
            masked += int(np.isnan(here).sum())
    assert masked > 0 or part != "train"  # the gap of the track and the N were met


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize("context", [64, 240, 4096])
def test_every_bin_is_judged_once(options: dict[str, Any], context: int, overlap: float) -> None:
    data = module(options, context=context, overlap=overlap)
    seen = np.zeros(592 // BIN, dtype=int)
    for batch in data.test_dataloader():
        for targets, (which, first, last, start) in zip(
            batch["targets"].numpy(), batch["place"].tolist(), strict=True
        ):
            assert which == 0
            seen[first:last] += 1
            kept = np.isfinite(targets[:, 1])
            assert np.flatnonzero(kept).tolist() == list(range(first - start, last - start))
    assert (seen == 1).all()


def test_training_windows_depend_on_seed_and_number_alone(options: dict[str, Any]) -> None:
    def places(epoch: int) -> torch.Tensor:
        loader = module(options).train_dataloader()
        assert len(loader) == 16
        loader.batch_sampler.set_epoch(epoch)
        return torch.cat([batch["place"] for batch in loader])

    assert places(0).shape == (64, 4)
    assert torch.equal(places(1), places(1))
    assert not torch.equal(places(0), places(1))


def test_missing_values_as_zeros_and_a_stricter_share(options: dict[str, Any], tmp_path: Path) -> None:
    track = TrackConfig(str(tmp_path / "gc.bw"), missing="zero")
    data = module(options, [track], known=1.0)
    tokens, values = data._reader.read("chr1", 592, 1104)
    assert (values[1:13, 0] == 0).all()  # 600-696
    known = (tokens != N).reshape(-1, BIN).all(1)
    assert np.isfinite(values[:, 0]).tolist() == known.tolist()
    masked = module(options, [TrackConfig(str(tmp_path / "gc.bw"))], known=1.0)
    assert np.isnan(masked._reader.read("chr1", 600, 704)[1]).sum() == 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tracks": [{"file": "a.bw"}, {"file": "x/a.bw"}]}, "tracks: expected different names"),
        (
            {"windows": {"context": 100, "bin_size": 8}},
            "expected a multiple of the bin size",
        ),
        ({"windows": {"known": 0}}, "windows.known: expected a number above 0"),
        ({"genome": {"validation": ["fold9"]}}, "validation: there is no 'fold9'"),
        ({"windows": {"bin_size": 1024, "context": 1024}}, "nothing is for validation"),
    ],
)
def test_what_is_refused(options: dict[str, Any], change: dict[str, Any], message: str) -> None:
    tracks = change.pop("tracks", options["tracks"])
    merged = {key: options[key] | change.get(key, {}) for key in ("genome", "windows")} | {"tracks": tracks}
    with pytest.raises(UserError, match=message):
        module(merged)


def test_options_of_a_track() -> None:
    for name, value in (("missing", "drop"), ("scale", 0), ("clip", -1.0)):
        with pytest.raises(UserError, match=f"tracks.{name}: expected"):
            TrackConfig("x.bw", **{name: value})


def test_a_track_without_values_where_it_matters(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "x.bedGraph").write_text("chr1\t1810\t1900\t1\n")
    data = module(options, [TrackConfig(str(tmp_path / "x.bedGraph"))])
    with pytest.raises(UserError, match="1000 training windows in a row had no value"):
        next(iter(data.train_dataloader()))
