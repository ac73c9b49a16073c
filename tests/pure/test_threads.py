"""The tests' own setting of threads."""

import environment
import pytest


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_the_tests_own_setting_of_threads_wins(monkeypatch, name):
    """With OMP_NUM_THREADS=2 outside, the rings took 80 minutes."""
    monkeypatch.setenv(name, "2")
    monkeypatch.setenv("OTHER", "kept")
    variables = environment.small_networks()
    assert variables[name] == "1" and variables["OTHER"] == "kept"
