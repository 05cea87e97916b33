"""The interface from Python, and the examples of docs/python.md, which run as they stand."""

import pathlib
import re
import shutil

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from made_conversions import RATE, make_music, write_tone

import timbre_transfer
from conversion import models


@pytest.fixture
def shipped(tmp_path, write_generator, monkeypatch):
    """A folder of tiny models in place of the shipped ones."""
    pair = tmp_path / "models/keyboard_acoustic_2_guitar_acoustic/generator.h5"
    write_generator(pair, base_filters=16, targets=["guitar_acoustic"])
    write_generator(tmp_path / "models/keyboard_acoustic_2_any/generator.h5", 2, targets=["guitar_acoustic", "string"])
    monkeypatch.setattr(models, "MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_examples_of_the_page_run(shipped):
    write_tone(shipped / "piano.wav", seconds=1)
    write_tone(shipped / "guitar.wav", seconds=7)
    shutil.copytree(ROOT / "docs/examples", "docs/examples", ignore=shutil.ignore_patterns("*.wav", "*.png"))
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.S))
    assert code.count("\n") > 10
    exec(compile(code, "docs/python.md", "exec"), {})
    lengths = {name: soundfile.info(name).duration for name in ("guitar.wav", "guitar.flac", "out.wav")}
    assert lengths == pytest.approx({"guitar.wav": 1, "guitar.flac": 1, "out.wav": 1})
    assert soundfile.info("harp.wav").duration > 25
    assert np.abs(soundfile.read("harp.wav")[0]).max() > 0.5


def test_an_array_and_a_file_are_converted_alike(shipped):
    (shipped / "guitar").mkdir()  # does not hide the model of that name
    audio = np.stack([make_music(2, seed) for seed in (0, 1)])
    soundfile.write("in.wav", audio.T, RATE, "FLOAT")
    for mix in (0, 0.5):
        model = timbre_transfer.load_model("guitar", level="none", subtype="float", mix=mix)
        model.convert_file("in.wav", "out.wav")
        np.testing.assert_allclose(soundfile.read("out.wav")[0].T, model.convert(audio, RATE), atol=1e-5)


def test_mistakes_are_errors_of_one_line(shipped):
    tone = write_tone(shipped / "in.wav")
    guitar, anything = (timbre_transfer.load_model(name) for name in ("guitar", "models/keyboard_acoustic_2_any"))
    for mistake in (
        lambda: timbre_transfer.load_model("tuba"),
        lambda: anything.convert_file(tone, "out.wav"),
        lambda: guitar.convert_file(tone, "out.wav", style=tone),
        lambda: timbre_transfer.render(ROOT / "docs/examples/satie_gymnopedie_1.mid", "harp"),
    ):
        with pytest.raises(timbre_transfer.InputError):
            mistake()
    assert not pathlib.Path("out.wav").exists()
