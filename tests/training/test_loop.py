"""The training loop: its step against plain eager code, and runs that end the same wherever they were interrupted."""

import contextlib
import errno
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from conftest import ROOT
from made_runs import RATES, Trainer, history_of, make_networks, untimed
from made_weights import arrays_of
from PIL import Image

import model
from common import weights
from common.errors import InputError
from data import to_network
from training import checkpoints, dataset, loop
from training.batches import Batches, read_level

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


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_sigterm_in_any_step_and_resume(trainer, whole, tmp_path, number):
    folder = tmp_path / "m"
    trainer.around_step = signalled_after(number, signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        trainer.fit(folder)
    assert stopped.value.code == 143
    state = checkpoints.load(folder)
    assert state.path.name == f"state-{number + 1:09d}.npz"
    assert 3 * state.run["progress"]["epoch"] + state.run["progress"]["step"] == number + 1
    trainer.around_step = lambda _, call: call()
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


def test_ctrl_c_is_a_keyboard_interrupt_with_the_state_on_disk(trainer, tmp_path):
    before = signal.getsignal(signal.SIGINT)  # shells start background jobs with SIGINT ignored
    trainer.around_step = signalled_after(1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(tmp_path / "m")
    assert checkpoints.load(tmp_path / "m").path.name == "state-000000002.npz"
    assert signal.getsignal(signal.SIGINT) is before


class Killed(BaseException):
    """Stands for a process that ends here; nothing of the project catches it."""


PLACES = [
    (loop, "write_csv", True), (model, "save", False), (loop, "_write_animations", True),
    (checkpoints.os, "fsync", False), (checkpoints, "save", True),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "name", "after"), PLACES, ids=[name for _, name, _ in PLACES])
def test_killed_at_the_end_of_an_epoch_and_resumed(trainer, whole, tmp_path, monkeypatch, owner, name, after):
    """In the second epoch, before or after something is written at its end."""
    folder, function = tmp_path / "m", getattr(owner, name)

    def killed(*arguments):
        in_second_epoch = (folder / "history.csv").exists() and len(checkpoints.states(folder)) == 2
        if in_second_epoch and after:
            function(*arguments)
        if in_second_epoch:
            raise Killed
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Killed):
            trainer.fit(folder)
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


def test_checkpoint_minutes_write_a_state_within_the_epoch(trainer, tmp_path):
    def around(number, call):
        if number == 2:
            raise Killed
        return call()

    trainer.around_step = around
    with pytest.raises(Killed):
        trainer.fit(tmp_path / "m", checkpoint_minutes=1e-9)
    assert checkpoints.load(tmp_path / "m").path.name == "state-000000002.npz"


def test_damaged_newest_state_falls_back(trainer, whole, tmp_path, capsys):
    folder = tmp_path / "m"
    trainer.around_step = signalled_after(3, signal.SIGTERM)
    with pytest.raises(SystemExit):
        trainer.fit(folder)
    trainer.around_step = lambda _, call: call()
    newest = checkpoints.states(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    trainer.fit(folder)
    assert f"{newest}: damaged training state" in capsys.readouterr().out
    assert_same_as(whole, trainer, folder)


def test_same_seed_same_history(trainer, whole, tmp_path):
    trainer.fit(tmp_path / "same")
    assert_same_as(whole, trainer, tmp_path / "same")
    trainer.fit(tmp_path / "other", batches=(trainer.training_batches(seed=1), trainer.validation_batches()))
    assert untimed(history_of(tmp_path / "other")) != untimed(history_of(whole[0]))


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_full_disk_while_a_state_is_written(trainer, whole, tmp_path, monkeypatch):
    folder, written = tmp_path / "m", zipfile.ZipFile.writestr

    def full(archive, *arguments):
        if len(checkpoints.states(folder)) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(archive, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            trainer.fit(folder)
    assert "state-000000006.npz" in caught.value.filename
    assert checkpoints.load(folder).path.name == "state-000000003.npz"
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """A file system of that size; skips where this user may not mount one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("error", [RuntimeError("no locator available\nfor file"), PermissionError(13, "no")], ids=str)
def test_a_sample_that_cannot_be_drawn_costs_no_epoch(trainer, tmp_path, capsys, error):
    def save_samples(folder):
        raise error

    trainer.fit(tmp_path, save_samples=save_samples)
    said = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(said) if "samples could not be drawn" in line)
    assert first < next(i for i, line in enumerate(said) if line.startswith("epoch 1"))
    assert not any(".rehearsal" in path.name for path in tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kilobytes", [600, 1100, 1600])
def test_small_disk(trainer, whole, tmp_path, kilobytes):
    """Wherever it fills up, the error names the file, nothing on the disk is damaged, and with room it goes on."""
    with small_disk(tmp_path / "disk", kilobytes):
        folder = tmp_path / "disk" / "m"
        with pytest.raises((OSError, InputError)) as caught:
            trainer.fit(folder)
        assert str(folder) in f"{caught.value} {getattr(caught.value, 'filename', '')}"
        assert all(not path.name.endswith(".part") and ".part." not in path.name for path in folder.rglob("*"))
        for path in folder.glob("*.h5"):
            weights.read(path)
        for path in checkpoints.states(folder):
            assert all(array is not None for _, array in checkpoints.arrays(path))
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path / "disk")], check=True)
        trainer.fit(folder)
        assert_same_as(whole, trainer, folder)


# --- how far ----------------------------------------------------------------------------------------------------------


def test_max_steps_then_to_the_end(trainer, whole, tmp_path):
    folder = tmp_path / "m"
    trainer.fit(folder, max_steps=4)
    assert [row["step"] for row in history_of(folder)] == ["3", "4"]
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder, ["generator.h5", "discriminator.h5"])  # the best may be that of step 4


def test_complete_run_says_so_and_more_epochs_extend_it(trainer, whole, tmp_path, capsys):
    folder = tmp_path / "m"
    trainer.fit(folder, epochs=1)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    capsys.readouterr()
    progress = trainer.fit(folder, epochs=1)
    assert progress.epoch == 1
    assert "is complete; a larger --epochs" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


def test_patience_and_the_best_weights(trainer, tmp_path, monkeypatch, capsys):
    folder, kept, maes = tmp_path / "m", [], iter([0.5, 0.25, 0.375, 0.375, 0.125])  # validation MAE of each epoch

    def evaluation(*_):
        return {"val_mae": tf.constant(next(maes)), "val_generator_loss": tf.constant(1.0)}

    monkeypatch.setattr(trainer, "evaluation", evaluation)
    options = {"epochs": 9, "patience": 2, "batch_size": 5, "identity": {"batch_size": 5}}
    progress = trainer.fit(folder, lambda _: kept.append(trainer.values()) or [], **options)
    assert progress.epoch == 4
    assert (progress.best, progress.waited) == (0.25, 2)
    best, last = (weights.describe(folder / name).settings for name in ("generator_best.h5", "generator.h5"))
    assert (best["epoch"], best["validation_mae"]) == (2, 0.25)
    assert (last["epoch"], last["validation_mae"]) == (4, 0.375)
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith(f"Best: {folder / 'generator_best.h5'} (epoch 2), validation MAE 0.2500")
    assert f"{progress.copy_mae:.4f}" in said[-1]
    # kept[0] is from before the first step, when drawing is tried.
    trained = [value for name, value in kept[2].items() if name.startswith("generator/") and value.dtype == np.float32]
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(folder / "generator_best.h5"), trained, strict=True))
    trainer.fit(folder, **options)
    again = capsys.readouterr().out.splitlines()
    assert "is complete; a larger --patience" in again[0]
    assert again[-1] == said[-1]


def test_bare_weights_and_epoch_offset(trainer, tmp_path, capsys):
    folder = tmp_path / "m"
    with pytest.raises(InputError, match=r"--epoch_offset: .*found no .*generator\.h5"):
        trainer.fit(folder, epoch_offset=5, epochs=6)
    folder.mkdir(exist_ok=True)
    model.save(model.build_generator(1, 2, seed=77), folder / "generator.h5", {})
    with pytest.raises(InputError, match=r"expected a training state beside these weights.*--epoch_offset N.*--fresh"):
        trainer.fit(folder)  # nothing says how long they were trained for
    with pytest.raises(InputError, match=r"--epochs: .* above the 5 that .*generator\.h5 was trained for, found 2"):
        trainer.fit(folder, epoch_offset=5, epochs=2)
    started_from = []

    def around(number, call):
        if not started_from:
            started_from.append(trainer.values())
        return call()

    trainer.around_step = around
    trainer.fit(folder, epoch_offset=5, epochs=6)
    assert "as epoch 6" in capsys.readouterr().out
    expected = model.build_generator(1, 2, seed=77).get_weights()
    found = [value for name, value in started_from[0].items() if name.startswith("generator/")]
    assert all(np.array_equal(a, b) for a, b in zip([v for v in found if v.dtype == np.float32], expected, strict=True))
    assert [(row["epoch"], row["step"]) for row in history_of(folder)] == [("6", "18")]
    trainer.fit(folder, epoch_offset=4, epochs=7)  # the state knows where it is
    assert "goes on with its own, 5" in capsys.readouterr().out
    assert [row["epoch"] for row in history_of(folder)] == ["6", "7"]


def test_the_epoch_in_the_weights_file_is_the_default_of_epoch_offset(trainer, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    model.save(model.build_generator(1, 2, seed=77), folder / "generator.h5", {"epoch": 3})
    with pytest.raises(InputError, match=r"--epochs: .* above the 3 that"):
        trainer.fit(folder, epochs=3)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    model.save(model.build_generator(1, 1, seed=77), shipped / "generator.h5", {"epoch": 3})
    with pytest.raises(InputError, match=r"another architecture; another --models_path leaves them alone"):
        trainer.fit(shipped, epochs=4)
    trainer.fit(folder, epochs=4, max_steps=1)
    assert [(row["epoch"], row["step"]) for row in history_of(folder)] == [("4", "10")]  # 3 epochs of 3 steps before


def test_training_does_not_write_over_an_exported_model(trainer, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    model.save(model.build_generator(1, 2, seed=77), folder / "generator.h5", {"epoch": 1, "exported": True})
    before = (folder / "generator.h5").read_bytes()
    with pytest.raises(InputError, match=r"--models_path .*--init .*--fresh"):
        trainer.fit(folder)
    assert (folder / "generator.h5").read_bytes() == before
    trainer.fit(folder, fresh=True, max_steps=1)
    assert any(path.read_bytes() == before for path in tmp_path.glob("*/generator.h5"))


def test_fresh_keeps_the_old_folder(trainer, whole, tmp_path, capsys):
    folder = tmp_path / "m"
    trainer.fit(folder, epochs=1)
    generator = (folder / "generator.h5").read_bytes()
    trainer.fit(folder, fresh=True)
    assert "m.old1" in capsys.readouterr().out
    assert (tmp_path / "m.old1" / "generator.h5").read_bytes() == generator
    assert_same_as(whole, trainer, folder)


def test_other_settings_are_named(trainer, tmp_path, capsys):
    folder = tmp_path / "m"
    trainer.fit(folder, max_steps=2)
    capsys.readouterr()
    trainer.fit(folder, batch_size=5, identity={"batch_size": 5, "gen_lr": 1e-3})
    said = capsys.readouterr().out
    assert "batch_size 5 (started with 2)" in said
    assert "gen_lr 0.001 (started with 0.002)" in said
    assert [row["epoch"] for row in history_of(folder)] == ["1", "2"]
    trainer.fit(folder, epochs=3, identity={"batch_size": 2, "gen_lr": 1e-3})
    assert [row["epoch"] for row in history_of(folder)] == ["1", "2", "3"]
    assert "started with 5" in capsys.readouterr().out


def test_state_of_another_network_is_refused(trainer, tmp_path):
    folder = tmp_path / "m"
    foreign = {"identity": {"batch_size": 2, "base_filters": 64}, "progress": {}}
    checkpoints.save(folder, 3, [("generator/000", np.zeros((4, 4, 1, 64), np.float32))], foreign)
    content = checkpoints.states(folder)[0].read_bytes()
    with pytest.raises(InputError, match=r"that of another \(--base_filters 64\); --fresh") as caught:
        trainer.fit(folder)
    assert "\n" not in str(caught.value)
    assert checkpoints.states(folder)[0].read_bytes() == content


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 4])
def test_loss_that_is_no_number_stops_and_names_the_step(trainer, whole, tmp_path, number):
    folder = tmp_path / "m"

    def around(at, call):
        values = call()
        return {**values, "mae": tf.constant(float("nan"))} if at == number else values

    trainer.around_step = around
    state = f"state-{number // 3 * 3:09d}.npz"
    with pytest.raises(InputError, match=rf"mae is nan at step {number + 1} \(epoch {number // 3 + 1}\).*{state}"):
        trainer.fit(folder)
    assert checkpoints.load(folder).path.name == state
    trainer.around_step = lambda _, call: call()
    trainer.fit(folder)
    assert_same_as(whole, trainer, folder)


def test_weights_that_are_no_numbers_are_not_kept(trainer, tmp_path):
    """The losses of the last step are finite, its update is not."""
    folder = tmp_path / "m"

    def around(number, call):
        values = call()
        if number == 5:
            kernel = trainer.networks.generator.trainable_variables[0]
            kernel.assign(np.full(kernel.shape, np.inf))
        return values

    trainer.around_step = around
    with pytest.raises(InputError, match=r"infinite or NaN after the update of step 3 of epoch 2.*000000003\.npz"):
        trainer.fit(folder)
    assert np.isfinite(arrays_of(folder / "generator.h5")[0]).all()
    assert checkpoints.load(folder).path.name == "state-000000003.npz"


def test_history_columns_and_copying(trainer, whole, tmp_path, capsys):
    rows = history_of(whole[0])
    assert list(rows[0]) == [
        "epoch", "step", "generator_lr", "discriminator_lr", "generator_loss", "mae", "adversarial",
        "discriminator_loss", "val_mae", "val_generator_loss", "val_discriminator_loss", "val_copy_mae", "seconds",
        "slices_per_second",
    ]  # fmt: skip
    assert all(float(value) == float(value) for row in rows for value in row.values())
    trainer.fit(tmp_path / "m", epochs=1)
    inputs, target = trainer.validation_batches().load(0)
    said = capsys.readouterr().out
    assert f"copying the input: {np.abs(inputs - target).mean():.4f}" in said
    assert float(history_of(tmp_path / "m")[0]["val_copy_mae"]) == pytest.approx(
        np.abs(inputs - target).mean(), rel=1e-5
    )
    output = trainer.networks.generator(inputs, training=False).numpy()
    assert float(history_of(tmp_path / "m")[0]["val_mae"]) == pytest.approx(np.abs(output - target).mean(), rel=1e-5)
    assert all(character.isprintable() for line in said.splitlines() for character in line)


def test_training_losses_are_means_over_slices(trainer, tmp_path):
    """The last batch has one slice instead of two and counts half as much."""
    seen = []

    def around(number, call):
        values = call()
        seen.append(float(values["mae"]))
        return values

    trainer.around_step = around
    trainer.fit(tmp_path / "m", epochs=1)
    assert float(history_of(tmp_path / "m")[0]["mae"]) == pytest.approx((2 * seen[0] + 2 * seen[1] + seen[2]) / 5)


def test_tensorboard_reads_scalars_pictures_and_audio(trainer, tmp_path):
    """Read with TensorBoard's own reader: tags of one kind each, with what was written under them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    audio = np.sin(np.arange(8000) / 8).astype(np.float32) / 2
    samples = [loop.Sample(name, picture, audio, 8000) for name in ("guitar", "flute")]
    trainer.fit(tmp_path / "m", lambda _: samples, max_steps=1, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "m" / "tensorboard"), {"tensors": 0}).Reload()
    kinds = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
    found = {kind: {tag for tag, other in kinds.items() if other == kind} for kind in ("images", "audio", "scalars")}
    assert found["images"] == {"spectrogram/guitar", "spectrogram/flute"}
    assert found["audio"] == {"audio/guitar", "audio/flute"}
    assert {"mae", "val_mae", "generator_lr"} < found["scalars"]
    [event] = events.Tensors("spectrogram/guitar")
    width, height, png = event.tensor_proto.string_val
    assert (event.step, int(width), int(height)) == (1, 30, 20)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png))), picture)
    [event] = events.Tensors("audio/flute")
    samples, rate = soundfile.read(io.BytesIO(event.tensor_proto.string_val[0]))
    assert rate == 8000
    np.testing.assert_allclose(samples, audio, atol=2**-14)
    [event] = events.Tensors("mae")
    assert tf.make_ndarray(event.tensor_proto) == pytest.approx(float(history_of(tmp_path / "m")[0]["mae"]))


def test_disk_that_is_too_small_is_foreseen(trainer, tmp_path, monkeypatch, capsys):
    usage = loop.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    trainer.fit(tmp_path / "m", max_steps=1)
    assert re.search(r"Warning: .* has 0\.0 GB free, this run needs about", capsys.readouterr().out)


def test_animations_of_many_epochs_take_evenly_chosen_ones_of_the_last_ones_size(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr("training.loop.MAX_FRAMES", 5)

    def save_samples(folder):
        epoch = int(folder.name)
        folder.mkdir(parents=True)
        size = (20, 10) if epoch > 1 else (30, 10)
        Image.new("RGB", size, (25 * epoch,) * 3).save(folder / "a.png")  # a grey of its own for each epoch
        return []

    trainer.fit(tmp_path / "m", save_samples, epochs=9, batch_size=5, identity={"batch_size": 5})
    with Image.open(tmp_path / "m" / "a.gif") as animation:
        greys = []
        for index in range(animation.n_frames):
            animation.seek(index)
            greys.append(np.array(animation.convert("RGB")).mean())
    np.testing.assert_allclose(greys, [75, 125, 175, 225], atol=10)  # epochs 1 (another size), 3, 5, 7, 9


def test_broken_pictures_among_the_samples_are_left_out_of_the_animation(tmp_path, capsys):
    for epoch in ("001", "002", "003", "003 (copy)", "004", "005", "6a"):
        (tmp_path / "samples" / epoch).mkdir(parents=True)
        Image.new("RGB", (20, 10), (40 * int(epoch[0:3].strip("a")),) * 3).save(tmp_path / "samples" / epoch / "a.png")
    content = (tmp_path / "samples/002/a.png").read_bytes()
    (tmp_path / "samples/002/a.png").write_bytes(content[:-30])
    (tmp_path / "samples/005/a.png").write_bytes(b"no picture")
    (tmp_path / "samples/005/b.png").write_bytes(b"no picture")
    loop._write_animations(tmp_path)
    with Image.open(tmp_path / "a.gif") as animation:
        assert (animation.n_frames, animation.size) == (3, (20, 10))
    assert not (tmp_path / "b.gif").exists()
    assert "b.gif could not be drawn" in capsys.readouterr().out


# --- killed processes -------------------------------------------------------------------------------------------------

# Trains in a process of its own until it is killed, with a state after each step.
TRAINER = """
import pathlib, sys
from made_runs import Trainer
Trainer(pathlib.Path(sys.argv[1])).fit(pathlib.Path(sys.argv[2]), epochs=1000, checkpoint_minutes=1e-9)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_twenty_kills(trainer, features, tmp_path):
    """What 20 kills at random moments leave on disk is whole, and resumes to what an uninterrupted run comes to.

    A process that is stopped has written as much as one that is killed at that moment. So a single process is stopped
    20 times, its folder copied, and killed at last.
    """
    draw, folder, copies = random.Random(0), tmp_path / "m", [tmp_path / f"killed_{number}" for number in range(20)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen([sys.executable, "-c", TRAINER, str(features), str(folder)], env=environment) as process:
        wait_for_states(process, folder, 1)
        for copy in copies:
            wait_for_states(process, folder, draw.randrange(3))
            time.sleep(0.05 * draw.random())
            process.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            if copy is copies[-1]:
                process.kill()
                process.wait()
            shutil.copytree(folder, copy)
            process.send_signal(signal.SIGCONT)

    epochs = {}  # in whose middle or at whose start each copy is
    for copy in copies:
        for path in copy.glob("*.h5"):
            weights.read(path)
        for path in checkpoints.states(copy):
            assert dict(checkpoints.arrays(path))
        epochs[copy] = checkpoints.load(copy).run["progress"]["epoch"] + 1
    uninterrupted = {}

    def keep(samples):
        best = arrays_of(tmp_path / "whole" / "generator_best.h5")
        uninterrupted[int(samples.name)] = [*trainer.values().values(), *best]
        return []

    trainer.fit(tmp_path / "whole", keep, epochs=max(epochs.values()))
    rows = untimed(history_of(tmp_path / "whole"))
    assert len(set(epochs.values())) > 2
    for copy, epoch in epochs.items():
        trainer.fit(copy, epochs=epoch)
        found = [*trainer.values().values(), *arrays_of(copy / "generator_best.h5")]
        assert all(np.array_equal(a, b) for a, b in zip(found, uninterrupted[epoch], strict=True))
        assert untimed(history_of(copy)) == rows[:epoch]
        assert not [path for path in copy.rglob("*") if ".part" in path.name]


def wait_for_states(process, folder, n):
    """Return when the process has written `n` more states."""
    newest = (checkpoints.states(folder) or [None])[-1]
    while n:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.001)
        now = (checkpoints.states(folder) or [None])[-1]
        if now != newest:
            n, newest = n - 1, now


# --- learning ---------------------------------------------------------------------------------------------------------


def repeat(pairs, style=False):
    """Batches of four pairs, 40 in an epoch, and the same pairs once for validation."""
    rows = np.tile(pairs.samples, (160 // len(pairs.samples), 1))
    return Batches(pairs, rows, 4, 0, style), Batches(pairs, pairs.samples, 4, 0, style, shuffle=False)


@pytest.mark.slow
def test_one_piece_is_learnt(trainer, tmp_path, note_features):
    """Within 200 steps the error of four slices in inference mode falls below half of copying the input."""
    made = note_features(tmp_path / "features", {"piano": (1.5, 3.0), "guitar": (0.8, 1.5)}, 4)
    batches, same = repeat(dataset.find_pairs(made, ["piano"], ["guitar"]))
    inputs, target = same.load(0)
    copy_mae = np.abs(inputs - target).mean()
    assert copy_mae > 0.2
    options = {"generator_rate": 2e-2, "discriminator_rate": 2e-4, "lr_schedule": "linear"}
    trainer.fit(tmp_path / "model", batches=(batches, same), epochs=5, **options)
    best = tmp_path / "model" / "generator_best.h5"
    lowest = min(float(row["val_mae"]) for row in history_of(tmp_path / "model"))
    assert weights.describe(best).settings["validation_mae"] == lowest
    output = model.load_generator(best)(inputs, training=False).numpy()
    assert np.abs(output - target).mean() == pytest.approx(lowest, rel=1e-4)
    assert lowest < copy_mae / 2


@pytest.mark.slow
def test_multitarget_follows_the_style(tmp_path, note_features):
    """For one input, the output is much nearer to the target whose style was given, for both styles."""
    instruments = {"piano": (1.5, 3.0), "guitar": (0.8, 1.5), "flute": (3.0, 0.5)}
    made = note_features(tmp_path / "features", instruments, 4)
    pairs = dataset.find_pairs(made, ["piano"], ["guitar", "flute"])
    networks = make_networks(4, in_channels=2, seed=0)
    settings = loop.Settings(tmp_path / "model", {}, {}, 1e-2, 2e-4, epochs=2, lr_schedule="linear")
    loop.fit(loop.Run(networks, settings, *repeat(pairs, style=True), lambda _: []))
    levels = {
        name: to_network(np.stack([read_level(made / name / f"piece_{i:03d}.npy", (256, 256, 1)) for i in range(4)]))
        for name in instruments
    }
    for style, other in (("guitar", "flute"), ("flute", "guitar")):
        for shift in (1, 2):  # the style of another slice
            inputs = np.concatenate([levels["piano"], np.roll(levels[style], shift, axis=0)], axis=-1)
            output = networks.generator(inputs, training=False).numpy()
            assert np.abs(output - levels[style]).mean() < 0.7 * np.abs(output - levels[other]).mean()


@pytest.mark.slow
def test_bfloat16_training_ends_where_float32_does(trainer, tmp_path, note_features):
    """120 steps, the same data and seed: seeds alone move the last error by a quarter (docs/performance.md)."""
    made = note_features(tmp_path / "features", {"piano": (1.0, 4.0), "guitar": (0.5, 8.0)}, 8)
    pairs = dataset.find_pairs(made, ["piano"], ["guitar"])
    batches = Batches(pairs, pairs.samples, 1, 0)
    networks = make_networks(precision="mixed_bfloat16")
    networks.build()
    trainer.reset()
    rate, last_error = tf.constant(2e-3), {}
    for precision, step in (("float32", trainer.step), ("mixed_bfloat16", loop.make_step(networks))):
        errors = []
        for number in range(120):
            inputs, target = (tf.constant(array) for array in batches.load(number))
            errors.append(float(step(inputs, target, rate, rate, tf.constant(number))["mae"]))
        last_error[precision] = np.mean(errors[-40:])
        assert last_error[precision] < 0.5 * np.mean(errors[:10])
    assert last_error["mixed_bfloat16"] == pytest.approx(last_error["float32"], rel=0.1)
