"""Applying a trained model to FASTA files of any size."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from genomics.alphabet import PAD, TokenArray, encode
from genomics.ensembles import EnsembleModel
from genomics.fasta import FastaRecord, read_fasta
from genomics.files import check_file
from genomics.models import SequenceModel
from genomics.results import Results
from seqmamba.errors import UserError
from seqmamba.file_identity import identify_all
from seqmamba.model_identity import fingerprint
from seqmamba.predictions import Predictions
from seqmamba.progress import Progress
from seqmamba.resumable import ResumableFile
from seqmamba.training.exported import load_any_model
from seqmamba.training.hardware import device_kind, find_device
from seqmamba.training.run_folder import RunFolder, exported_model

SHARD_BASES = 8_000_000  # sequences held at once, so that similar lengths can share a batch
SHARD_RECORDS = 20_000


Predictor = SequenceModel | EnsembleModel
"""What a run exports for prediction."""


def load_model(folder: str | Path, device: str = "auto") -> SequenceModel:
    """Load a run's exported model; only safetensors and JSON are read.

    Args:
        folder: A run folder, or the folder of an exported model.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: The folder holds no model, or the device is not there.
    """
    return SequenceModel.from_pretrained(exported_model(folder), map_location=str(find_device(device)))


def load_predictor(folder: str | Path, device: str = "auto") -> Predictor:
    """Load what a run exported for prediction: a model, or an ensemble of several.

    Args:
        folder: See `load_model`.
        device: See `load_model`.

    Raises:
        UserError: The folder holds neither, or the device is not there.
    """
    model = load_any_model(folder, device)
    if not isinstance(model, Predictor):
        raise UserError(
            f"{folder}: expected a model that classifies sequences, got a {type(model).__name__}",
            hint="seqmamba check says what it can do",
        )
    return model


def usual_length(run: str | Path, model: nn.Module) -> int | None:
    """Return the median length of a run's sequences, for a model that does not tell what it is used to.

    Args:
        run: The folder that the model came from.
        model: The model.

    Returns:
        Bases; None for models that tell, for others than sequence models, and without results of a run.
    """
    results = RunFolder(Path(run).expanduser()).results
    if not isinstance(model, SequenceModel) or model.config.max_length is not None or not results.is_file():
        return None
    median = Results.load(results).data.lengths.get("median")
    return None if median is None else int(median)


def predict_files(
    model: Predictor,
    fastas: Sequence[str | Path],
    output: str | Path,
    *,
    batch_bases: int = 65_536,
    resume: bool = False,
    overwrite: bool = False,
) -> int | None:
    """Write the predictions for all sequences of some FASTA files, in their order.

    The files are read as a stream: memory depends on the longest sequence, not on the size of the files. The
    table appears when it is complete; until then an interrupted run can go on with ``resume``.

    Args:
        model: A trained model.
        fastas: Plain or gzip FASTA files.
        output: The table to write.
        batch_bases: Bases in a batch, padding included; a longer sequence is a batch of its own.
        resume: See `ResumableFile`.
        overwrite: See `ResumableFile`.

    Returns:
        The number of sequences; None if the table was complete already.

    Raises:
        UserError: With file and line, for anything that is not DNA in FASTA format; or an earlier run that is
            in the way.
    """
    if batch_bases < 1:
        raise UserError(f"--batch-bases: expected a positive number, got {batch_bases}")
    paths = [check_file(path) for path in fastas]
    settings = {
        "input": identify_all(paths),
        "model": fingerprint(model),
        "device": device_kind(next(model.parameters()).device),
        "batch_bases": batch_bases,
    }
    with ResumableFile(Path(output), settings, bgzip=False, resume=resume, overwrite=overwrite) as file:
        if file.complete:
            return None
        if not file.size:
            header = StringIO()
            _empty(model).write_header(header)
            file.write(header.getvalue().encode(), 0, {})
        cropped = _predict_shards(model, paths, file, batch_bases)
        file.finish()
    if cropped:
        limit = model.config.max_length
        print(
            f"cropped {cropped:,} sequences to their central {limit:,} bases, as in training",
            file=sys.stderr,
        )
    return file.records


def _predict_shards(model: Predictor, paths: Sequence[Path], file: ResumableFile, batch_bases: int) -> int:
    """Write the rows that the table lacks; return how many sequences of all are longer than in training."""
    limit = model.config.max_length
    names = _SeenNames()
    progress = Progress(total=None)
    done, read, cropped = file.records, 0, 0  # shards are the same in every run, and so is what was done
    for path in paths:
        for shard in _shards(read_fasta(path, unique_names=False)):
            names.add(shard, path)
            lengths = [len(record.sequence) for record in shard]
            read += len(shard)
            cropped += sum(length > limit for length in lengths) if limit is not None else 0
            if read > done:
                file.write(_rows(model, shard, batch_bases), len(shard), {})
                progress.advance(sum(lengths))
    progress.finish()
    return cropped


def predict_tokens(
    model: Predictor, sequences: Sequence[TokenArray], batch_bases: int = 65_536
) -> Float[np.ndarray, "n k"]:
    """Predict sequences of any lengths; similar lengths share a batch.

    Args:
        model: A trained model.
        sequences: Token ids of each sequence. Those longer than ``model.config.max_length`` are cropped to
            their centre, as in training.
        batch_bases: Bases in a batch, padding included.

    Returns:
        Probabilities, or values for regression, in the order of the sequences.
    """
    limit = model.config.max_length
    cropped = [_centre(tokens, limit) for tokens in sequences]
    outputs = np.empty((len(cropped), len(model.config.classes)), dtype=np.float64)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in batches_by_length([len(tokens) for tokens in cropped], batch_bases):
            lengths = torch.tensor([len(cropped[i]) for i in batch])
            tokens = torch.full((len(batch), int(lengths.max())), PAD, dtype=torch.int64)
            for row, i in enumerate(batch):
                tokens[row, : lengths[row]] = torch.from_numpy(cropped[i].astype(np.int64))
            predicted = model.predict(tokens.to(device), lengths.to(device))
            outputs[batch] = predicted.double().cpu().numpy()
    model.train(was_training)
    return outputs


def _rows(model: Predictor, shard: list[FastaRecord], batch_bases: int) -> bytes:
    """Return the lines of some sequences."""
    outputs = predict_tokens(model, [encode(record.sequence) for record in shard], batch_bases)
    text = StringIO()
    _table(model, [record.name for record in shard], outputs).write_rows(text)
    return text.getvalue().encode()


def _table(model: Predictor, names: list[str], outputs: np.ndarray) -> Predictions:
    config = model.config
    if config.task == "classification":
        labels = np.full(len(names), -1, dtype=np.int64)
    else:
        labels = np.full((len(names), len(config.classes)), np.nan)
    return Predictions(config.task, config.classes, names, [""] * len(names), labels, outputs)


def _empty(model: Predictor) -> Predictions:
    return _table(model, [], np.empty((0, len(model.config.classes))))


def _shards(records: Iterable[FastaRecord]) -> Iterator[list[FastaRecord]]:
    shard: list[FastaRecord] = []
    bases = 0
    for record in records:
        shard.append(record)
        bases += len(record.sequence)
        if bases >= SHARD_BASES or len(shard) >= SHARD_RECORDS:
            yield shard
            shard, bases = [], 0
    if shard:
        yield shard


def batches_by_length(lengths: Sequence[int], batch_bases: int) -> Iterator[list[int]]:
    """Cut the sequences, longest first, into batches of at most ``batch_bases`` after padding."""
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    while order:
        count = max(1, batch_bases // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]


def _centre(tokens: TokenArray, limit: int | None) -> TokenArray:
    if limit is None or len(tokens) <= limit:
        return tokens
    start = (len(tokens) - limit) // 2
    return tokens[start : start + limit]


class _SeenNames:
    """Finds a name that comes twice at 8 bytes a name, a small part of what the sequences take on disk.

    Two names of one hash would be taken for one; among ten million names that happens once in 300,000 files.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, dtype=np.int64)

    def add(self, shard: list[FastaRecord], path: str | Path) -> None:
        new = np.array([hash(record.name) for record in shard], dtype=np.int64)
        first = np.zeros(len(new), dtype=bool)
        first[np.unique(new, return_index=True)[1]] = True
        repeated = np.flatnonzero(~first | np.isin(new, self._hashes))
        if len(repeated):
            record = shard[repeated[0]]
            raise UserError(
                f"{path}:{record.line}: the name {record.name!r} was already used",
                hint="every sequence needs its own name (the header up to the first space)",
            )
        # Two sorted runs: the stable sort merges them in one pass.
        self._hashes = np.sort(np.concatenate([self._hashes, np.sort(new)]), kind="stable")
