"""The stages of hum2guitar on made guitars: what is written, what stays frozen, what resumes, what is refused."""

import csv
import dataclasses
import os
import signal

import numpy as np
import pytest
from conftest import ROOT
from made_sounds import random_plucks

import model
import predict
import train_hum2guitar
from common import cli, weights
from hum2guitar import dataset, harmonics, networks, stages
from hum2guitar.harmonics import HumRepresentation, mel_to_audio
from hum2guitar.melody import analyse
from models.results import synthesize_voice
from sound.files import read_audio, write_audio
from training import step

RATE = harmonics.PUBLISHED.sample_rate
# Fewer bands and frames than published, and with them one discriminator in place of three: what takes time is tracing.
SMALL = dataclasses.replace(harmonics.PUBLISHED, n_mels=128, n_frames=64)
PAIR = str(ROOT / "models" / "keyboard_acoustic_2_guitar_acoustic" / "generator.h5")
ONE_EPOCH_EACH = ("--n_global_epochs", 1, "--n_fixed_global_epochs", 1, "--n_joint_epochs", 1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for seed in (1, 2, 3):
        write_audio(folder / "guitar" / f"take_{seed}.wav", random_plucks(2, seed, 0.25), RATE)
    write_audio(folder / "hums" / "hum.wav", synthesize_voice(np.full(RATE, 150.0)), RATE)
    return folder


def train(folder, *flags, representation=SMALL, n_discriminators=1) -> int:
    """The command with everything it writes below `folder`; in float32, which is traced faster than mixed precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hum2guitar.harmonics.PUBLISHED", representation)
        patch.setattr("hum2guitar.networks.N_SCALES", n_discriminators)
        arguments = {
            "--guitar_dir": folder / "recordings" / "guitar",
            "--models_path": folder / "models",
            "--out_dir": folder / "output",
            "--features_path": folder / "features",
            "--f0": "cepstrum",
            "--base_filters": 2,
            "--precision": "float32",
            "--gpu": -1,
            "--validation_split": 0.34,
            "--seed": 7,
        }
        given = [part for flag in arguments.items() for part in flag]
        return train_hum2guitar.main([str(argument) for argument in [*given, *flags]])


@pytest.fixture(scope="module")
def trained(recordings, tmp_path_factory):
    """All three stages, an epoch of two steps each."""
    folder = tmp_path_factory.mktemp("trained")
    os.symlink(recordings, folder / "recordings")
    hums = ["--humming_dir", recordings / "hums", "--plot_interval", 2]
    assert train(folder, *ONE_EPOCH_EACH, *hums) == 0
    return folder


def arrays(path) -> dict[tuple[str, str], np.ndarray]:
    """By the names of the layer and of the array."""
    return {(layer, name): a for layer, members in weights.read(path).items() for name, a in members.items()}


@pytest.mark.slow
def test_the_frozen_stage_changes_no_global_weight_and_the_joint_one_does(trained):
    run = trained / "models" / "hum2guitar"
    of_global, frozen, joint = (arrays(run / stage / "generator.h5") for stage in stages.STAGES)
    shared = [key for key in frozen if key[0].startswith("global_")]
    assert len(shared) == 2 * 13
    for key in shared:
        np.testing.assert_array_equal(frozen[key], of_global[key])
        assert not np.array_equal(joint[key], frozen[key])
    assert all(not np.array_equal(joint[key], frozen[key]) for key in frozen.keys() - shared)


@pytest.mark.slow
def test_every_stage_leaves_history_samples_and_log(trained):
    run = trained / "models" / "hum2guitar"
    for stage in stages.STAGES:
        with (run / stage / "history.csv").open() as file:
            (row,) = csv.DictReader(file)
        for column in ("generator_loss", "discriminator_loss", "adversarial", "feature_matching", "mae", "val_mae"):
            assert np.isfinite(float(row[column]))
        for folder in (run / stage / "samples/001", trained / "output/hum2guitar" / stage / "step_0000002"):
            names = {f"{name}.{kind}" for name in ("guitar", "humming") for kind in ("png", "wav")}
            assert {path.name for path in folder.iterdir()} == names
            assert len(read_audio(folder / "humming.wav", None)) == SMALL.segment_samples
    log = (trained / "output" / "log.txt").read_text().splitlines()
    assert log[::4] == list(stages.STAGES)  # title, columns, one epoch, an empty line
    assert "feature_matching" in log[1]


@pytest.mark.slow
def test_the_weights_file_describes_itself_and_converts(trained, tmp_path):
    path = trained / "models" / "hum2guitar" / "generator.h5"
    description = weights.describe(path)
    assert (description.system, description.network) == ("hum2guitar", weights.LOCAL_ENHANCER)
    kept = weights.read_representation(HumRepresentation, description.settings["representation"], path)
    assert dataclasses.replace(kept, f0_low=SMALL.f0_low, f0_high=SMALL.f0_high) == SMALL
    assert 100 < kept.f0_low < kept.f0_high < 500  # what the recordings play
    source, output = trained / "recordings" / "hums" / "hum.wav", tmp_path / "out.wav"
    arguments = ["--model", path, "--input", source, "--output", output, "--gpu", "-1"]
    assert predict.main([str(argument) for argument in arguments]) == 0
    assert len(read_audio(output, None)) == RATE
    before = path.read_bytes()
    assert train(trained, *ONE_EPOCH_EACH) == 0  # complete: nothing more is trained
    assert path.read_bytes() == before


@pytest.mark.slow
def test_pretrained_weights_replace_the_first_stage_and_an_interruption_changes_nothing(
    trained, tmp_path, recordings, monkeypatch
):
    """Interrupted in the second stage, the run ends with the weights of the whole one, whose first stage it was given.

    Which also shows that each stage begins with what the one before has left, however it was left.
    """
    os.symlink(recordings, tmp_path / "recordings")
    whole, run = (folder / "models" / "hum2guitar" for folder in (trained, tmp_path))
    flags = ["--pretrained_global", whole / "1_global" / "generator.h5", *ONE_EPOCH_EACH, "--plot_interval", 1]
    interrupted_at = []

    def make_interrupting(generator, stage, *_):
        def sample(folder):
            if (stage, folder.name) == ("2_local", "step_0000001") and not interrupted_at:
                interrupted_at.append(folder)
                signal.raise_signal(signal.SIGINT)
            return []

        return sample

    monkeypatch.setattr("hum2guitar.stages.make_sampler", make_interrupting)
    assert train(tmp_path, *flags) == cli.INTERRUPTED
    assert not (run / "3_joint").exists()
    assert train(tmp_path, *flags) == 0
    assert not (run / "1_global").exists()
    for stage in ("2_local", "3_joint"):
        for name in ("generator.h5", "discriminator.h5"):
            expected, found = arrays(whole / stage / name), arrays(run / stage / name)
            assert expected.keys() == found.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array)


@pytest.mark.slow
def test_a_few_seconds_of_guitar_are_learnt(tmp_path, monkeypatch):
    """Four segments by heart: three times nearer than the harmonics, and playing the melody (on half the bands)."""
    folder, n = tmp_path / "recordings" / "guitar", 4
    audio = random_plucks(6, 0, 0.25)
    audio += 1e-3 * np.random.default_rng(0).standard_normal(len(audio)).astype(np.float32)
    for copy in range(5):  # long epochs, because plots and samples at their ends take longer than steps
        write_audio(folder / f"take_{copy}.wav", audio, RATE)
    small = dataclasses.replace(harmonics.PUBLISHED, n_frames=64)
    stages = ["--n_global_epochs", 6, "--n_fixed_global_epochs", 0, "--n_joint_epochs", 0, "--validation_split", 0]
    learning = ["--base_filters", 4, "--lr", 2e-3, "--f0", "swiftf0", "--precision", "auto"]
    assert train(tmp_path, *stages, *learning, representation=small, n_discriminators=3) == 0
    generator = networks.build_global_generator(4)
    model.load_into(generator, tmp_path / "models" / "hum2guitar" / "generator.h5")
    monkeypatch.setattr("hum2guitar.harmonics.PUBLISHED", small)
    features = dataset.prepare(folder, tmp_path / "features", "swiftf0")
    batches = dataset.HumBatches(features, features.segments[:n], n, 0, halve=True, shuffle=False)
    inputs, target = batches.load(0)
    output = np.asarray(generator(inputs))
    assert np.abs(output - target).mean() < np.abs(inputs - target).mean() / 3
    right = voiced = 0
    for predicted, true in zip(output[..., 0], target[..., 0], strict=True):
        heard, expected = (
            analyse(mel_to_audio(harmonics.mel_power(harmonics.double_bins(level)))[: small.segment_samples - 1])[0]
            for level in (predicted, true)
        )
        both = (heard > 0) & (expected > 0)
        cents = 1200 * np.abs(np.log2(heard[both] / expected[both]))
        right, voiced = right + np.count_nonzero(cents < 50), voiced + np.count_nonzero(expected)
    assert right > 0.9 * voiced


def test_the_objective_and_the_optimizers_are_those_of_the_second_system():
    made = stages.build_networks(stages.GLOBAL, [], 2, "float32", 0, 30.0)
    shares = {name: share for name, (share, _) in made.objective.generator.items()}
    assert shares == {"adversarial": 1, "feature_matching": 10, "mae": 30}
    assert isinstance(made.generator_optimizer, step.AdaBelief)
    assert made.instance_noise == 0.1


@pytest.mark.parametrize(
    ("epochs", "begun", "fresh", "expected"),
    [
        ((1, 1, 1), "", False, {"1": [], "2": ["1/g"], "3": ["2/g", "2/d"]}),
        ((1, 0, 1), "", False, {"1": [], "3": ["1/g"]}),
        ((0, 1, 1), "1", False, {"2": ["1/g"], "3": ["2/g", "2/d"]}),
        ((0, 0, 1), "12", False, {"3": ["2/g", "2/d"]}),
        ((1, 1, 1), "12", False, {"2": [], "3": ["2/g", "2/d"]}),
        ((1, 1, 1), "2", False, {"2": [], "3": ["2/g", "2/d"]}),  # the first stage has been deleted
        ((1, 1, 1), "3", False, {"3": []}),
        ((1, 1, 1), "123", True, {"1": [], "2": ["1/g"], "3": ["2/g", "2/d"]}),
    ],
)
def test_stages_begin_with_the_weights_of_those_before_and_go_on_without(tmp_path, epochs, begun, fresh, expected):
    folders = dict(zip("123", stages.STAGES, strict=True))
    for number in begun:
        (tmp_path / folders[number]).mkdir()
        (tmp_path / folders[number] / "generator.h5").touch()
    files = {"g": "generator.h5", "d": "discriminator.h5"}
    starts = {
        folders[number]: [tmp_path / folders[place[0]] / files[place[2]] for place in places]
        for number, places in expected.items()
    }
    assert stages.plan(dict(zip(stages.STAGES, epochs, strict=True)), {}, tmp_path, fresh) == starts


def test_an_exported_model_is_not_written_over(recordings, tmp_path, write_hum2guitar, capsys):
    os.symlink(recordings, tmp_path / "recordings")
    path = write_hum2guitar(tmp_path / "models" / "hum2guitar" / "generator.h5", exported=True)
    before = path.read_bytes()
    assert train(tmp_path) == 2
    assert "--models_path" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["generator.h5"]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--guitar_dir", "nowhere"], "--guitar_dir: expected a folder"),
        (["--pretrained_global", "nowhere.h5"], "nowhere.h5"),
        (["--pretrained_local", PAIR], f"{PAIR}: expected the weights of a local_enhancer"),
        (["--n_global_epochs", "0"], "--n_global_epochs"),
        (["--humming_dir", "nowhere"], "--humming_dir: expected a folder"),
        (["--name", "../x"], "--name: expected letters"),
        (["--out_dir", __file__], "--out_dir"),
        (["--models_path", __file__, "--guitar_dir", "nowhere"], "--models_path"),  # found before any data
        (["--batch_size", "100"], "--batch_size"),
        (["--n_global_epochs", "0", "--n_fixed_global_epochs", "0", "--n_joint_epochs", "0"], "--n_joint_epochs"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(recordings, tmp_path, capsys, flags, text):
    os.symlink(recordings, tmp_path / "recordings")
    try:
        status = train(tmp_path, *flags)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2
    assert text in said.splitlines()[-1]
    assert not (tmp_path / "models").exists()
