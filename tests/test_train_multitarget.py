"""The multitarget command: its lists of instruments, and one real run."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

import train_multitarget
from common import InputError, weights
from common.files import read_json
from data import PUBLISHED
from sound.files import read_audio


def test_lists_of_targets():
    for words in (["a_b", "c-2"], ["a_b,", "c-2"], ["['a_b', 'c-2']"], ['["a_b", "c-2"]'], ["['a_b',", "'c-2']"]):
        assert train_multitarget.parse_instruments(words, "--target") == ["a_b", "c-2"]
    for text in ("[]", "", "a_b;c-2", "__import__('os').system('true')", "a_b,a_b"):
        with pytest.raises(InputError):
            train_multitarget.parse_instruments([text], "--target")


@pytest.mark.slow
def test_multitarget_run(instrument_features, tmp_path, capsys):
    """One epoch for two targets: everything that has to be there is, and it resumes."""
    argv = (
        f"--dataset_path {instrument_features} --origin keyboard_acoustic --target guitar_acoustic,string_acoustic "
        f"--base_filters 2 --batch_size 3 --epochs 1 --validation_split 0.25 --models_path {tmp_path / 'models'} "
        "--preset published --tensorboard --gpu -1"
    ).split()
    assert train_multitarget.main(argv) == 0
    said = capsys.readouterr().out
    assert "6 slices to train on; 1 of 2 pieces are held out" in said
    assert "1e-05, 5e-06" in said  # the published rates of any
    folder = tmp_path / "models" / "keyboard_acoustic_2_any"
    with (folder / "history.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["epoch"], row["step"]) == ("1", "2")
    for name in ("generator.h5", "generator_best.h5"):
        description = weights.describe(folder / name)
        assert (description.network, description.in_channels, description.base_filters) == ("unet", 2, 2)
        assert description.settings["targets"] == ["guitar_acoustic", "string_acoustic"]
        assert (description.settings["validation_split"], description.settings["seed"]) == (0.25, 0)
        assert description.settings["validation_mae"] == float(row["val_mae"])
        assert description.representation == PUBLISHED
    assert weights.describe(folder / "discriminator.h5").network == "patchgan"
    written = read_json(folder / "run.json")
    assert (written["flags"]["seed"], written["flags"]["gen_lr"]) == (0, 1e-5)
    assert {"python", "tensorflow", "commit"} <= written["versions"].keys()
    for target in ("guitar_acoustic", "string_acoustic"):
        audio = read_audio(folder / "samples" / "001" / f"audio_{target}.wav")
        assert len(audio) / 44100 == pytest.approx(256 * 512 / 44100, rel=0.01)  # the one slice held out
        assert np.abs(audio).max() > 0
        with Image.open(folder / "samples" / "001" / f"spectrogram_{target}.png") as picture:
            assert min(picture.size) > 300
        with Image.open(folder / f"spectrogram_{target}.gif") as animation:
            assert animation.n_frames == 1
    [events] = (folder / "tensorboard").glob("events.*")
    assert events.stat().st_size > 10_000
    assert train_multitarget.main(argv) == 0
    assert "is complete" in capsys.readouterr().out


def test_from_any_to_any(noise_features, tmp_path, monkeypatch, capsys):
    """Every instrument to each other one, in the folder any_2_any."""
    pieces, runs = {"bach": 1, "satie": 1}, []
    monkeypatch.setattr("training.loop.fit", runs.append)
    made = noise_features(tmp_path / "features", {"piano@a": pieces, "piano@b": pieces, "guitar": pieces})
    argv = (
        f"--dataset_path {made} --origin any --target any --generator_only --gpu -1 --base_filters 2 --batch_size 2 "
        f"--validation_split 0.5 --models_path {tmp_path / 'models'}"
    ).split()
    assert train_multitarget.main(argv) == 0
    assert "4 slices to train on" in capsys.readouterr().out  # two pianos to the guitar and back, of one piece
    described = runs[0].description
    assert runs[0].folder == tmp_path / "models" / "any_2_any_generator"
    assert described["origins"] == described["voices"] == ["guitar", "piano@a", "piano@b"]
    assert (described["origin"], described["targets"]) == ("any", ["guitar", "piano", "piano"])
    assert not described["identity"]
    # The flags that the learning-rate finder advises are those of this command.
    falling = [{"rate": rate, "generator_loss": -np.tanh(np.log10(rate) + 4)} for rate in np.geomspace(1e-9, 1, 60)]
    monkeypatch.setattr("lr_finder.until_divergence", lambda *_: falling)
    assert train_multitarget.main([*argv, "--findlr"]) == 0
    (advised,) = re.findall("; (.+) takes the suggestion", capsys.readouterr().out)
    assert train_multitarget.main([*argv, *advised.split()]) == 0
    assert runs[-1].generator_rate == pytest.approx(1e-4 / 3, rel=0.3)
