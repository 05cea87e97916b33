"""docs/method.md: its numbers are those of the code."""

import pathlib
import re

import numpy as np
import pytest
from made_weights import published_table

import data

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "method.md").read_text(encoding="utf-8")


def test_the_table_of_levels_is_what_the_code_computes():
    rows = re.findall(r"^\| ([\d.^-]+) \| (-?[\d.]*) ?\| ([\d.-]+) \| ([\d.-]+) \|$", PAGE, re.M)
    assert len(rows) == 6
    for written, decibels, level, network in rows:
        magnitude = 2.0**-16 if written == "2^-16" else float(written)
        if magnitude:
            assert float(decibels) == pytest.approx(20 * np.log10(magnitude), abs=0.05)
        expected = data.amplitude_to_db(np.array([magnitude]))
        assert float(level) == pytest.approx(expected[0], abs=0.0006)
        assert float(network) == pytest.approx(data.to_network(expected)[0], abs=0.0006)


def test_the_number_of_parameters_is_that_of_the_layout():
    arrays = [shape for _, group in published_table(1, 64) for _, shape in group]
    written = f"{sum(int(np.prod(shape)) for shape in arrays):,}".replace(",", " ")
    assert f"these are {written} numbers" in PAGE.replace("\n", " ")
