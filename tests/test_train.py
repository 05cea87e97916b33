"""The train commands as they are called: bad input in one line, and one real run."""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import needs_peak_memory
from PIL import Image

import train
import train_generator
import train_multitarget
from common import weights
from common.audio import read_audio
from common.files import write_json
from data import PUBLISHED
from training import pix2pix

ROOT = pathlib.Path(train.__file__).parent
SCRIPTS = {"train": train, "train_multitarget": train_multitarget, "train_generator": train_generator}


@pytest.fixture(scope="module")
def features(tmp_path_factory, noise_features):
    pieces = {"bach": 3, "satie": 1}
    slices = {"keyboard_acoustic": pieces, "guitar_acoustic": pieces, "string_acoustic": pieces}
    return noise_features(tmp_path_factory.mktemp("features"), slices)


@pytest.fixture
def refused(tmp_path, features, capsys):
    """Run a train script with faulty arguments: it answers with one line and status 2 and leaves nothing; the line."""

    def run(script, **options):
        given = {"dataset_path": features, "origin": "keyboard_acoustic", "target": "guitar_acoustic"} | options
        argv = [f"--models_path={tmp_path / 'models'}"]
        for flag, value in given.items():
            argv += [f"--{flag}", *(map(str, value) if isinstance(value, (list, tuple)) else [str(value)])]
        try:
            status = SCRIPTS[script].main(argv)
        except SystemExit as stopped:
            status = stopped.code
        said = capsys.readouterr()
        assert status == 2
        assert said.err.count("\n") == 1
        assert not (tmp_path / "models").exists()
        return said.err

    return run


@pytest.mark.parametrize("script", SCRIPTS)
def test_data_that_is_not_there(refused, tmp_path, script):
    assert "--dataset_path: expected a folder, found nothing" in refused(script, dataset_path=tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "found 'keyboard_acoustic'" in (said := refused(script, dataset_path=tmp_path / "empty"))
    assert "no folders at all" in said
    said = refused(script, origin="harpsichord")
    assert "--origin" in said
    assert "guitar_acoustic, keyboard_acoustic, string_acoustic" in said
    assert "found 'harpsichord'" in said
    said = refused(script, target="harpsichord")
    assert "--target" in said
    assert "guitar_acoustic, keyboard_acoustic, string_acoustic" in said


@pytest.mark.parametrize("script", SCRIPTS)
def test_batch_size_above_the_data(refused, script):
    assert "--batch_size: expected at most the 3 slices" in refused(script, batch_size=4)


@pytest.mark.parametrize(("flag", "value", "expected"), [
    ("batch_size", "0", "at least 1"),
    ("batch_size", "2.5", "a whole number"),
    ("epochs", "-1", "at least 1"),
    ("gen_lr", "fast", "expected auto or a number, found 'fast'"),
    ("disc_lr", "0", "above 0"),
    ("gen_lr", "nan", "above 0"),
    ("validation_split", "1", "at most 0.9"),
    ("validation_split", "-0.1", "at least 0"),
    ("beta_1", "1", "at most 0.999"),
    ("findlr_steps", "6", "at least 7"),
    ("findlr", "perhaps", "True or False"),
    ("lr_schedule", "cosine", "constant"),
    ("precision", "float8", "mixed_bfloat16"),
    ("gpu", "-2", "at least -1"),
    ("checkpoint_minutes", "0", "above 0"),
    ("patience", "0", "at least 1"),
])  # fmt: skip
def test_faulty_values_name_the_flag(refused, flag, value, expected):
    said = refused("train", **{flag: value})
    assert f"--{flag}" in said
    assert expected in said


def test_patience_without_validation(refused):
    assert "--patience" in refused("train", batch_size=1, patience=3, validation_split=0)


def test_unknown_flags_are_not_guessed(refused):
    assert "--batch" in refused("train", batch=2)
    assert "--gen_lr" in refused("train_generator", gen_lr=1e-4)  # it is --lr there


@pytest.mark.parametrize(("script", "flag"), [("train", "gen_lr"), ("train", "disc_lr"), ("train_generator", "lr")])
def test_auto_without_a_suggestion(refused, script, flag):
    said = refused(script, batch_size=1, **{flag: "auto"})
    assert f"--{flag}" in said
    assert "--findlr" in said
    assert "lr_finder.json" in said


@pytest.mark.parametrize("words", [
    "[]", "", "['guitar_acoustic'", "guitar_acoustic;string_acoustic", "['guitar_acoustic',,'string_acoustic']",
    "__import__('os').system('true')", "{'guitar_acoustic'}",
])  # fmt: skip
def test_malformed_lists(refused, words):
    assert "--target: expected instruments like" in refused("train_multitarget", target=words)


def test_instrument_named_twice(refused):
    assert "expected each instrument once" in refused(
        "train_multitarget", target=["guitar_acoustic", "guitar_acoustic"]
    )


@pytest.mark.parametrize("words", [
    ["a_b", "c-2"], ["a_b,c-2"], ["a_b,", "c-2"], ["['a_b','c-2']"], ["['a_b', 'c-2']"], ['["a_b", "c-2"]'],
    ["[a_b,c-2]"], ["['a_b',", "'c-2']"],
])  # fmt: skip
def test_lists_of_targets(words):
    assert train_multitarget.parse_instruments(words, "--target") == ["a_b", "c-2"]


@pytest.mark.parametrize(("words", "expected"), [
    ([], False), (["--findlr"], True), (["--findlr", "True"], True), (["--findlr", "False"], False),
    (["--findlr=false"], False), (["--findlr", "1"], True), (["--findlr", "--epochs", "3"], True),
])  # fmt: skip
@pytest.mark.parametrize("script", SCRIPTS)
def test_findlr_means_what_it_says(monkeypatch, script, words, expected):
    seen = []
    monkeypatch.setattr("training.pix2pix.train", lambda arguments, *_, **__: seen.append(arguments) or 0)
    argv = ["--dataset_path", "d", "--origin", "a", "--target", "b", *words]
    assert SCRIPTS[script].main(argv) == 0
    assert seen[0].findlr is expected
    assert seen[0].batch_size == 8


@pytest.mark.parametrize(("name", "rates"), [
    ("guitar_acoustic", (5e-5, 5e-6)), ("string_acoustic", (1e-5, 1e-5)), ("synth_lead_synthetic", (1e-4, 1e-5)),
    ("any", (1e-5, 5e-6)),
])  # fmt: skip
def test_published_rates_are_the_defaults(monkeypatch, tmp_path, name, rates):
    seen = []
    monkeypatch.setattr("training.pix2pix.train", lambda arguments, *_, **__: seen.append(arguments) or 0)
    train.main(["--dataset_path", "d", "--origin", "a", "--target", name])
    assert pix2pix._learning_rates(seen[0], name, tmp_path) == rates


def test_auto_reads_the_suggestion(monkeypatch, tmp_path):
    write_json(tmp_path / "lr_finder.json", {"gen_lr": 0.25, "disc_lr": 0.5})
    seen = []
    monkeypatch.setattr("training.pix2pix.train", lambda arguments, *_, **__: seen.append(arguments) or 0)
    train.main(["--dataset_path", "d", "--origin", "a", "--target", "b", "--gen_lr", "auto", "--disc_lr", "auto"])
    assert pix2pix._learning_rates(seen[0], "b", tmp_path) == (0.25, 0.5)


def test_multitarget_run(features, tmp_path, capsys):
    """One epoch for two targets, one of them the origin itself: everything that has to be there is, and it resumes."""
    argv = (
        f"--dataset_path {features} --origin keyboard_acoustic --target guitar_acoustic,keyboard_acoustic --gpu -1 "
        f"--base_filters 2 --batch_size 3 --epochs 1 --validation_split 0.25 --models_path {tmp_path / 'models'} "
        "--lr_schedule linear --beta_1 0.5 --tensorboard --identity"
    ).split()
    assert train_multitarget.main(argv) == 0
    said = capsys.readouterr().out
    assert "keyboard_acoustic is an origin and a target" in said
    assert "6 slices to train on; 1 of 2 pieces are held out" in said
    assert "1e-05, 5e-06" in said  # the published rates of any
    folder = tmp_path / "models" / "keyboard_acoustic_2_any"
    with (folder / "history.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["epoch"], row["step"]) == ("1", "2")
    for name in ("generator.h5", "generator_best.h5"):
        description = weights.describe(folder / name)
        assert (description.network, description.in_channels, description.base_filters) == ("unet", 2, 2)
        assert description.settings["targets"] == ["guitar_acoustic", "keyboard_acoustic"]
        assert (description.settings["validation_split"], description.settings["seed"]) == (0.25, 0)
        assert description.settings["validation_mae"] == float(row["val_mae"])
        assert description.representation == PUBLISHED
    assert weights.describe(folder / "discriminator.h5").network == "patchgan"
    for target in ("guitar_acoustic", "keyboard_acoustic"):
        audio = read_audio(folder / "samples" / "001" / f"audio_{target}.wav")
        assert len(audio) / 44100 == pytest.approx(PUBLISHED.slice_seconds, rel=0.01)  # the one slice held out
        assert np.abs(audio).max() > 0
        with Image.open(folder / "samples" / "001" / f"spectrogram_{target}.png") as picture:
            assert min(picture.size) > 300
        with Image.open(folder / f"spectrogram_{target}.gif") as animation:
            assert animation.n_frames == 1
    with Image.open(folder / "history.png") as picture:
        assert min(picture.size) > 300
    [events] = (folder / "tensorboard").glob("events.*")
    assert events.stat().st_size > 10_000
    assert train_multitarget.main(argv) == 0
    assert "is complete" in capsys.readouterr().out


# Trains and prints after each epoch's samples how much memory the process holds, in KiB.
MEASURED = """
import sys
import train
from training import pix2pix
make_sampler = pix2pix.make_sampler
def measuring(*arguments):
    sample = make_sampler(*arguments)
    def measured(folder):
        samples = sample(folder)
        with open("/proc/self/status") as status:
            print(next(line for line in status if line.startswith("VmRSS")))
        return samples
    return measured
pix2pix.make_sampler = measuring
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
@needs_peak_memory
def test_memory_does_not_grow_over_epochs(noise_features, tmp_path):
    pieces = {"one": 3, "two": 1}
    features = noise_features(tmp_path / "features", {"piano": pieces, "guitar": pieces})
    argv = (
        f"--dataset_path {features} --origin piano --target guitar --base_filters 8 --batch_size 2 --gpu -1 "
        f"--validation_split 0.25 --epochs 20 --models_path {tmp_path / 'models'}"
    ).split()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *argv], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    held = [int(line.split()[1]) / 1e3 for line in done.stdout.splitlines() if line.startswith("VmRSS")]
    assert len(held) == 20
    # What is allocated first settles within some epochs. Weights and moments of these networks are 10 MB: a copy of
    # them kept in every epoch would make 100 in the second half.
    assert max(held[10:]) - max(held[:10]) < 40
