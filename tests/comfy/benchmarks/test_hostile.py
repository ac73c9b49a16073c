"""The short form of `python -m benchmarks hostile`: a few inputs of each kind, none of which may fail."""

from pathlib import Path

import pytest

from benchmarks.stages import hostile

SHORT = {"adapters": 12, "networks": 6, "images": 12, "masks": 40, "texts": 40, "prompts": 12}


@pytest.mark.newest
@pytest.mark.parametrize("kind", hostile.SHARES)
def test_hostile_inputs_are_taken_or_refused_in_a_sentence(kind, tmp_path):
    make = hostile.makers(Path(tmp_path))[kind]
    outcomes = [hostile.outcome(make, kind, 0, number) for number in range(SHORT[kind])]
    assert [text for state, text, _ in outcomes if state == "failed"] == []
    assert {state for state, _, _ in outcomes} <= {"taken", "refused", "slow"}  # a loaded machine is slow; the command times
    assert all("\n" not in text for state, text, _ in outcomes if state == "refused")
