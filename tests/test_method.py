"""docs/method.md: its numbers are those of the code, and those of its diagram."""

from __future__ import annotations

import pathlib
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from made_weights import published_table

import data

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "method.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


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


def test_the_diagram_of_the_generator_has_the_sizes_of_its_layers():
    texts = read_texts(DOCS / "method" / "unet.svg")
    kernels = [members[0][1] for _, members in published_table(1, 64) if members]
    down, up = [kernel[3] for kernel in kernels[:8]], [kernel[2] for kernel in kernels[8:15]]
    sizes = [256 >> level for level in range(1, 9)]
    assert all(f"{size}×{size} × {n}" in texts for size, n in zip(sizes, down, strict=True))
    skips = zip(sizes[-2::-1], up, down[-2::-1], strict=True)
    assert all(f"{size}×{size} × {own} + {skip}" in texts for size, own, skip in skips)


def test_the_number_of_parameters_is_that_of_the_layout():
    arrays = [shape for _, group in published_table(1, 64) for _, shape in group]
    written = f"{sum(int(np.prod(shape)) for shape in arrays):,}".replace(",", " ")
    assert f"these are {written} numbers" in PAGE.replace("\n", " ")


def read_texts(path: pathlib.Path) -> set[str]:
    """What is written in a diagram."""
    return {"".join(element.itertext()) for element in ElementTree.parse(path).getroot().iter(f"{SVG}text")}
