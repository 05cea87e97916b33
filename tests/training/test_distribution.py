"""Several replicas give what one gives on the whole batch: two devices of one process, two processes on loopback."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT
from made_runs import history_of

import train

# Three steps of small networks without dropout on one and on two virtual CPU devices, then two of AdaBelief; prints
# losses and sums of weights.
STEPS = """
import json
import numpy as np, tensorflow as tf
import model
from made_runs import make_networks
from training import optimizers
from training.step import make_step
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
dropout = tf.keras.layers.Dropout
model.layers.Dropout = lambda rate, **settings: dropout(0.0, **settings)
batches = np.random.default_rng(0).uniform(-1, 1, (3, 2, 4, 256, 256, 1)).astype(np.float32)

def losses_and_weights(strategy):
    n = strategy.num_replicas_in_sync
    shares = [part for batch in batches for part in np.split(batch, n, axis=1)]
    source = lambda _: tf.data.Dataset.from_tensor_slices(tuple(np.stack(part) for part in zip(*shares)))
    with strategy.scope():
        networks = make_networks()
        networks.build()
        step, rate = make_step(networks), tf.constant(1e-3)
        for number, (inputs, target) in enumerate(strategy.distribute_datasets_from_function(source)):
            yield [float(loss) for _, loss in sorted(step(inputs, target, rate, rate, tf.constant(number)).items())]
    trained = [*networks.generator.weights, *networks.discriminator.weights]
    yield [float(np.abs(variable.numpy()).sum()) for variable in trained]
    with strategy.scope():
        variable = tf.keras.Variable(np.ones(3, np.float32))
        optimizer = optimizers.AdaBelief(0.1)
        optimizer.build([variable])
        for gradient in ([4.0, -1.0, 0.5], [2.0, -1.0, 3.0]):
            strategy.run(lambda: optimizer.apply([tf.constant(gradient) / n], [variable]))
    yield variable.numpy().tolist()

for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    print(json.dumps(list(losses_and_weights(strategy))))
"""


@pytest.mark.slow
def test_two_devices_take_the_step_of_one_on_the_whole_batch():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("[["))
    assert len(one) == len(two) == 5
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, rel=5e-3, abs=5e-4)  # sums of other lengths round differently


@pytest.mark.slow
def test_two_workers_train_as_one_process_does(tmp_path, note_features):
    features = note_features(tmp_path / "features", {"piano": (2.0, 4.0), "guitar": (1.0, 2.0)}, 9)
    models = tmp_path / "models"
    argv = (
        f"--dataset_path {features} --origin piano --target guitar --models_path {models} --base_filters 2 "
        "--batch_size 4 --gen_lr 1e-3 --disc_lr 1e-3 --gpu -1"
    ).split()
    assert train.main([*argv, "--epochs", "1"]) == 0
    outputs = run_workers(2, [*argv, "--epochs", "1", "--fresh"])
    # The folder is set aside once, before any worker looks into it.
    assert sorted(path.name for path in models.iterdir()) == ["piano_2_guitar", "piano_2_guitar.old1"]
    ([one], [two]) = (history_of(models / name) for name in ("piano_2_guitar.old1", "piano_2_guitar"))
    assert one["step"] == two["step"] == "2"
    for column in ("generator_loss", "mae", "discriminator_loss", "val_mae"):  # dropout draws for each replica
        assert float(two[column]) == pytest.approx(float(one[column]), rel=0.01)
    assert "validation MAE" in outputs[0]
    assert "validation MAE" not in outputs[1]  # only the chief prints and writes


def run_workers(n_workers, argv):
    """Run train.py as workers of one cluster on free ports; their outputs."""
    sockets = [socket.socket() for _ in range(n_workers)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    workers = []
    for index in range(n_workers):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, str(ROOT / "train.py"), *argv, "--distribute", "multiworker"]
        workers.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [worker.communicate(timeout=400)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * n_workers, outputs
    return outputs
