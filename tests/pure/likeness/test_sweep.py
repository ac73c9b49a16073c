"""The texts that describe a sweep, and what is made of its numbers."""

import pytest
import torch
from instantid_swift.likeness import report
from instantid_swift.likeness.sweep import BLOCKS, MOST_CELLS, Scores, parse_cells
from instantid_swift.utils import InstantIDError


@pytest.mark.parametrize("setting, text, values", [
    ("ip_weight", "0.4, 0.6", (0.4, 0.6)), ("ip_weight", "0.4 to 1.0 step 0.2", (0.4, 0.6, 0.8, 1.0)),
    ("cn_strength", "0, 1 to 2 step 0.5, 1.5", (0.0, 1.0, 1.5, 2.0)), ("step reuse", "1, 2", (1, 2)),
    (BLOCKS, "as original, all 70", ("as original", "all 70")), ("noise", "0.5\n0.5", (0.5,))])
def test_values(setting, text, values):
    assert parse_cells(setting, text, "1").values == values


@pytest.mark.parametrize("setting, text, seeds, message", [
    ("ip_weight", "", "1", "There are no values"), ("ip_weight", "0.4", " , ", "There are no seeds"),
    ("ip_weight", "much", "1", "'much' is not a number"), ("ip_weight", "3.1", "1", "ip_weight is a number of 0 to 3"),
    ("step reuse", "1.5", "1", "a whole number of 1 to 10"), ("ip_weight", "1 to 0 step 0.1", "1", "range '1 to 0 step 0.1'"),
    ("blocks", "0.5", "1", "no block selection '0.5'"), ("ip_weight", "1", "-1", "seed '-1'"),
    ("ip_weight", "0 to 3 step 0.02", "1, 2", f"at most {MOST_CELLS}")])
def test_what_cannot_be_read_is_refused(setting, text, seeds, message):
    with pytest.raises(InstantIDError, match=message):
        parse_cells(setting, text, seeds)


def test_a_cell_keeps_its_name_in_another_sweep():
    few, more = parse_cells("ip_weight", "0.6, 0.4", "2, 1"), parse_cells("ip_weight", "0.4 to 0.8 step 0.2", "1, 2, 3")
    assert set(few.keys) < set(more.keys) and len(set(more.keys)) == 9


def scores(*of_values):
    """Scores of values 0, 1, ... with one seed. of_values: the numbers of each."""
    cells = parse_cells("ip_weight", ", ".join(map(str, range(len(of_values)))), "7")
    return Scores(cells, {(value, 7): list(numbers) for value, numbers in zip(cells.values, of_values, strict=True)})


def test_the_best_value():
    assert scores([0.2], [0.6, 0.4], [0.4]).best == 1
    assert scores([0.5], [0.9, None]).best == 0, "a value of which all pictures show a face comes first"
    assert scores([None], [0.1, None]).best == 1
    assert scores([None], [None]).best is None


def test_pictures_of_the_numbers():
    for one in (scores([0.2], [0.6, 0.4], [None]), scores([None], [None]), scores([-0.3])):
        made = report.contact_sheet(one, {place: torch.rand(2, 96, 64, 3) for place in one.likeness})
        chart = report.line_chart(one)
        for picture in (made, chart):
            assert picture.ndim == 4 and picture.shape[0] == 1 and 0 <= picture.min() < picture.max() <= 1
    text = report.table(scores([0.2], [0.6, 0.4], [None]))
    assert text.splitlines()[2].split() == ["0.500", "0.400", "0.600", "0", "1"] and text.endswith("Best ip_weight: 1.")
    assert report.table(scores([None])).endswith("No picture shows a face that can be measured.")
