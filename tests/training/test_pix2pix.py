"""The Pix2Pix models put together: initial weights, voices, exact resume with augmentation, bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, needs_peak_memory
from made_weights import arrays_of

import model
import train
import train_generator
from training import checkpoints


def test_init_starts_from_weights_of_other_instruments(voices, write_generator, tmp_path, monkeypatch, capsys):
    """The best weights of a folder, with the discriminator beside them, and epochs from 1; a state goes before them."""
    started, source = [], tmp_path / "flute_2_harp"
    last = write_generator(source / "generator.h5", base_filters=2, seed=1)
    best = write_generator(source / "generator_best.h5", base_filters=2, seed=2, origin="flute", epoch=90)
    judge = model.build_discriminator(2, seed=7)
    model.save(judge, source / "discriminator.h5", {})
    monkeypatch.setattr("training.loop.fit", started.append)
    argv = (
        f"--dataset_path {voices} --origin piano --target guitar --gpu -1 --base_filters 2 --batch_size 2 "
        f"--precision float32 --models_path {tmp_path / 'models'} --epochs 2 --init"
    ).split()
    for init, expected in ((source, best), (last, last)):
        assert train.main([*argv, str(init)]) == 0
        networks = started[-1].networks
        assert_same_weights(networks.generator, arrays_of(expected))
        assert_same_weights(networks.discriminator, judge.get_weights())
        assert started[-1].settings.epoch_offset is None
    checkpoints.save(started[-1].settings.folder, 1, [], {})
    capsys.readouterr()
    assert train.main([*argv, str(tmp_path / "deleted.h5")]) == 0  # the same command again goes on from the state
    assert "goes on from its own state" in capsys.readouterr().out


def assert_same_weights(network, expected):
    found = [weight.numpy() for weight in network.weights if "seed_generator" not in weight.path]
    assert all(np.array_equal(array, other) for array, other in zip(found, expected, strict=True))


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
    assert len(held) == 21  # the first from before the first step, when drawing is tried
    del held[0]
    # What is allocated first settles within some epochs. Weights and moments of these networks are 10 MB: a copy of
    # them kept in every epoch would make 100 in the second half.
    assert max(held[10:]) - max(held[:10]) < 40


def train_guitar(features, models, *flags):
    """Train a small generator on both voices of a piano; the exit status."""
    argv = (
        f"--dataset_path {features} --origin piano --target guitar --gpu -1 --base_filters 2 --batch_size 2 "
        f"--validation_split 0.25 --lr 1e-3 --precision float32 --models_path {models} --augment"
    )
    return train_generator.main([*argv.split(), *flags])


@pytest.fixture(scope="module")
def voices(tmp_path_factory, noise_features):
    pieces = {"bach": 1, "satie": 1, "chopin": 1, "grieg": 1}
    slices = {"piano@a": pieces, "piano@b": pieces, "guitar": pieces}
    return noise_features(tmp_path_factory.mktemp("voices"), slices)


@pytest.mark.slow
def test_a_resumed_run_with_augmentation_ends_with_the_same_weights(voices, tmp_path):
    """Interrupted in the middle of the second of two epochs of three steps."""
    assert train_guitar(voices, tmp_path / "whole", "--epochs", "2") == 0
    assert train_guitar(voices, tmp_path / "parts", "--epochs", "2", "--max_steps", "4") == 0
    assert train_guitar(voices, tmp_path / "parts", "--epochs", "2") == 0
    whole, parts = (arrays_of(tmp_path / name / "piano_2_guitar_generator/generator.h5") for name in ("whole", "parts"))
    for expected, found in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_target_with_several_voices_has_to_be_one_of_them(voices, tmp_path, capsys):
    argv = ["--dataset_path", str(voices), "--origin", "guitar", "--models_path", str(tmp_path / "models")]
    assert train_generator.main([*argv, "--target", "piano"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--target: expected one voice of piano, found 2: name one of piano@a, piano@b" in err
