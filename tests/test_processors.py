"""Linear algebra is kept to one thread while it is used, and set free again."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from napari_virchow.classify.processors import for_each, one_thread


def threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def let_use(n):
    """Set how many threads the libraries use, in a thread that ends: till then no other may."""
    setter = threading.Thread(target=threadpool_limits, args=(n, "blas"))
    setter.start()
    setter.join()


@pytest.fixture
def usual():
    """How many threads the libraries use: two, also where the tests are run with one."""
    with one_thread():
        pass  # they are loaded and known from here on
    before = threads()
    let_use(2)
    assert set(threads()) == {2}
    yield threads()
    let_use(before[0])


def test_users_on_two_threads_take_turns_and_set_it_free(usual):
    seen, first_is_in = [], threading.Event()

    def use():
        with one_thread():
            seen.append(threads())
            first_is_in.set()

    others = [threading.Thread(target=use) for _ in range(3)]
    with one_thread():
        for other in others:
            other.start()
        assert set(threads()) == {1}
        assert not first_is_in.is_set()
    for other in others:
        other.join()
    assert [set(one) for one in seen] == [{1}] * 3
    assert threads() == usual


def test_an_error_sets_it_free_too(usual):
    with pytest.raises(ZeroDivisionError):
        for_each([0], lambda n: 1 / n)
    assert threads() == usual


@pytest.mark.parametrize("n", [0, 1, 7])
def test_work_is_done_once_on_every_item(n):
    done = []
    for_each(range(n), done.append)
    assert sorted(done) == list(range(n))
