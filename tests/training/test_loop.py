"""The training loop: its step against plain eager code, and runs that end the same wherever they were interrupted."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from made_runs import RATES, Trainer, history_of, make_networks, untimed
from made_weights import arrays_of

import model
from common import InputError, weights
from data import to_network
from training import checkpoints, dataset, loop
from training.dataset import Batches, read_level

keras = tf.keras


@pytest.fixture(scope="module")
def features(tmp_path_factory, noise_features):
    pieces = {"bach": 5, "satie": 2}
    return noise_features(tmp_path_factory.mktemp("features"), {"piano": pieces, "guitar": pieces})


@pytest.fixture(scope="module")
def module_trainer(features):
    return Trainer(features)


@pytest.fixture
def trainer(module_trainer):
    """Five slices in steps of two, two and one; two more are held out."""
    module_trainer.around_step = lambda number, call: call()
    assert (len(module_trainer.training_rows), len(module_trainer.validation_rows)) == (5, 2)
    return module_trainer


@pytest.fixture(scope="module")
def whole(module_trainer, tmp_path_factory):
    """The folder and the final values of a run of two epochs that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    module_trainer.around_step = lambda number, call: call()
    module_trainer.fit(folder)
    return folder, module_trainer.values()


def assert_same_as(whole, trainer, folder, files=("generator.h5", "discriminator.h5", "generator_best.h5")):
    """The run in `folder` has come out as the uninterrupted one: to the bit."""
    reference, values = whole
    found = trainer.values()
    assert all(np.array_equal(found[name], values[name]) for name in values)
    assert untimed(history_of(folder)) == untimed(history_of(reference))
    for name in files:
        ours, theirs = (arrays_of(where / name) for where in (folder, reference))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert weights.describe(folder / name).settings == weights.describe(reference / name).settings


# --- the step ---------------------------------------------------------------------------------------------------------


def eager_step(trainer, inputs, target, rates):
    """Losses, gradients and updated weights of one batch, written down once more without the training code."""
    generator, discriminator = model.build_generator(1, 2, seed=1), model.build_discriminator(2, seed=2)
    for network, name in ((generator, "generator"), (discriminator, "discriminator")):
        for index, variable in enumerate(network.variables):
            variable.assign(trainer.initial[f"{name}/{index:03d}"])
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    with tf.GradientTape(persistent=True) as tape:
        output = generator(inputs, training=True)
        real = discriminator([inputs, target], training=True)[-1]
        fake = discriminator([inputs, output], training=True)[-1]
        adversarial, mae = bce(tf.ones_like(fake), fake), tf.reduce_mean(tf.abs(target - output))
        total = adversarial + 100 * mae
        judged = bce(tf.ones_like(real), real) + bce(tf.zeros_like(fake), fake)
    found = {"adversarial": adversarial, "mae": mae, "generator_loss": total, "discriminator_loss": judged}
    gradients = {}
    for network, loss, rate in ((generator, total, rates[0]), (discriminator, judged, rates[1])):
        gradients[network.name] = [g.numpy() for g in tape.gradient(loss, network.trainable_variables)]
        keras.optimizers.Adam(rate, beta_1=0.5).apply(gradients[network.name], network.trainable_variables)
    return {name: float(value) for name, value in found.items()}, gradients, generator, discriminator


def test_step_is_that_of_plain_eager_code(trainer):
    inputs, target = (tf.constant(array) for array in trainer.training_batches().load(0))
    rates = (1e-2, 3e-3)
    expected, gradients, *networks = eager_step(trainer, inputs, target, rates)
    trainer.reset()
    found = trainer.step(inputs, target, *(tf.constant(rate) for rate in rates), tf.constant(0))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5)
    trained, n_clear = trainer.networks, 0
    for ours, theirs, optimizer in (
        (trained.generator, networks[0], trained.generator_optimizer),
        (trained.discriminator, networks[1], trained.discriminator_optimizer),
    ):
        moments = optimizer.variables[2::2]  # iterations, learning rate, then m and v of each variable
        of_network = gradients[theirs.name]
        assert len(moments) == len(of_network)
        for variable, other, moment, gradient in zip(
            ours.trainable_variables, theirs.trainable_variables, moments, of_network, strict=True
        ):
            np.testing.assert_allclose(moment.numpy(), 0.5 * gradient, atol=1e-5, rtol=1e-4)  # beta_1 is 0.5
            clear = np.abs(gradient) > 1e-4  # Adam's first step follows the sign: of noise where there is no more
            np.testing.assert_allclose(variable.numpy()[clear], other.numpy()[clear], atol=1e-5)
            n_clear += clear.sum()
        for variable, other in zip(ours.non_trainable_variables, theirs.non_trainable_variables, strict=True):
            np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-5)  # moving averages, dropout's seeds
    assert n_clear > 5000


def test_rates_are_those_of_the_schedule(trainer, tmp_path):
    """Six steps of the linear schedule: full rate at once, from the middle on down to a third."""
    trainer.fit(tmp_path / "m", lr_schedule="linear")
    factors = np.array([1, 1, 1, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(trainer.rates, factors[:, None] * list(RATES.values()), rtol=1e-6)
    assert [float(row["generator_lr"]) for row in history_of(tmp_path / "m")] == pytest.approx([2e-3, 2e-3 / 3])


# --- interruptions ----------------------------------------------------------------------------------------------------


def signalled_after(number, which):
    """A signal arrives while step `number` is at work."""

    def around(at, call):
        values = call()
        if at == number:
            signal.raise_signal(which)
        return values

    return around


def test_ctrl_c_sigterm_in_any_step_and_a_damaged_state(trainer, whole, tmp_path):
    """A signal leaves the state of its step; with that one damaged, the run goes on from the one before."""
    folder, number = tmp_path / "m", random.Random().randrange(3, 6)
    before = signal.getsignal(signal.SIGINT)  # shells start background jobs with SIGINT ignored
    trainer.around_step = signalled_after(1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(folder)
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoints.states(folder)[-1].stem == "state-000000002"
    trainer.around_step = signalled_after(number, signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        trainer.fit(folder)
    assert stopped.value.code == 143
    assert [path.stem for path in checkpoints.states(folder)] == ["state-000000003", f"state-{number + 1:09d}"]
    trainer.around_step = lambda _, call: call()
    newest = checkpoints.states(folder)[-1]
    if number == 5:
        newest.write_bytes(newest.read_bytes()[:-100])
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


def test_full_disk_while_a_state_is_written(trainer, whole, tmp_path, monkeypatch):
    folder = tmp_path / "m"

    def full(_):
        if len(checkpoints.states(folder)) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            trainer.fit(folder)
    assert "state-000000006" in caught.value.filename
    assert checkpoints.states(folder)[-1].stem == "state-000000003"
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


# Trains in a process of its own until it is killed, with a state after each step.
TRAINER = """
import pathlib, sys
from made_runs import Trainer
from training import loop
loop.CHECKPOINT_SECONDS = 0
Trainer(pathlib.Path(sys.argv[1])).fit(pathlib.Path(sys.argv[2]), epochs=1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(int(os.environ.get("KILLS", "1"))))
def test_killed_at_a_random_moment_and_resumed(trainer, features, tmp_path, number):
    """What a kill leaves on disk is whole, and resumes to what an uninterrupted run comes to."""
    folder = tmp_path / "m"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen([sys.executable, "-c", TRAINER, str(features), str(folder)], env=environment) as process:
        n_steps = random.Random().randrange(2, 8)
        while process.poll() is None and not any(int(p.stem[6:]) >= n_steps for p in checkpoints.states(folder)):
            time.sleep(0.001)
        process.kill()
    for path in folder.glob("*.h5"):
        weights.read(path)
    with zipfile.ZipFile(checkpoints.states(folder)[-1]) as archive:
        epoch = json.loads(archive.read("progress.json"))["progress"]["epoch"] + 1
    trainer.fit(folder, epochs=epoch)
    resumed = trainer.values()
    trainer.fit(tmp_path / "whole", epochs=epoch)
    assert all(np.array_equal(value, resumed[name]) for name, value in trainer.values().items())
    assert untimed(history_of(folder)) == untimed(history_of(tmp_path / "whole"))
    best = (arrays_of(where / "generator_best.h5") for where in (folder, tmp_path / "whole"))
    assert all(np.array_equal(a, b) for a, b in zip(*best, strict=True))
    assert not [path for path in folder.rglob("*") if ".part" in path.name or path.name == ".lock"]


# --- how far ----------------------------------------------------------------------------------------------------------


def test_max_steps_then_to_the_end(trainer, whole, tmp_path):
    folder = tmp_path / "m"
    trainer.fit(folder, max_steps=4)
    assert [row["step"] for row in history_of(folder)] == ["3", "4"]
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    assert trainer.fit(folder, max_steps=4).step == 1
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder, ["generator.h5", "discriminator.h5"])  # the best may be that of step 4


def test_patience_and_the_best_weights(trainer, tmp_path, monkeypatch, capsys):
    folder, kept, maes = tmp_path / "m", [], iter([0.5, 0.25, 0.375, 0.375, 0.125])  # validation MAE of each epoch

    def evaluation(*_):
        return {"val_mae": tf.constant(next(maes)), "val_copy_mae": tf.constant(0.75)}

    monkeypatch.setattr(trainer, "evaluation", evaluation)
    options = {"epochs": 9, "patience": 2, "batch_size": 5, "flags": {"batch_size": 5}}
    progress = trainer.fit(folder, lambda _: kept.append(trainer.values()) or [], **options)
    assert progress.epoch == 4
    assert (progress.best, progress.waited) == (0.25, 2)
    best, last = (weights.describe(folder / name).settings for name in ("generator_best.h5", "generator.h5"))
    assert (best["epoch"], best["validation_mae"]) == (2, 0.25)
    assert (last["epoch"], last["validation_mae"]) == (4, 0.375)
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"{folder / 'generator_best.h5'} (epoch 2)" in said
    assert "0.7500" in said
    trained = [value for name, value in kept[1].items() if name.startswith("generator/") and value.dtype == np.float32]
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(folder / "generator_best.h5"), trained, strict=True))
    trainer.fit(folder, **options)
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_epochs_are_counted_on_from_bare_weights(trainer, tmp_path):
    """``--epochs 1 --epoch_offset 5`` is epoch 6, as published; without the flag the number in the file counts."""
    folder, generator = tmp_path / "m", model.build_generator(1, 2, seed=77)
    discriminator = model.build_discriminator(2, seed=78)
    with pytest.raises(InputError):  # no weights
        trainer.fit(folder, epoch_offset=5, epochs=1)
    model.save(generator, folder / "generator.h5", {})
    with pytest.raises(InputError):  # nothing says how long they were trained for
        trainer.fit(folder)
    model.save(discriminator, folder / "discriminator.h5", {})
    started_from = []
    trainer.around_step = lambda _, call: started_from.append(trainer.values()) or call()
    trainer.fit(folder, epoch_offset=5, epochs=1)
    for network, name in ((generator, "generator"), (discriminator, "discriminator")):
        assert np.array_equal(started_from[0][f"{name}/000"], network.get_weights()[0])
    assert [(row["epoch"], row["step"]) for row in history_of(folder)] == [("6", "18")]
    trainer.fit(folder, epoch_offset=4, epochs=2)  # the state knows where it is
    assert [row["epoch"] for row in history_of(folder)] == ["6", "7"]
    model.save(generator, tmp_path / "other" / "generator.h5", {"epoch": 3})
    trainer.fit(tmp_path / "other", epochs=4, max_steps=1)
    [row] = history_of(tmp_path / "other")
    assert (row["epoch"], row["step"]) == ("4", "10")  # after 3 of 3 steps


def test_other_settings_are_named_and_another_network_is_refused(trainer, tmp_path, capsys):
    folder = tmp_path / "m"
    trainer.fit(folder, max_steps=2)
    capsys.readouterr()
    trainer.fit(folder, max_steps=3, batch_size=1, flags={"batch_size": 1, "gen_lr": 0.25})
    said = capsys.readouterr().out
    assert "batch_size 1 (started with 2)" in said
    assert "gen_lr 0.25 (started with 0.002)" in said
    assert "step 4" in said  # of five: the same share of the epoch
    array = np.zeros((4, 4, 1, 64), np.float32)
    checkpoints.save(folder, 99, [("generator/000", array)], {"base_filters": 64}, checkpoints.Progress())
    path = checkpoints.states(folder)[-1]
    content = path.read_bytes()
    with pytest.raises(InputError) as caught:
        trainer.fit(folder, flags={"base_filters": 2})
    assert "--base_filters 64" in str(caught.value)
    assert path.read_bytes() == content


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_loss_or_a_weight_that_is_no_number_stops_the_run(trainer, whole, tmp_path):
    """Nothing with NaN is kept; the same command goes on from the last good state."""
    folder = tmp_path / "m"

    def bad_loss(at, call):
        values = call()
        return {**values, "mae": tf.constant(float("nan"))} if at == 4 else values

    def bad_weight(at, call):  # the losses of the last step are finite, its update is not
        values = call()
        if at == 5:
            kernel = trainer.networks.generator.trainable_variables[0]
            kernel.assign(np.full(kernel.shape, np.inf))
        return values

    for around in (bad_loss, bad_weight):
        trainer.around_step = around
        with pytest.raises(InputError) as caught:
            trainer.fit(folder)
        assert f"step {2 if around is bad_loss else 3} of epoch 2" in str(caught.value)
        assert checkpoints.states(folder)[-1].stem == "state-000000003"
        assert np.isfinite(arrays_of(folder / "generator.h5")[0]).all()
    trainer.around_step = lambda _, call: call()
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


def test_history_holds_means_over_slices(trainer, tmp_path):
    """The last batch has one slice instead of two and counts half as much; validation is that of the last weights."""
    seen = []
    trainer.around_step = lambda _, call: seen.append(call()) or seen[-1]
    trainer.fit(tmp_path / "m", epochs=1)
    [row] = history_of(tmp_path / "m")
    assert list(row) == [
        "epoch", "step", "generator_lr", "discriminator_lr", "generator_loss", "mae", "adversarial",
        "discriminator_loss", "val_mae", "val_generator_loss", "val_discriminator_loss", "val_copy_mae", "seconds",
        "slices_per_second",
    ]  # fmt: skip
    maes = [float(values["mae"]) for values in seen]
    assert float(row["mae"]) == pytest.approx((2 * maes[0] + 2 * maes[1] + maes[2]) / 5)
    inputs, target = trainer.validation_batches().load(0)
    output = trainer.networks.generator(inputs, training=False).numpy()
    assert float(row["val_copy_mae"]) == pytest.approx(np.abs(inputs - target).mean(), rel=1e-5)
    assert float(row["val_mae"]) == pytest.approx(np.abs(output - target).mean(), rel=1e-5)


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_multitarget_follows_the_style(tmp_path, note_features):
    """For one input, the output is much nearer to the target whose style was given, for both styles."""
    instruments = {"piano": (1.5, 3.0), "guitar": (0.8, 1.5), "flute": (3.0, 0.5)}
    made = note_features(tmp_path / "features", instruments, 4)
    pairs = dataset.find_pairs(made, ["piano"], ["guitar", "flute"])
    networks = make_networks(4, in_channels=2, seed=0)
    batches = Batches(pairs, np.tile(pairs.samples, (40, 1)), 4, 0, style=True)  # 80 steps
    options = {"generator_rate": 1e-2, "discriminator_rate": 2e-4, "epochs": 1, "lr_schedule": "linear"}
    loop.fit(loop.Run(networks, batches, None, lambda _: None, tmp_path / "model", {}, {}, **options))
    levels = {
        name: to_network(np.stack([read_level(made / name / f"piece_{i:03d}.npy", (256, 256, 1)) for i in range(4)]))
        for name in instruments
    }
    for style, other in (("guitar", "flute"), ("flute", "guitar")):
        inputs = np.concatenate([levels["piano"], np.roll(levels[style], 1, axis=0)], axis=-1)  # of another slice
        output = networks.generator(inputs, training=False).numpy()
        assert np.abs(output - levels[style]).mean() < 0.7 * np.abs(output - levels[other]).mean()
