import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.events import Event, EventConfig, EventDetector
from seqmamba.errors import UserError

VALUES = st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0])


def detect(columns, cuts=(), *, hop=0.1, seconds=None, labels=("a", "b", "c"), **options):
    """Events of probabilities given class by class, fed in parts."""
    values = np.array(columns, dtype=np.float32).T
    detector = EventDetector(labels[: values.shape[1]], hop, EventConfig(**options))
    events = []
    for part in np.split(values, cuts):
        events += detector.push(part)
    return events + detector.finish(seconds)


def spans(events):
    return [(round(e.onset, 6), round(e.offset, 6), e.label) for e in events]


def test_hysteresis_begins_high_and_ends_low():
    events = detect([[0.0, 0.4, 0.6, 0.4, 0.35, 0.2, 0.4, 0.0]], enter=0.5, leave=0.3)
    assert spans(events) == [(0.2, 0.5, "a")]
    assert events[0].mean == pytest.approx(0.45)
    assert events[0].peak == pytest.approx(0.6)


def test_an_event_that_reaches_the_end_ends_there():
    assert spans(detect([[0, 0.9, 0.9]])) == [(0.1, 0.3, "a")]
    assert spans(detect([[0, 0.9, 0.9]], seconds=0.25)) == [(0.1, 0.25, "a")]
    assert spans(detect([[0.9]])) == [(0.0, 0.1, "a")]


def test_short_gaps_are_closed_and_then_short_events_left_out():
    on = [1, 0, 1, 0, 0, 0, 1, 0, 0]
    assert spans(detect([on])) == [(0.0, 0.1, "a"), (0.2, 0.3, "a"), (0.6, 0.7, "a")]
    joined = detect([on], min_gap=0.2)
    assert spans(joined) == [(0.0, 0.3, "a"), (0.6, 0.7, "a")]
    assert joined[0].mean == 1.0  # of the hops at which it was on
    assert spans(detect([on], min_gap=0.2, min_duration=0.3)) == [(0.0, 0.3, "a")]
    assert spans(detect([on], min_gap=0.2, min_duration=0.31)) == []


def test_a_median_removes_lone_hops():
    on = [0, 1, 0, 0, 0, 0, 1, 1, 0, 1, 1]
    assert spans(detect([on], median=3)) == [(0.6, 1.1, "a")]
    assert spans(detect([[1, 1, 0]], median=5)) == [(0.0, 0.2, "a")]  # wider than the recording


def test_events_come_when_they_are_certain():
    detector = EventDetector(("a", "b"), 1.0, EventConfig(min_gap=2.0))
    rows = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]], dtype=float)
    came = [spans(detector.push(row[None])) for row in rows]
    assert came == [[], [], [(0.0, 1.0, "a")], [(1.0, 2.0, "b")], []]
    assert detector.finish() == []


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40).flatmap(
        lambda n: st.tuples(
            st.lists(
                st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), min_size=n, max_size=n),
                min_size=2,
                max_size=2,
            ),
            st.lists(st.integers(0, n), max_size=6),
        )
    ),
    st.sampled_from([1, 3, 7]),
    st.sampled_from([0.0, 0.1, 0.25]),
    st.sampled_from([0.0, 0.2]),
)
def test_blocks_make_no_difference(columns_and_cuts, median, min_gap, min_duration):
    columns, cuts = columns_and_cuts
    options = {"median": median, "min_gap": min_gap, "min_duration": min_duration}
    whole = detect(columns, **options)
    parts = detect(columns, sorted(cuts), **options)
    assert spans(parts) == spans(whole)
    assert [e.mean for e in parts] == pytest.approx([e.mean for e in whole])


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, max_size=30))
def test_it_agrees_with_a_loop(values):
    expected, on = [], False
    for hop, value in enumerate([*values, 0.0]):
        if not on and value >= 0.5:
            on, first = True, hop
        elif on and value < 0.3:
            on = False
            expected.append((round(first * 0.1, 6), round(hop * 0.1, 6), "a"))
    assert spans(detect([values])) == expected


def test_nothing_in_nothing_out():
    detector = EventDetector(("a",), 0.1, EventConfig(median=3))
    assert detector.finish() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enter": 0.2, "leave": 0.3}, "leave, enter: expected 0 <= leave <= enter <= 1"),
        ({"median": 4}, "median: expected an odd number of hops, got 4"),
        ({"min_gap": -1}, "min_gap: expected a number of seconds >= 0"),
        ({"min_duration": float("nan")}, "min_duration: expected a number of seconds >= 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        EventConfig(**options)


def test_columns_must_be_the_labels():
    with pytest.raises(UserError, match=r"expected \(hops, 2\), got \(3, 1\)"):
        EventDetector(("a", "b"), 0.1, EventConfig()).push(np.zeros((3, 1)))
    with pytest.raises(UserError, match="hop: expected a number of seconds > 0"):
        EventDetector(("a",), 0.0, EventConfig())
    assert Event(0, 1, "a").mean == 1.0
