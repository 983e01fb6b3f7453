from __future__ import annotations

import threading

import pytest
import torch

from seqmamba.nn.stepping import keep_derived, keeping_derived


def test_nothing_is_kept_where_nobody_keeps():
    assert keep_derived(torch.ones(1)) is False


def test_what_is_handed_over_is_kept_in_order_and_only_inside():
    first, second = torch.ones(1), torch.zeros(1)
    with keeping_derived() as kept:
        assert keep_derived(first)
        with keeping_derived() as inner:
            assert keep_derived(second)
        assert keep_derived((first, second))
    assert inner == [second]
    assert kept[0] is first
    assert kept[1] == (first, second)
    assert not keep_derived(first)
    assert len(kept) == 2


def test_a_failure_inside_ends_the_keeping():
    with pytest.raises(ValueError, match="broken"), keeping_derived():
        raise ValueError("broken")
    assert not keep_derived(torch.ones(1))


def test_another_thread_keeps_for_itself():
    answers = []
    with keeping_derived() as kept:
        thread = threading.Thread(target=lambda: answers.append(keep_derived(torch.ones(1))))
        thread.start()
        thread.join()
    assert answers == [False]
    assert kept == []
