import math

import pytest

from audio.event_metrics import EventCounts, Tolerance, all_labels, count_events
from audio.events import Event
from seqmamba.errors import UserError


def count(reference, estimated, **tolerance):
    true = {"x": [Event(*event) for event in reference]}
    found = {"x": [Event(*event) for event in estimated]}
    return count_events(true, found, Tolerance(**tolerance))


def test_an_onset_within_the_collar_is_right_its_border_included():
    for onset, right in ((1.2, 1), (1.201, 0), (0.8, 1), (0.799, 0)):
        assert count([(1, 2, "a")], [(onset, 2, "a")])["a"] == EventCounts(1, 1, right)


def test_an_offset_may_be_off_by_half_of_the_length_if_that_is_more_than_the_collar():
    for offset, right in ((7.0, 1), (7.01, 0), (3.0, 1), (2.99, 0)):
        assert count([(1, 5, "a")], [(1, offset, "a")])["a"].matched == right
    for offset, right in ((1.3, 1), (1.31, 0)):  # half of 0.1 is less than the collar
        assert count([(1, 1.1, "a")], [(1, offset, "a")])["a"].matched == right
    assert count([(1, 5, "a")], [(1, 99, "a")], offset_share=None)["a"].matched == 1


def test_every_event_counts_once_and_as_many_as_possible_are_paired():
    assert count([(1, 2, "a")], [(1, 2, "a"), (1.1, 2, "a")])["a"] == EventCounts(1, 2, 1)
    # the first found event fits both; a greedy pairing would give it to the first and lose the second
    reference, estimated = [(1.0, 2, "a"), (1.3, 2, "a")], [(1.15, 2, "a"), (0.9, 2, "a")]
    assert count(reference, estimated)["a"].matched == 2


def test_labels_and_recordings_are_kept_apart():
    counts = count([(1, 2, "a"), (5, 6, "b")], [(1, 2, "b"), (5, 6, "b")])
    assert counts == {"a": EventCounts(1, 0, 0), "b": EventCounts(1, 2, 1)}
    elsewhere = count_events({"x": [Event(1, 2, "a")]}, {"y": [Event(1, 2, "a")]}, Tolerance())
    assert elsewhere == {"a": EventCounts(1, 1, 0)}


def test_f1_of_all_events_and_mean_f1_of_labels():
    counts = {"a": EventCounts(4, 2, 2), "b": EventCounts(1, 1, 0)}
    assert counts["a"].precision == 1.0
    assert counts["a"].recall == 0.5
    assert counts["a"].f1 == pytest.approx(2 / 3)
    assert all_labels(counts).f1 == pytest.approx(2 * 2 / 8)
    assert math.isnan(all_labels({}).f1)
    assert math.isnan(EventCounts(1, 0, 0).precision)


def test_thousands_of_events_that_all_fit_each_other_are_paired():
    events = [(0.0001 * i, 1, "a") for i in range(300)]
    assert count(events, events)["a"].matched == 300


def test_a_negative_tolerance_is_refused():
    with pytest.raises(UserError, match="onset: expected a number >= 0, got -1"):
        Tolerance(onset=-1)
