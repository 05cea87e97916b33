"""The train commands as they are called: bad input in one line, and one real run."""

import pathlib

import pytest

import data
import evaluate
import train
import train_generator
import train_multitarget

ROOT = pathlib.Path(train.__file__).parent
SCRIPTS = {"train": train, "train_multitarget": train_multitarget, "train_generator": train_generator}


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
    ("findlr_steps", "7", "at least 50"),
    ("findlr", "perhaps", "True or False"),
    ("lr_schedule", "cosine", "constant"),
    ("precision", "float8", "mixed_bfloat16"),
    ("gpu", "-2", "at least -1"),
    ("patience", "0", "at least 1"),
])  # fmt: skip
def test_faulty_values_name_the_flag(refused, flag, value, expected):
    said = refused("train", **{flag: value})
    assert f"--{flag}" in said
    assert expected in said


@pytest.mark.parametrize("flag", ["--dataset", "--dataset_path"])
def test_features_have_one_name_in_training_and_evaluation(flag, tmp_path, capsys):
    missing = str(tmp_path / "missing")
    flags = [flag, missing, "--origin", "a", "--target", "b"]
    for command, others in ((train, ["--models_path", str(tmp_path)]), (evaluate, ["--audios_path", str(tmp_path)])):
        assert command.main([*flags, *others]) == 2
        assert missing in capsys.readouterr().err


def test_patience_without_validation(refused):
    assert "--patience" in refused("train", batch_size=1, patience=3, validation_split=0)


@pytest.mark.parametrize(("settings", "flags", "expected"), [
    ({"base_filters": 4}, {"base_filters": 2}, "--base_filters 4"),
    ({"in_channels": 2}, {}, "train_multitarget.py"),
    ({"representation": {**data.PUBLISHED.to_dict(), "hop_length": 256}}, {}, "--dataset_path"),
    ({}, {"epoch_offset": 3}, "--epoch_offset"),
])  # fmt: skip
def test_initial_weights_that_do_not_fit(refused, tmp_path, write_generator, settings, flags, expected):
    path = write_generator(tmp_path / "generator.h5", **settings)
    assert expected in refused("train", **{"batch_size": 1, "base_filters": 4, "init": path, **flags})


def test_initial_weights_that_are_no_generator(refused, tmp_path, write_hum2guitar):
    assert "found nothing" in refused("train", batch_size=1, init=tmp_path / "missing.h5")
    path = write_hum2guitar(tmp_path / "hum.h5")
    assert "--init: expected the weights" in refused("train", batch_size=1, init=path)


def test_unknown_flags_are_not_guessed(refused):
    assert "--batch" in refused("train", batch=2)
    assert "--gen_lr" in refused("train_generator", gen_lr=1e-4)  # it is --lr there


@pytest.mark.parametrize(("script", "flag"), [("train", "gen_lr"), ("train", "disc_lr"), ("train_generator", "lr")])
def test_auto_without_a_suggestion(refused, script, flag):
    said = refused(script, batch_size=1, **{flag: "auto"})
    assert "--findlr" in said
    assert "lr_finder.json" in said


@pytest.mark.parametrize(("words", "expected"), [
    ([], False), (["--findlr"], True), (["--findlr", "True"], True), (["--findlr", "False"], False),
    (["--findlr=false"], False), (["--findlr", "1"], True), (["--findlr", "--epochs", "3"], True),
])  # fmt: skip
@pytest.mark.parametrize("script", SCRIPTS)
def test_findlr_means_what_it_says(monkeypatch, script, words, expected):
    seen = []
    monkeypatch.setattr(f"{script}.{script}", lambda arguments: seen.append(arguments) or 0)
    argv = ["--dataset_path", "d", "--origin", "a", "--target", "b", *words]
    assert SCRIPTS[script].main(argv) == 0
    assert seen[0].findlr is expected
    assert (seen[0].batch_size, seen[0].models_path) == (8, "trained")
