"""Flags and links in the documentation exist, and its numbers and `make demo` are those of the code."""

import functools
import importlib
import pathlib
import re

import numpy as np
import pytest
from conftest import ROOT
from made_weights import published_table

import data
from common import cli
from synthesis.midi import read_midi
from synthesis.mixing import Playing, recording_seconds
from training import dataset

DOCUMENTS = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]*(?!-)\b")


@functools.cache
def read_flags(command: str) -> set[str]:
    """The flags of the parser that a command makes for itself."""
    parsers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run", lambda parser, work, argv: parsers.append(parser))
        importlib.import_module(command).main([])
    return {flag for action in parsers[0]._actions for flag in action.option_strings}


def test_documented_command_lines_use_flags_that_exist():
    for path in [*DOCUMENTS, ROOT / "Makefile"]:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        for command, rest in re.findall(r"^\s*(?:python|\$\(PYTHON\)) (\w+)\.py(.*)$", text, re.M):
            assert set(FLAG.findall(rest)) <= read_flags(command), (path.name, command)


def test_links_between_documents_lead_somewhere():
    broken = []
    pages = [*DOCUMENTS, *(ROOT / "docs").glob("*/**/*.md"), *(ROOT / "models").glob("*.md")]
    for path in [*pages, *(ROOT / "models").glob("*/README.md")]:
        text = path.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?[^)]*\)", text)
        for link, _, anchor in links + re.findall(r"(?:src|href)=\"([^\"#]*)(#([^\"]*))?\"", text):
            if "://" in link:
                continue
            target = path.parent / link if link else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{path.name}: {link}#{anchor}")
    assert broken == []


def anchors(path: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paths_in_backquotes_exist():
    """Files of this project that the documentation names, such as `training/loop.py`."""
    missing = []
    others = "coming_from_the_original.md"  # names other programs' files
    ours = [path for path in DOCUMENTS if path.name != others]
    for path in [*ours, ROOT / "models" / "README.md", ROOT / "docs" / "examples" / "README.md"]:
        text = path.read_text(encoding="utf-8")
        names = re.findall(r"`([\w/]+\.(?:py|md|txt|toml))(?:::\w+)?`", text)
        missing += [f"{path.name}: {name}" for name in names if not (ROOT / name).exists() and "log.txt" not in name]
    assert missing == []


def test_the_table_of_levels_is_what_the_code_computes():
    rows = re.findall(r"^\| ([\d.^-]+) \| (-?[\d.]*) ?\| ([\d.-]+) \| ([\d.-]+) \|$", METHOD, re.M)
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
    assert f"these are {written} numbers" in METHOD.replace("\n", " ")


def test_the_piece_that_make_demo_converts_is_held_out_of_its_training():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = sorted(path.stem for path in (ROOT / "docs" / "examples").glob("*.mid"))
    scores = [read_midi(ROOT / "docs" / "examples" / f"{name}.mid") for name in names]
    lengths = [recording_seconds(score, Playing(duration_rate=1)) for score in scores]
    n_slices = np.ceil(
        (1 + np.array(lengths) * data.PUBLISHED.sample_rate // data.PUBLISHED.hop_length) / data.PUBLISHED.n_frames
    )
    pieces = np.repeat(np.arange(len(names)), n_slices.astype(int))
    validation_split = float(re.search(r"--validation_split ([\d.]+)", makefile)[1])
    demo = makefile[makefile.index("demo:") : makefile.index("demo-hum:")]
    assert "--seed" not in demo  # so it is 0
    held_out, _ = dataset.hold_out(pieces, validation_split, seed=0)
    converted = re.search(r"^PIECE := (\w+)$", makefile, re.M)[1]
    assert {names[piece] for piece in pieces[held_out]} == {converted}
