"""Batches that a thread makes ahead: the same, failures told, no thread left."""

import threading
import time

import pytest
import torch

from spikebridge.training.ahead import Ahead

CPU = torch.device("cpu")


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_values_are_those_of_their_steps_in_any_order():
    with Ahead(lambda step: step**2, 9, CPU) as ahead:
        assert [ahead(step) for step in (3, 4, 5, 6, 0, 1, 8)] == [9, 16, 25, 36, 0, 1, 64]
    assert threads() == []


def test_next_values_are_made_by_a_thread_before_they_are_asked_for():
    made, one_more = {}, threading.Semaphore(0)

    def make(step):
        made[step] = threading.current_thread()
        one_more.release()

    with Ahead(make, 5, CPU) as ahead:
        ahead(0)
        for _ in range(3):
            one_more.acquire()
        assert sorted(made) == [0, 1, 2]
        assert threading.main_thread() not in made.values()
        ahead(3)
        ahead(4)
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_a_failure_is_raised_where_its_value_is_asked_for():
    def make(step):
        if step == 2:
            raise ValueError("step 2 is damaged")
        return step

    with Ahead(make, 5, CPU) as ahead:
        assert [ahead(0), ahead(1)] == [0, 1]
        with pytest.raises(ValueError, match="step 2 is damaged"):
            ahead(2)
    assert threads() == []


def test_an_interruption_leaves_no_thread():
    def make(step):
        time.sleep(0.05)
        return step

    with pytest.raises(KeyboardInterrupt), Ahead(make, 100, CPU) as ahead:
        ahead(0)
        raise KeyboardInterrupt
    assert threads() == []
