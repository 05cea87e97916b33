"""The train commands as they are called: bad input in one line, and one real run."""

import pytest

import data
import train


@pytest.mark.parametrize("script", ["train", "train_multitarget", "train_generator"])
def test_what_does_not_fit_the_data_names_the_flag(refused, script, tmp_path, write_hum2guitar):
    rate = {"train_generator": "lr"}.get(script, "gen_lr")
    for options, words in (
        ({"dataset_path": tmp_path / "missing"}, ["--dataset_path"]),
        ({"dataset_path": tmp_path / "missing", "models_path": __file__}, ["--models_path"]),  # found before any data
        ({"origin": "harpsichord"}, ["--origin", "guitar_acoustic, keyboard_acoustic, string_acoustic", "harpsichord"]),
        ({"target": "harpsichord"}, ["--target"]),
        ({"batch_size": 4}, ["--batch_size", "3 slices"]),
        ({"batch_size": 1, "patience": 3, "validation_split": 0}, ["--patience"]),
        ({"batch_size": 1, rate: "auto"}, ["--findlr", "lr_finder.json"]),
        ({"batch": 2}, ["--batch"]),
        ({"batch_size": 0}, ["--batch_size"]),
        ({rate: "fast"}, [f"--{rate}"]),
        ({"validation_split": 1}, ["--validation_split"]),
        ({"findlr": "perhaps"}, ["--findlr"]),
        ({"batch_size": 1, "init": tmp_path / "missing.h5"}, ["missing.h5"]),
        ({"batch_size": 1, "init": write_hum2guitar(tmp_path / "hum.h5")}, ["hum.h5", "Pix2Pix"]),
    ):
        said = refused(script, **options)
        assert all(word in said for word in words)


@pytest.mark.parametrize(("settings", "flags", "expected"), [
    ({"base_filters": 4}, {"base_filters": 2}, "--base_filters 4"),
    ({"in_channels": 2}, {}, "train_multitarget.py"),
    ({"representation": {**data.PUBLISHED.to_dict(), "hop_length": 256}}, {}, "--dataset_path"),
    ({}, {"epoch_offset": 3}, "--epoch_offset"),
])  # fmt: skip
def test_initial_weights_that_do_not_fit(refused, tmp_path, write_generator, settings, flags, expected):
    path = write_generator(tmp_path / "generator.h5", **settings)
    assert expected in refused("train", **{"batch_size": 1, "base_filters": 4, "init": path, **flags})


@pytest.mark.parametrize(("words", "expected"), [
    ([], False), (["--findlr"], True), (["--findlr", "True"], True), (["--findlr", "False"], False),
    (["--findlr=false"], False), (["--findlr", "1"], True), (["--findlr", "--epochs", "3"], True),
])  # fmt: skip
def test_findlr_means_what_it_says(monkeypatch, words, expected):
    seen = []
    monkeypatch.setattr("train.train", lambda arguments: seen.append(arguments) or 0)
    assert train.main(["--dataset_path", "d", "--origin", "a", "--target", "b", *words]) == 0
    assert seen[0].findlr is expected
    assert (seen[0].batch_size, seen[0].models_path) == (8, "trained")
