"""The tests' own setting of threads."""

import environment


def test_the_tests_own_setting_of_threads_wins(monkeypatch):
    """With OMP_NUM_THREADS=2 outside, the rings took 80 minutes."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert environment.small_networks()["OMP_NUM_THREADS"] == "1"
