"""Several replicas give what one gives on the whole batch: two devices of one process, two processes on loopback."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

# Three steps of small networks without dropout on n virtual CPU devices; prints losses and sums of weights.
STEPS = """
import json, sys
import numpy as np, tensorflow as tf
import losses, model
from training import loop, optimizers
n = int(sys.argv[1])
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * n)
dropout = tf.keras.layers.Dropout
model.layers.Dropout = lambda rate, **settings: dropout(0.0, **settings)
devices = [f"CPU:{i}" for i in range(n)]
strategy = tf.distribute.MirroredStrategy(devices) if n > 1 else tf.distribute.get_strategy()
batches = np.random.default_rng(0).uniform(-1, 1, (3, 2, 4, 256, 256, 1)).astype(np.float32)
share = 4 // n
shares = [tuple(batch[:, i * share : (i + 1) * share]) for batch in batches for i in range(n)]
found = []
with strategy.scope():
    generator, discriminator = model.build_generator(1, 2, seed=1), model.build_discriminator(2, seed=2)
    adam = [optimizers.Adam(), optimizers.Adam()]
    system = loop.System(generator, discriminator, losses.PIX2PIX, *adam)
    system.build()
    step = loop.make_step(system)
    source = lambda _: tf.data.Dataset.from_tensor_slices(tuple(np.stack(part) for part in zip(*shares)))
    for number, (inputs, target) in enumerate(strategy.distribute_datasets_from_function(source)):
        rate = tf.constant(1e-3)
        found.append({k: float(v) for k, v in step(inputs, target, rate, rate, tf.constant(number)).items()})
    found.append({v.path: float(np.abs(v.numpy()).sum()) for v in [*generator.weights, *discriminator.weights]})
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_take_the_step_of_one_on_the_whole_batch():
    found = []
    for n_devices in ("1", "2"):
        command = [sys.executable, "-c", STEPS, n_devices]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    for one, two in zip(*found, strict=True):
        assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-4, abs=1e-5)


def run_workers(n_workers, features, models, epochs, *flags):
    """Run train.py as workers of one cluster on free ports; their outputs."""
    sockets = [socket.socket() for _ in range(n_workers)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    command = [sys.executable, str(ROOT / "train.py"), "--dataset_path", str(features), "--origin", "piano"]
    command += ["--target", "guitar", "--models_path", str(models), "--base_filters", "2", "--batch_size", "4"]
    command += ["--epochs", str(epochs), "--gen_lr", "1e-3", "--disc_lr", "1e-3", "--gpu", "-1", *flags]
    workers = []
    for index in range(n_workers):
        environment = dict(os.environ)
        if n_workers > 1:
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        distributed = [*command, *(["--distribute", "multiworker"] if n_workers > 1 else [])]
        workers.append(
            subprocess.Popen(distributed, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [worker.communicate(timeout=400)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * n_workers, outputs
    return outputs


def history(models):
    with (models / "piano_2_guitar" / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_workers_train_as_one_process_does(tmp_path, note_features):
    features = note_features(tmp_path / "features", {"piano": (2.0, 4.0), "guitar": (1.0, 2.0)}, 9)
    run_workers(1, features, tmp_path / "one", epochs=2)
    outputs = run_workers(2, features, tmp_path / "two", epochs=2)
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for row, distributed in zip(one, two, strict=True):
        for column in ("generator_loss", "mae", "discriminator_loss", "val_mae"):  # dropout draws for each replica
            assert float(distributed[column]) == pytest.approx(float(row[column]), rel=0.01)
    assert "validation MAE" in outputs[0]
    assert "validation MAE" not in outputs[1]  # only the chief says and writes

    # Another number of workers goes on from the same state.
    assert "Going on from" in run_workers(1, features, tmp_path / "two", epochs=3)[0]
    assert [row["epoch"] for row in history(tmp_path / "two")] == ["1", "2", "3"]

    # The folder is set aside once, before any worker looks into it.
    run_workers(2, features, tmp_path / "two", 1, "--fresh")
    assert [row["epoch"] for row in history(tmp_path / "two")] == ["1"]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["piano_2_guitar", "piano_2_guitar.old1"]


def test_multiworker_without_a_cluster_is_refused(tmp_path, noise_features, run_command):
    features = noise_features(tmp_path / "features", {"piano": {"piece": 4}, "guitar": {"piece": 4}})
    pair = ["--dataset_path", features, "--origin", "piano", "--target", "guitar", "--batch_size", 2]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    done = run_command("train.py", *pair, "--distribute", "multiworker", "--models_path", tmp_path, env=environment)
    assert done.returncode == 2
    assert "TF_CONFIG" in done.stderr
    assert "Traceback" not in done.stderr
