import io

import numpy as np
import pytest
import soundfile
import torch
from streaming_models import RATE, small_classifier, sound
from waveform_models import small_model

from audio.events import EventConfig
from audio.hops import StreamingConfig
from audio.pcm_stream import PcmFormat, PcmStream
from audio.resampling import resample
from audio.timeline import Timeline, TimelineConfig, measure_deviation
from audio.timeline_run import TimelineJob, check_look_ahead, describe_job, run_timeline
from seqmamba.errors import UserError


def joined(model, waveform, rate=RATE, size=160_000, config=None):
    """Values, edges and events of a recording that comes in blocks."""
    timeline = Timeline(model, rate, waveform.shape[1], config or TimelineConfig())
    moments = [*(timeline.push(block) for block in waveform.split(size)), timeline.finish()]
    edges = np.concatenate([moment.edges[: len(moment.values)] for moment in moments])
    events = [event for moment in moments for event in moment.events]
    return np.concatenate([moment.values for moment in moments]), edges, events, moments[-1].edges[-1]


EVENTS = TimelineConfig(
    streaming=StreamingConfig(hop=0.04, window=0.2),
    events=EventConfig(enter=0.4, leave=0.35, median=3, min_gap=0.1),
)


@pytest.mark.parametrize("size", [1000, 4096, 160_000])
@pytest.mark.parametrize("rate", [RATE, 1764, 441])
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_blocks_make_no_difference_at_any_sampling_rate(size, rate, direction):
    model, x = small_classifier("u-shaped", direction=direction), sound(5 * rate + 17, channels=2)
    values, edges, events, end = joined(model, x, rate, 333, EVENTS)
    others, other_edges, other_events, other_end = joined(model, x, rate, size, EVENTS)
    assert np.abs(values - others).max() < 1e-4
    assert np.array_equal(edges, other_edges)
    assert [event[:3] for event in events] == [event[:3] for event in other_events]
    assert end == other_end == pytest.approx(len(x) / rate)
    assert events


def test_the_recording_is_heard_at_the_models_rate_and_as_one_channel():
    model, x = small_classifier(), sound(2000, channels=2)
    values, *_ = joined(model, x, 2000)
    heard = resample(x.mean(dim=1, keepdim=True), 2000, RATE)
    expected, *_ = joined(model, heard)
    assert np.abs(values - expected).max() < 1e-5


def test_only_wanted_labels_become_events():
    config = TimelineConfig(events=EventConfig(enter=0.0, leave=0.0), labels=("c", "a"))
    _, _, events, _ = joined(small_classifier(), sound(1000), config=config)
    assert {event.label for event in events} == {"a", "c"}
    with pytest.raises(UserError, match="--label: expected one of a, b, c, got 'd'"):
        Timeline(small_classifier(), RATE, 1, TimelineConfig(labels=("d",)))


def test_a_recording_without_a_sample_has_no_values():
    for rate in (RATE, 500):
        values, _, events, _ = joined(small_classifier(), torch.zeros(0, 1), rate)
        assert values.shape == (0, 3)
        assert events == []


def test_channels_that_the_model_does_not_have_are_refused():
    with pytest.raises(UserError, match="the model hears 2, the recording has 3"):
        Timeline(small_classifier(channels=2), RATE, 3, TimelineConfig())


def test_values_that_are_no_numbers_end_the_work():
    model = small_classifier()
    with torch.no_grad():
        model.head.linear.bias.fill_(torch.nan)
    with pytest.raises(UserError, match=r"no finite numbers near 0\.0 s"):
        joined(model, sound(1000))


def test_the_deviation_of_a_look_ahead_is_measured():
    tagger = small_classifier(direction="bidirectional", task="tagging")
    x = sound(1500)
    near, far = (measure_deviation(tagger, x, StreamingConfig(context=c)) for c in (0.02, 0.4))
    assert far < near
    assert measure_deviation(tagger, x, StreamingConfig(context=9.0)) < 1e-5
    assert measure_deviation(small_classifier(direction="bidirectional"), x, StreamingConfig()) is None
    assert measure_deviation(small_classifier(task="tagging"), x, StreamingConfig()) is None


def write(path, waveform, rate=RATE):
    soundfile.write(path, waveform.numpy(), rate, "FLOAT" if path.suffix == ".wav" else None)
    return str(path)


def test_files_become_tables_and_values(tmp_path):
    files = [write(tmp_path / f"{i}.wav", sound(1500, seed=i)) for i in range(2)]
    outputs = (tmp_path / "out.csv", tmp_path / "out.parquet")
    report = run_timeline(small_classifier(), files, TimelineJob(EVENTS, outputs=outputs, block=700))
    rows = outputs[0].read_text().splitlines()[1:]
    assert len(rows) == report.events > 0
    assert {row.split(",")[0] for row in rows} == {"0.wav", "1.wav"}
    assert report.seconds == 3.0
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(outputs[1])
    expected, edges, _, end = joined(small_classifier(), sound(1500, seed=1), config=EVENTS)
    second = table.filter(np.asarray(table["file"].to_pylist()) == "1.wav")
    assert np.allclose(np.stack([second[name] for name in "abc"], axis=1), expected, atol=1e-6)
    assert np.allclose(second["start"], edges)
    assert second["end"][-1].as_py() == end


def test_a_broken_file_stops_the_work_before_it_begins_or_is_left_out(tmp_path, capsys):
    good, broken = write(tmp_path / "good.wav", sound(1000)), tmp_path / "broken.wav"
    broken.write_bytes(b"this is no sound")
    output = tmp_path / "out.csv"
    with pytest.raises(UserError, match=r"broken\.wav"):
        run_timeline(small_classifier(), [good, str(broken)], TimelineJob(EVENTS, outputs=(output,)))
    assert not output.exists()
    job = TimelineJob(EVENTS, outputs=(output,), on_error="skip")
    report = run_timeline(small_classifier(), [str(broken), good], job)
    assert len(report.failures) == 1
    assert "broken.wav" in capsys.readouterr().err
    assert "good.wav" in output.read_text()


def test_a_file_that_breaks_off_keeps_what_was_heard_if_it_is_skipped(tmp_path, monkeypatch):
    file = write(tmp_path / "x.wav", sound(1500))

    def breaking(path, size):
        yield sound(1500)[:1200]
        raise UserError("x.wav: breaks off")

    monkeypatch.setattr("audio.timeline_run.blocks", breaking)
    job = TimelineJob(EVENTS, outputs=(tmp_path / "out.csv",), on_error="skip")
    report = run_timeline(small_classifier(), [file], job)
    _, _, events, _ = joined(small_classifier(), sound(1500)[:1200], config=EVENTS)
    assert (report.seconds, report.events, report.failures) == (1.2, len(events), ["x.wav: breaks off"])


def live(waveform):
    data = (waveform * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy().astype("<i2").tobytes()
    return PcmStream(io.BytesIO(data), PcmFormat(RATE))


def test_standard_input_is_read_as_a_file_is(capsys):
    report = run_timeline(small_classifier(), ["-"], TimelineJob(EVENTS, live=live(sound(1500))))
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "file,onset,offset,label,mean,peak"
    assert len(rows) == 1 + report.events > 1
    assert rows[1].startswith("standard input,")


def test_an_interruption_of_what_is_live_keeps_everything(tmp_path, monkeypatch):
    def interrupted(self, size):
        yield sound(1500)[:1200]
        raise KeyboardInterrupt

    monkeypatch.setattr(PcmStream, "blocks", interrupted)
    output = tmp_path / "out.csv"
    report = run_timeline(
        small_classifier(), ["-"], TimelineJob(EVENTS, outputs=(output,), live=live(sound(9)))
    )
    assert report.seconds == 1.2
    assert len(output.read_text().splitlines()) == 1 + report.events


def test_a_generative_model_has_values_and_no_events(tmp_path):
    file = write(tmp_path / "x.wav", sound(1000))
    with pytest.raises(UserError, match="gives no probabilities"):
        run_timeline(small_model(), [file], TimelineJob(TimelineConfig()))
    output = tmp_path / "bits.parquet"
    run_timeline(small_model(), [file], TimelineJob(TimelineConfig(), outputs=(output,)))
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(output).column_names == ["file", "start", "end", "bits"]


def test_it_is_said_how_recordings_are_read(tmp_path):
    text = describe_job(small_classifier(), TimelineJob(EVENTS))
    assert "1000 Hz, a value every 0.04 s about the 0.2 s around it, state carried; 3 labels" in text
    assert "from 0.4 down to 0.35, median of 3 hops, gaps below 0.1 s closed" in text
    tagger = small_classifier(direction="bidirectional", task="tagging")
    file = write(tmp_path / "x.wav", sound(3000, channels=2), rate=2000)
    assert "of the first 2 s differ" in check_look_ahead(tagger, [file], StreamingConfig(context=0.1))
    assert check_look_ahead(small_classifier(), [file], StreamingConfig()) is None
    assert check_look_ahead(tagger, ["-"], StreamingConfig()) is None
