"""The training loop: its step against plain eager code, and runs that come out the same wherever they stopped."""

import contextlib
import csv
import errno
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

import losses
import model
from common import weights
from common.errors import InputError
from training import checkpoints, dataset, loop, optimizers
from training.batches import Batches, read_level

keras = tf.keras
RATES = {"generator_rate": 2e-3, "discriminator_rate": 1e-3}
TIMES = {"seconds", "slices_per_second"}


class Machine:
    """One small system, its compiled step and small data; runs of `training.fit` start as if in a new process.

    Tracing the step takes seconds, so all runs share it. Before each run every variable is set: to where a new system
    starts, or to rubbish where a state has to bring it back.
    """

    def __init__(self, folder):
        self.pairs = dataset.find_pairs(folder, ["piano"], ["guitar"])
        train_rows, validation_rows, _ = dataset.split_by_piece(self.pairs, 0.25, seed=0)
        self.rows = train_rows, validation_rows
        self.system = loop.System(
            model.build_generator(1, 2, seed=1), model.build_discriminator(2, seed=2), losses.PIX2PIX,
            optimizers.Adam(), optimizers.Adam(),
        )  # fmt: skip
        self.system.build()
        self.initial = self.values()
        self.step = loop.make_step(self.system)
        self.evaluation = loop.make_evaluation(self.system)
        self.around = lambda number, call: call()  # what a test wants to happen around a step

    def batches(self, batch_size=2, seed=0):
        return Batches(self.pairs, self.rows[0], batch_size, seed)

    def values(self):
        return {name: variable.numpy() for name, variable in self.system.variables()}

    def reset(self):
        for name, variable in self.system.variables():
            variable.assign(self.initial[name])

    def scramble(self):
        for _, variable in self.system.variables():
            variable.assign(np.full(variable.shape, 3, variable.dtype))

    def stepping(self, *arguments):
        return self.around(int(arguments[-1]), lambda: self.step(*arguments))

    def settings(self, folder, **options):
        identity = {"batch_size": 2, "gen_lr": RATES["generator_rate"], **options.pop("identity", {})}
        description = {"system": "pix2pix", "origin": "piano", "targets": ["guitar"]}
        return loop.Settings(folder, description, identity, **{**RATES, "epochs": 2, **options})

    def fit(self, folder, sample=lambda _: [], batch_size=2, data_seed=0, **options):
        """Train as the same command in a new process does."""
        self.scramble() if checkpoints.states(folder) else self.reset()
        validation = Batches(self.pairs, self.rows[1], 2, 0, shuffle=False)
        settings = self.settings(folder, **options)
        return loop.fit(self.system, settings, self.batches(batch_size, data_seed), validation, sample)


@pytest.fixture(scope="module")
def module_machine(tmp_path_factory, noise_features):
    pieces = {"bach": 5, "satie": 2}
    return Machine(noise_features(tmp_path_factory.mktemp("features"), {"piano": pieces, "guitar": pieces}))


@pytest.fixture
def machine(module_machine, monkeypatch):
    """Five slices in steps of two, two, one; two more held out."""
    monkeypatch.setattr("training.loop.make_step", lambda *_: module_machine.stepping)
    monkeypatch.setattr("training.loop.make_evaluation", lambda _: module_machine.evaluation)
    monkeypatch.setattr("common.plots.save_history", lambda *_: None)  # most of the time of such a short run
    module_machine.around = lambda number, call: call()
    assert [len(rows) for rows in module_machine.rows] == [5, 2]
    return module_machine


def history_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(rows):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def whole(module_machine, tmp_path_factory):
    """The folder and the final values of a run of two epochs that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.loop.make_step", lambda *_: module_machine.step)
        patch.setattr("training.loop.make_evaluation", lambda _: module_machine.evaluation)
        module_machine.fit(folder)
    return folder, module_machine.values()


def assert_same_as(whole, machine, folder, files=("generator.h5", "discriminator.h5", "generator_best.h5")):
    """The run in `folder` has come out as the uninterrupted one: to the bit."""
    reference, values = whole
    found = machine.values()
    assert all(np.array_equal(found[name], values[name]) for name in values)
    assert untimed(history_of(folder)) == untimed(history_of(reference))
    for name in files:
        ours, theirs = (dict(weights.read(where / name)) for where in (folder, reference))
        assert all(np.array_equal(a, b) for group in ours for a, b in zip(ours[group], theirs[group], strict=True))
        assert weights.describe(folder / name).settings == weights.describe(reference / name).settings


# --- the step ---------------------------------------------------------------------------------------------------------


def eager_step(machine, inputs, target, rates):
    """Losses, gradients and updated weights of one batch, written down once more without the training code."""
    generator, discriminator = model.build_generator(1, 2, seed=1), model.build_discriminator(2, seed=2)
    for network, name in ((generator, "generator"), (discriminator, "discriminator")):
        for index, variable in enumerate(network.variables):
            variable.assign(machine.initial[f"{name}/{index:03d}"])
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
        keras.optimizers.Adam(rate).apply(gradients[network.name], network.trainable_variables)
    return {name: float(value) for name, value in found.items()}, gradients, generator, discriminator


def test_step_is_that_of_plain_eager_code(machine):
    inputs, target = (tf.constant(array) for array in machine.batches().load(0))
    rates = (1e-2, 3e-3)
    expected, gradients, *networks = eager_step(machine, inputs, target, rates)
    machine.reset()
    found = machine.step(inputs, target, *(tf.constant(rate) for rate in rates), tf.constant(0))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5)
    system = machine.system
    n_clear = 0
    for ours, theirs, optimizer in (
        (system.generator, networks[0], system.generator_optimizer),
        (system.discriminator, networks[1], system.discriminator_optimizer),
    ):
        moments = optimizer.variables[2::2]  # iterations, learning rate, then m and v of each variable
        of_network = gradients[theirs.name]
        assert len(moments) == len(of_network)
        for variable, other, moment, gradient in zip(
            ours.trainable_variables, theirs.trainable_variables, moments, of_network, strict=True
        ):
            np.testing.assert_allclose(moment.numpy(), 0.1 * gradient, atol=1e-5, rtol=1e-4)
            clear = np.abs(gradient) > 1e-4  # Adam's first step follows the sign: of noise where there is no more
            np.testing.assert_allclose(variable.numpy()[clear], other.numpy()[clear], atol=1e-5)
            n_clear += clear.sum()
        for variable, other in zip(ours.non_trainable_variables, theirs.non_trainable_variables, strict=True):
            np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-5)  # moving averages, dropout's seeds
    assert n_clear > 5000


def test_rates_are_those_of_the_schedule(machine, tmp_path):
    """Six steps of the linear schedule: full rate at once, from the middle on down to a third."""
    seen = []

    def step(*arguments):
        seen.append(tuple(float(rate) for rate in arguments[2:4]))
        return machine.step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.loop.make_step", lambda *_: step)
        machine.fit(tmp_path / "m", lr_schedule="linear")
    factors = np.array([1, 1, 1, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(seen, factors[:, None] * list(RATES.values()), rtol=1e-6)
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


@pytest.mark.parametrize("number", range(6))
def test_sigterm_in_any_step_and_resume(machine, whole, tmp_path, number):
    folder = tmp_path / "m"
    machine.around = signalled_after(number, signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        machine.fit(folder)
    assert stopped.value.code == 143
    path, run, _ = checkpoints.load(folder)
    assert path.name == f"state-{number + 1:09d}.npz"
    assert 3 * run["progress"]["epoch"] + run["progress"]["step"] == number + 1
    machine.around = lambda _, call: call()
    machine.fit(folder)
    assert_same_as(whole, machine, folder)


def test_ctrl_c_is_a_keyboard_interrupt_with_the_state_on_disk(machine, tmp_path):
    machine.around = signalled_after(1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        machine.fit(tmp_path / "m")
    assert checkpoints.load(tmp_path / "m")[0].name == "state-000000002.npz"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Killed(BaseException):
    """Stands for a process that ends here; nothing of the project catches it."""


PLACES = [
    (loop, "write_csv", True), (model, "save", False), (loop, "_write_animations", True),
    (checkpoints.os, "fsync", False), (checkpoints, "save", True),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "after"), PLACES, ids=[name for _, name, _ in PLACES])
def test_killed_at_the_end_of_an_epoch_and_resumed(machine, whole, tmp_path, monkeypatch, owner, name, after):
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
            machine.fit(folder)
    machine.fit(folder)
    assert_same_as(whole, machine, folder)


def test_checkpoint_minutes_write_a_state_within_the_epoch(machine, tmp_path):
    def around(number, call):
        if number == 2:
            raise Killed
        return call()

    machine.around = around
    with pytest.raises(Killed):
        machine.fit(tmp_path / "m", checkpoint_minutes=1e-9)
    assert checkpoints.load(tmp_path / "m")[0].name == "state-000000002.npz"


def test_damaged_newest_state_falls_back(machine, whole, tmp_path, capsys):
    folder = tmp_path / "m"
    machine.around = signalled_after(3, signal.SIGTERM)
    with pytest.raises(SystemExit):
        machine.fit(folder)
    machine.around = lambda _, call: call()
    newest = checkpoints.states(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    machine.fit(folder)
    assert f"{newest}: damaged training state" in capsys.readouterr().out
    assert_same_as(whole, machine, folder)


def test_same_seed_same_history(machine, whole, tmp_path):
    machine.fit(tmp_path / "same")
    assert_same_as(whole, machine, tmp_path / "same")
    machine.fit(tmp_path / "other", data_seed=1)
    assert untimed(history_of(tmp_path / "other")) != untimed(history_of(whole[0]))


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_full_disk_while_a_state_is_written(machine, whole, tmp_path, monkeypatch):
    folder, written = tmp_path / "m", zipfile.ZipFile.writestr

    def full(archive, *arguments):
        if len(checkpoints.states(folder)) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(archive, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            machine.fit(folder)
    assert "state-000000006.npz" in caught.value.filename
    assert checkpoints.load(folder)[0].name == "state-000000003.npz"
    machine.fit(folder)
    assert_same_as(whole, machine, folder)


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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kilobytes", [600, 1100, 1600])
def test_small_disk(machine, whole, tmp_path, kilobytes):
    """Wherever it fills up, the error names the file, nothing on the disk is damaged, and with room it goes on."""
    with small_disk(tmp_path / "disk", kilobytes):
        folder = tmp_path / "disk" / "m"
        with pytest.raises((OSError, InputError)) as caught:
            machine.fit(folder)
        assert str(folder) in f"{caught.value} {getattr(caught.value, 'filename', '')}"
        assert all(not path.name.endswith(".part") and ".part." not in path.name for path in folder.rglob("*"))
        for path in folder.glob("*.h5"):
            weights.read(path)
        for path in checkpoints.states(folder):
            assert all(array is not None for _, array in checkpoints.arrays(path))
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path / "disk")], check=True)
        machine.fit(folder)
        assert_same_as(whole, machine, folder)


# --- how far ----------------------------------------------------------------------------------------------------------


def test_max_steps_then_to_the_end(machine, whole, tmp_path):
    folder = tmp_path / "m"
    machine.fit(folder, max_steps=4)
    assert [row["step"] for row in history_of(folder)] == ["3", "4"]
    machine.fit(folder)
    assert_same_as(whole, machine, folder, ["generator.h5", "discriminator.h5"])  # the best may be that of step 4


def test_complete_run_says_so_and_more_epochs_extend_it(machine, whole, tmp_path, capsys):
    folder = tmp_path / "m"
    machine.fit(folder, epochs=1)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    capsys.readouterr()
    progress = machine.fit(folder, epochs=1)
    assert progress.epoch == 1
    assert "is complete; more --epochs" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    machine.fit(folder)
    assert_same_as(whole, machine, folder)


def scripted(maes):
    """An evaluation whose MAE in epoch n is ``maes[n]``."""
    remaining = iter(maes)
    return lambda _: lambda *_: {"val_mae": tf.constant(next(remaining)), "val_generator_loss": tf.constant(1.0)}


def test_patience_and_the_best_weights(machine, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "m"
    kept = []
    monkeypatch.setattr("training.loop.make_evaluation", scripted([0.5, 0.25, 0.375, 0.375, 0.125]))
    progress = machine.fit(
        folder, lambda _: kept.append(machine.values()) or [], epochs=9, patience=2, batch_size=5,
        identity={"batch_size": 5},
    )  # fmt: skip
    assert progress.epoch == 4
    assert (progress.best, progress.waited) == (0.25, 2)
    best, last = (weights.describe(folder / name).settings for name in ("generator_best.h5", "generator.h5"))
    assert (best["epoch"], best["validation_mae"]) == (2, 0.25)
    assert (last["epoch"], last["validation_mae"]) == (4, 0.375)
    arrays = [array for _, members in weights.read(folder / "generator_best.h5") for array in members]
    trained = [value for name, value in kept[1].items() if name.startswith("generator/") and value.dtype == np.float32]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, trained, strict=True))
    capsys.readouterr()
    machine.fit(folder, epochs=9, patience=2, batch_size=5, identity={"batch_size": 5})
    assert "is complete; more --patience" in capsys.readouterr().out


def test_bare_weights_and_epoch_offset(machine, tmp_path, capsys):
    folder = tmp_path / "m"
    with pytest.raises(InputError, match=r"--epoch_offset: .*found no .*generator\.h5"):
        machine.fit(folder, epoch_offset=5, epochs=6)
    folder.mkdir(exist_ok=True)
    model.save(model.build_generator(1, 2, seed=77), folder / "generator.h5", {})
    with pytest.raises(InputError, match=r"expected a training state beside generator\.h5.*--fresh"):
        machine.fit(folder)
    started_from = []

    def around(number, call):
        if not started_from:
            started_from.append(machine.values())
        return call()

    machine.around = around
    machine.fit(folder, epoch_offset=5, epochs=6)
    assert "as epoch 6" in capsys.readouterr().out
    expected = model.build_generator(1, 2, seed=77).get_weights()
    found = [value for name, value in started_from[0].items() if name.startswith("generator/")]
    assert all(np.array_equal(a, b) for a, b in zip([v for v in found if v.dtype == np.float32], expected, strict=True))
    assert [(row["epoch"], row["step"]) for row in history_of(folder)] == [("6", "18")]
    machine.fit(folder, epochs=7)  # the state knows where it is
    assert "goes on with its own, 5" in capsys.readouterr().out
    assert [row["epoch"] for row in history_of(folder)] == ["6", "7"]


def test_fresh_keeps_the_old_folder(machine, whole, tmp_path, capsys):
    folder = tmp_path / "m"
    machine.fit(folder, epochs=1)
    generator = (folder / "generator.h5").read_bytes()
    machine.reset()
    machine.batches()
    loop.fit(machine.system, machine.settings(folder, fresh=True), machine.batches(), Batches(machine.pairs, machine.rows[1], 2, 0, shuffle=False), lambda _: [])  # fmt: skip  # noqa: E501
    assert "m.old1" in capsys.readouterr().out
    assert (tmp_path / "m.old1" / "generator.h5").read_bytes() == generator
    assert_same_as(whole, machine, folder)


def test_second_process_is_refused(machine, tmp_path):
    with checkpoints.locked(tmp_path / "m"), pytest.raises(InputError, match=rf"pid {os.getpid()}\b"):
        machine.fit(tmp_path / "m")
    assert not checkpoints.states(tmp_path / "m")


def test_other_settings_are_named(machine, tmp_path, capsys):
    folder = tmp_path / "m"
    machine.fit(folder, max_steps=2)
    capsys.readouterr()
    machine.fit(folder, batch_size=5, identity={"batch_size": 5, "gen_lr": 1e-3})
    said = capsys.readouterr().out
    assert "batch_size 5 (started with 2)" in said
    assert "gen_lr 0.001 (started with 0.002)" in said
    assert [row["epoch"] for row in history_of(folder)] == ["1", "2"]
    machine.fit(folder, epochs=3, identity={"batch_size": 2, "gen_lr": 1e-3})
    assert [row["epoch"] for row in history_of(folder)] == ["1", "2", "3"]
    assert "started with 5" in capsys.readouterr().out


def test_state_of_another_network_is_refused(machine, tmp_path):
    folder = tmp_path / "m"
    foreign = {"identity": {"batch_size": 2, "base_filters": 64}, "progress": {}}
    checkpoints.save(folder, 3, [("generator/000", np.zeros((4, 4, 1, 64), np.float32))], foreign)
    content = checkpoints.states(folder)[0].read_bytes()
    with pytest.raises(InputError, match=r"that of another \(--base_filters 64\); --fresh") as caught:
        machine.fit(folder)
    assert "\n" not in str(caught.value)
    assert checkpoints.states(folder)[0].read_bytes() == content


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 4])
def test_loss_that_is_no_number_stops_and_names_the_step(machine, whole, tmp_path, number):
    folder = tmp_path / "m"

    def around(at, call):
        values = call()
        return {**values, "mae": tf.constant(float("nan"))} if at == number else values

    machine.around = around
    state = f"state-{number // 3 * 3:09d}.npz"
    with pytest.raises(InputError, match=rf"mae is nan at step {number + 1} \(epoch {number // 3 + 1}\).*{state}"):
        machine.fit(folder)
    assert checkpoints.load(folder)[0].name == state
    machine.around = lambda _, call: call()
    machine.fit(folder)
    assert_same_as(whole, machine, folder)


def test_weights_that_are_no_numbers_are_not_kept(machine, tmp_path):
    """The losses of the last step are finite, its update is not."""
    folder = tmp_path / "m"

    def around(number, call):
        values = call()
        if number == 5:
            kernel = machine.system.generator.trainable_variables[0]
            kernel.assign(np.full(kernel.shape, np.inf))
        return values

    machine.around = around
    with pytest.raises(InputError, match=r"infinite or NaN after the update of step 3 of epoch 2.*000000003\.npz"):
        machine.fit(folder)
    assert np.isfinite(weights.read(folder / "generator.h5")[0][1][0]).all()
    assert checkpoints.load(folder)[0].name == "state-000000003.npz"


def test_history_columns_and_copying(machine, whole, tmp_path, capsys):
    rows = history_of(whole[0])
    assert list(rows[0]) == [
        "epoch", "step", "generator_lr", "discriminator_lr", "generator_loss", "mae", "adversarial",
        "discriminator_loss", "val_mae", "val_generator_loss", "val_discriminator_loss", "val_copy_mae", "seconds",
        "slices_per_second",
    ]  # fmt: skip
    assert all(float(value) == float(value) for row in rows for value in row.values())
    machine.fit(tmp_path / "m", epochs=1)
    inputs, target = Batches(machine.pairs, machine.rows[1], 2, 0, shuffle=False).load(0)
    said = capsys.readouterr().out
    assert f"copying the input: {np.abs(inputs - target).mean():.4f}" in said
    assert float(history_of(tmp_path / "m")[0]["val_copy_mae"]) == pytest.approx(
        np.abs(inputs - target).mean(), rel=1e-5
    )
    output = machine.system.generator(inputs, training=False).numpy()
    assert float(history_of(tmp_path / "m")[0]["val_mae"]) == pytest.approx(np.abs(output - target).mean(), rel=1e-5)
    assert all(character.isprintable() for line in said.splitlines() for character in line)


def test_training_losses_are_means_over_slices(machine, tmp_path):
    """The last batch has one slice instead of two and counts half as much."""
    seen = []

    def around(number, call):
        values = call()
        seen.append(float(values["mae"]))
        return values

    machine.around = around
    machine.fit(tmp_path / "m", epochs=1)
    assert float(history_of(tmp_path / "m")[0]["mae"]) == pytest.approx((2 * seen[0] + 2 * seen[1] + seen[2]) / 5)


def test_disk_that_is_too_small_is_foreseen(machine, tmp_path, monkeypatch, capsys):
    usage = loop.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    machine.fit(tmp_path / "m", max_steps=1)
    assert re.search(r"Warning: .* has 0\.0 GB free, this run needs about", capsys.readouterr().out)


# --- learning, and being killed ---------------------------------------------------------------------------------------


def overfitted(folder, pairs, base_filters, n_steps, epochs=1, sample=lambda _: [], style=False):
    """The generator after `training.fit` at batch 8 on all pairs, in so many epochs of so many steps."""
    rows = np.tile(pairs.samples, (8 * n_steps // len(pairs.samples), 1))
    batches = Batches(pairs, rows, 8, seed=0, style=style)
    same = Batches(pairs, pairs.samples, 8, seed=0, style=style, shuffle=False)
    system = loop.System(
        model.build_generator(1 + style, base_filters, seed=0), model.build_discriminator(base_filters, seed=1),
        losses.PIX2PIX, optimizers.Adam(beta_1=0.5), optimizers.Adam(beta_1=0.5),
    )  # fmt: skip
    settings = loop.Settings(folder, {}, {}, 5e-3, 2e-4, epochs=epochs, lr_schedule="linear")
    assert settings.n_steps(batches.steps_per_epoch) == epochs * n_steps
    loop.fit(system, settings, batches, same, sample)
    return system.generator


@pytest.mark.slow
def test_one_piece_is_learnt(tmp_path, note_features):
    """16 slices, 16 base filters, batch 8: within 500 steps the error in inference mode is below half of copying."""
    made = note_features(tmp_path / "features", {"piano": (1.5, 3.0), "guitar": (0.8, 1.5)}, 16)
    pairs = dataset.find_pairs(made, ["piano"], ["guitar"])
    inputs, target = Batches(pairs, pairs.samples, 16, 0, shuffle=False).load(0)
    copy_mae = np.abs(inputs - target).mean()
    assert copy_mae > 0.2
    seen = []

    class LearntError(Exception):
        """Enough: the rest of the 500 steps would only take time."""

    def look(_):
        seen.append(float(history_of(tmp_path / "model")[-1]["val_mae"]))
        if seen[-1] < copy_mae / 2:
            raise LearntError
        return []

    with pytest.raises(LearntError):
        overfitted(tmp_path / "model", pairs, 16, 20, epochs=25, sample=look)
    kept = weights.describe(tmp_path / "model" / "generator_best.h5").settings
    assert kept["validation_mae"] == min(seen)
    output = model.load_generator(tmp_path / "model" / "generator_best.h5").predict(inputs, verbose=0)
    assert np.abs(output - target).mean() < copy_mae / 2


@pytest.mark.slow
def test_multitarget_follows_the_style(tmp_path, note_features):
    """For one input, the output is nearer to the target whose style was given, for both styles."""
    instruments = {"piano": (1.5, 3.0), "guitar": (0.8, 1.5), "flute": (3.0, 0.5)}
    made = note_features(tmp_path / "features", instruments, 8)
    pairs = dataset.find_pairs(made, ["piano"], ["guitar", "flute"])
    generator = overfitted(tmp_path / "model", pairs, 8, 120, style=True)
    of = {
        name: 2 * np.stack([read_level(made / name / f"piece_{i:03d}.npy", (256, 256, 1)) for i in range(8)]) - 1
        for name in instruments
    }
    for style, other in (("guitar", "flute"), ("flute", "guitar")):
        for shift in (1, 4):  # the style of another slice
            inputs = np.concatenate([of["piano"], np.roll(of[style], shift, axis=0)], axis=-1)
            output = generator(inputs, training=False).numpy()
            assert np.abs(output - of[style]).mean() < np.abs(output - of[other]).mean()


# Starts the command again and again, each time in a process of its own that is killed after a random number of steps (a
# state is written after each), and last to its end. TensorFlow is imported only once: forked before it does anything.
KILLER = """
import os, pathlib, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import tensorflow, librosa, matplotlib.figure
import train

folder, draw, argv = pathlib.Path(sys.argv[2]), random.Random(0), sys.argv[4:]

def newest():
    return max((path.name for path in folder.glob("*/checkpoints/state-*.npz")), default="")

def start():
    sys.stdout.flush()
    process = os.fork()
    if not process:
        status = 70
        try:
            status = train.main(argv)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return process

n_kills = 0
while n_kills < int(sys.argv[3]):
    process, n_states, last = start(), draw.randrange(6), newest()
    while n_states:
        if newest() != last:
            n_states, last = n_states - 1, newest()
        if os.waitpid(process, os.WNOHANG)[0]:
            sys.exit("the run ended before it was killed")
        time.sleep(0.001)
    time.sleep(draw.choice([0, 0.01, 0.1, 1]) * draw.random())
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    n_kills += 1
    print("killed at", newest(), flush=True)
    from common import weights
    from training import checkpoints
    for path in folder.glob("*/*.h5"):
        weights.read(path)
    for path in folder.glob("*/checkpoints/state-*.npz"):
        dict(checkpoints.arrays(path))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1]))
"""


@pytest.mark.slow
def test_twenty_kills(tmp_path, noise_features):
    """SIGKILL at random moments: the history and the weights of the resumed run are those of an uninterrupted one."""
    pieces = {"bach": 12, "satie": 1}
    made = noise_features(tmp_path / "features", {"piano": pieces, "guitar": pieces})
    outcomes = []
    for n_kills in (0, 20):
        models = tmp_path / f"models{n_kills}"
        argv = (
            f"--dataset_path {made} --origin piano --target guitar --gpu -1 --base_filters 2 --batch_size 1 --epochs 8 "
            f"--validation_split 0.08 --models_path {models} --gen_lr 1e-3 --disc_lr 1e-3 --lr_schedule linear "
            "--checkpoint_minutes 1e-9 --precision float32 --deterministic"
        )
        command = [sys.executable, "-c", KILLER, str(ROOT), str(models), str(n_kills)]
        run = subprocess.run([*command, *argv.split()], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
        assert "Traceback" not in run.stderr
        assert run.stdout.count("killed at") == n_kills
        folder = models / "piano_2_guitar"
        files = [weights.read(folder / name) for name in ("generator.h5", "discriminator.h5", "generator_best.h5")]
        outcomes.append((untimed(history_of(folder)), files))
        assert not [path for path in folder.rglob("*") if ".part" in path.name]
    (rows, files), (killed_rows, killed_files) = outcomes
    assert len(rows) == 8
    assert killed_rows == rows
    for expected, found in zip(files, killed_files, strict=True):
        for (group, arrays), (killed_group, killed_arrays) in zip(expected, found, strict=True):
            assert group == killed_group
            assert all(np.array_equal(a, b) for a, b in zip(arrays, killed_arrays, strict=True))


@pytest.mark.slow
def test_bfloat16_training_ends_where_float32_does(tmp_path, note_features):
    """500 steps, the same data and seed: seeds alone move the last error by a quarter (docs/performance.md)."""
    features = note_features(tmp_path / "features", {"piano": (1.0, 4.0), "guitar": (0.5, 8.0)}, 8)
    pairs = dataset.find_pairs(features, ["piano"], ["guitar"])
    batches = Batches(pairs, pairs.samples, 1, 0)
    ended = {}
    for precision in ("float32", "mixed_bfloat16"):
        networks = model.build_generator(1, 2, precision, seed=1), model.build_discriminator(2, precision, seed=2)
        adam = [optimizers.Adam(beta_1=0.5) for _ in networks]
        system = loop.System(*networks, losses.PIX2PIX, *adam)
        system.build()
        step, rate, errors = loop.make_step(system), tf.constant(1e-3), []
        for number in range(500):
            inputs, target = (tf.constant(array) for array in batches.load(number))
            errors.append(float(step(inputs, target, rate, rate, tf.constant(number))["mae"]))
        assert np.mean(errors[-50:]) < 0.5 * np.mean(errors[:10])
        ended[precision] = np.mean(errors[-50:])
    assert ended["mixed_bfloat16"] == pytest.approx(ended["float32"], rel=0.1)


def test_animations_of_many_epochs_take_evenly_chosen_ones_of_the_last_ones_size(tmp_path, monkeypatch):
    monkeypatch.setattr("training.loop.MAX_FRAMES", 5)
    for epoch in range(1, 10):  # a grey of its own for each
        size = (20, 10) if epoch > 1 else (30, 10)
        path = tmp_path / "samples" / f"{epoch:03d}" / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", size, (25 * epoch,) * 3).save(path)
    loop._write_animations(tmp_path)
    with Image.open(tmp_path / "a.gif") as animation:
        greys = []
        for index in range(animation.n_frames):
            animation.seek(index)
            greys.append(np.array(animation.convert("RGB")).mean())
    np.testing.assert_allclose(greys, [75, 125, 175, 225], atol=10)  # epochs 1 (another size), 3, 5, 7, 9
