"""The piece that `make demo` converts is the one that its training holds out."""

import pathlib
import re

import numpy as np

from data import PUBLISHED
from synthesis.midi import read_midi
from synthesis.mixing import Playing, recording_seconds
from training import dataset

ROOT = pathlib.Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_piece_that_is_converted_is_held_out():
    names = sorted(path.stem for path in (ROOT / "docs" / "examples").glob("*.mid"))
    scores = [read_midi(ROOT / "docs" / "examples" / f"{name}.mid") for name in names]
    lengths = [recording_seconds(score, Playing(duration_rate=1)) for score in scores]
    n_slices = np.ceil((1 + np.array(lengths) * PUBLISHED.sample_rate // PUBLISHED.hop_length) / PUBLISHED.n_frames)
    pieces = np.repeat(np.arange(len(names)), n_slices.astype(int))
    validation_split = float(re.search(r"--validation_split ([\d.]+)", MAKEFILE)[1])
    demo = MAKEFILE[MAKEFILE.index("demo:") : MAKEFILE.index("demo-hum:")]
    assert "--seed" not in demo  # so it is 0
    held_out, _ = dataset.hold_out(pieces, validation_split, seed=0)
    converted = re.search(r"^PIECE := (\w+)$", MAKEFILE, re.M)[1]
    assert {names[piece] for piece in pieces[held_out]} == {converted}
