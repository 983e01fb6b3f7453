import pytest
import soundfile
import torch
from waveform_models import small_model

from audio.class_rows import ClassesSideBySide, ClassRows, full_batches
from audio.files import describe, read
from audio.generation import GenerationConfig, Generator
from audio.generation_run import Choice, GenerationJob, check_output, read_prefix, run_generation
from audio.noise_guard import GuardConfig
from seqmamba.errors import UserError
from seqmamba.inference import SamplingConfig

MODEL = small_model(classes=("a", "b"), scale=4.0)


def config(batch_size=3, guard=None):
    return GenerationConfig(
        0.05, sampling=SamplingConfig(seed=1), batch_size=batch_size, block_seconds=0.02, guard=guard
    )


def waveforms(label, rows):
    generator = Generator(MODEL, config(), label=label, rows=rows)
    return torch.cat([block.waveform for block in generator.blocks()], dim=1)


def table(folder):
    lines = (folder / "samples.tsv").read_text().splitlines()
    return [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]


def close(path, expected):
    return torch.allclose(read(path)[:, 0], expected, atol=1 / 2**15)


def test_a_single_recording_is_one_file(tmp_path):
    report = run_generation(MODEL, GenerationJob(config(), labels=("b",)), tmp_path / "out.wav")
    info = describe(tmp_path / "out.wav")
    assert (info.rate, info.channels, info.frames) == (1000, 1, 50)
    assert close(tmp_path / "out.wav", waveforms("b", 1)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    assert (report.made, report.speed.samples, report.restarts) == (1, 50, 0)
    assert "50 samples in" in report.describe()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("guard", [None, GuardConfig()])
def test_several_are_a_folder_of_each_class_whatever_the_batch(tmp_path, batch_size, guard):
    job = GenerationJob(config(batch_size, guard), labels=("a", "b"), count=4)
    run_generation(MODEL, job, tmp_path / "out")
    for label in ("a", "b"):
        for number, expected in enumerate(waveforms(label, 4), 1):
            assert close(tmp_path / "out" / label / f"{number:04}.wav", expected)
    rows = table(tmp_path / "out")
    assert [row["file"] for row in rows][:2] == ["a/0001.wav", "a/0002.wav"]
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"] * 2
    bits = MODEL.surprise(MODEL.encode(waveforms("a", 4)[..., None]), condition=torch.zeros(4).long())
    for row, expected in zip(rows, bits.mean(dim=1), strict=False):
        assert float(row["bits_per_sample"]) == pytest.approx(expected.item(), rel=1e-3)


def test_of_candidates_the_likely_ones_are_kept(tmp_path):
    job = GenerationJob(config(), count=3, choice=Choice(0.5, 0.25))
    report = run_generation(MODEL, job, tmp_path / "out")
    made = waveforms(None, report.made)
    assert report.made == 12
    bits = MODEL.surprise(MODEL.encode(made[..., None])).mean(dim=1)
    kept = [int(row["number"]) for row in table(tmp_path / "out")]
    ranks = bits.argsort().argsort()
    assert all(3 <= ranks[number] < 6 for number in kept)
    for sample in report.samples:
        assert close(sample.path, made[sample.number])


def test_a_prefix_is_read_at_the_models_rate_and_may_be_written_too(tmp_path):
    prefix_file = tmp_path / "prefix.wav"
    tone = torch.sin(torch.arange(400) / 20) * 0.5
    soundfile.write(prefix_file, torch.stack((tone, tone), dim=1).numpy(), 2000)
    assert len(read_prefix(MODEL, prefix_file)) == 200
    prefix = read_prefix(MODEL, prefix_file, 0.05)
    assert len(prefix) == 50
    assert (MODEL.decode(prefix[None])[0, :, 0] - tone[-100::2]).abs()[3:-3].max() < 0.05
    for write_prefix, frames in ((False, 50), (True, 100)):
        job = GenerationJob(config(), prefix=prefix, write_prefix=write_prefix)
        run_generation(MODEL, job, tmp_path / "out.wav")
        assert describe(tmp_path / "out.wav").frames == frames
    assert close(
        tmp_path / "out.wav",
        torch.cat((MODEL.decode(prefix[None])[0, :, 0], read(tmp_path / "out.wav")[50:, 0])),
    )
    for seconds in (0.0, 0.5):
        with pytest.raises(UserError, match="--prefix-seconds: expected more than 0"):
            read_prefix(MODEL, prefix_file, seconds)


def test_an_interruption_keeps_what_was_made(tmp_path, monkeypatch):
    blocks = Generator.blocks

    def interrupted(self):
        yield next(iter(blocks(self)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Generator, "blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_generation(MODEL, GenerationJob(config()), tmp_path / "out.wav")
    assert describe(tmp_path / "out.wav").frames == 20


def test_an_unknown_class_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match="the model knows a, b; got 'c'"):
        run_generation(MODEL, GenerationJob(config(), labels=("a", "c"), count=2), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unless_asked_for(tmp_path):
    run_generation(MODEL, GenerationJob(config(), count=2), tmp_path / "out")
    mine = tmp_path / "out" / "mine.txt"
    mine.write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        check_output(tmp_path / "out", single=False, overwrite=False)
    check_output(tmp_path / "out", single=False, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="expected a folder for several"):
        check_output(mine, single=False, overwrite=True)
    with pytest.raises(UserError, match="is a folder, expected the file to write"):
        check_output(tmp_path / "out", single=True, overwrite=True)
    with pytest.raises(UserError, match="exists already"):
        check_output(mine, single=True, overwrite=False)
    check_output(tmp_path / "new.wav", single=True, overwrite=False)


def test_a_table_that_names_files_elsewhere_removes_none_of_them(tmp_path):
    (tmp_path / "out").mkdir()
    other = tmp_path / "other.wav"
    other.write_text("keep")
    (tmp_path / "out" / "samples.tsv").write_text("file\n../other.wav\n")
    check_output(tmp_path / "out", single=False, overwrite=True)
    assert other.exists()


def test_classes_share_the_batches_that_none_of_them_fills():
    def dealt(each, size, labels="abc"):
        return [
            [(rows.label, rows.first_row, rows.rows) for rows in batch]
            for batch in full_batches(labels, each, size)
        ]

    assert dealt(1, 64) == [[("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]]
    assert dealt(2, 5) == [[("a", 0, 2), ("b", 0, 2)], [("c", 0, 2)]]
    assert dealt(4, 4) == [[("a", 0, 4)], [("b", 0, 4)], [("c", 0, 4)]]
    assert dealt(5, 4, "ab") == [[("a", 0, 4)], [("b", 0, 4)], [("a", 4, 1), ("b", 4, 1)]]
    assert ClassRows("a", 2, 4).numbers == [("a", 4), ("a", 5)]


def test_each_class_of_a_few_recordings_is_one_batch(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "audio.generation_run.Generator", lambda *a, **k: begun.append(k) or Generator(*a, **k)
    )
    job = GenerationJob(config(64), labels=("b", None, "a"), count=2)
    report = run_generation(MODEL, job, tmp_path / "out")
    assert len(begun) == 1
    assert [(sample.label, sample.number) for sample in report.samples] == [
        (label, number) for label in ("b", None, "a") for number in range(2)
    ]
    for label, folder in (("a", "a"), ("b", "b"), (None, ".")):
        for number, expected in enumerate(waveforms(label, 2), 1):
            assert close(tmp_path / "out" / folder / f"{number:04}.wav", expected)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_candidates_of_several_classes_are_chosen_each_among_its_own(tmp_path, batch_size):
    choice = Choice(0.5, 0.25)
    together = GenerationJob(config(batch_size), labels=("a", "b"), count=2, choice=choice)
    report = run_generation(MODEL, together, tmp_path / "both")
    assert report.made == 16
    for label in ("a", "b"):
        alone = GenerationJob(config(batch_size), labels=(label,), count=2, choice=choice)
        found = run_generation(MODEL, alone, tmp_path / label).samples
        expected = [(sample.label, sample.number) for sample in found]
        assert [(s.label, s.number) for s in report.samples if s.label == label] == expected


def test_a_class_that_is_named_twice_is_refused():
    with pytest.raises(UserError, match="labels: expected distinct classes"):
        GenerationJob(config(), labels=("a", "a"))


def test_the_state_of_no_class():
    model = ClassesSideBySide(MODEL)
    tokens = torch.tensor([[5, 7], [1, 2]])
    logits, state = model(tokens, state=model.init_state(2), return_state=True)
    assert state.classes.tolist() == [2, 2]
    torch.testing.assert_close(logits, MODEL(tokens))
    last = model(tokens, state=model.init_state(2), last_only=True)
    torch.testing.assert_close(last, logits[:, -1:])
