"""Training runs of small networks on small data, for the tests of the loop and of what stands around it."""

import contextlib
import csv
import pathlib

import numpy as np
import pytest

import losses
import model
from training import checkpoints, dataset, loop, step
from training.dataset import Batches

RATES = {"generator_rate": 2e-3, "discriminator_rate": 1e-3}
TIMED_COLUMNS = {"seconds", "slices_per_second"}


def make_networks(base_filters=2, in_channels=1, precision="float32", seed=1):
    """Generator and discriminator of the pix2pix objective, with an Adam each."""
    return step.Networks(
        model.build_generator(in_channels, base_filters, precision, seed, model.FusedBatchNormalization),
        model.build_discriminator(base_filters, precision, seed + 1, model.FusedBatchNormalization),
        losses.pix2pix(),
        step.Adam(beta_1=0.5),
        step.Adam(beta_1=0.5),
    )


class Trainer:
    """Small networks, their compiled step and small data; each call of `fit` trains as a new process would.

    Compiling the step takes seconds, so that all runs share one. Before each run every variable is set: to its initial
    value, or to nonsense if a state has to restore it.
    """

    def __init__(self, features: pathlib.Path) -> None:
        self.pairs = dataset.find_pairs(features, ["piano"], ["guitar"])
        self.training_rows, self.validation_rows, _ = dataset.split_by_piece(self.pairs, 0.25, seed=0)
        self.networks = make_networks()
        self.step = step.make_step(self.networks)
        self.initial = self.values()
        self.evaluation = step.make_evaluation(self.networks)
        self.around_step = lambda number, call: call()  # for a test that wants something to happen at a step
        self.rates = []  # (generator's, discriminator's) of each step of the last run

    def training_batches(self, batch_size=2, seed=0):
        return Batches(self.pairs, self.training_rows, batch_size, seed)

    def validation_batches(self):
        return Batches(self.pairs, self.validation_rows, 2, 0, shuffle=False)

    def values(self):
        return {name: variable.numpy() for name, variable in self.networks.variables()}

    def reset(self):
        for name, variable in self.networks.variables():
            variable.assign(self.initial[name])

    def scramble(self):
        for _, variable in self.networks.variables():
            variable.assign(np.full(variable.shape, 3, variable.dtype))

    def fit(self, folder, save_samples=lambda _: None, batch_size=2, batches=None, flags=None, **options):
        """Train as the same command in a new process does, on the small data or on `batches` (training, validation)."""
        if checkpoints.states(folder) and not options.get("fresh"):
            self.scramble()
        else:
            self.reset()
        batches = batches or (self.training_batches(batch_size), self.validation_batches())
        description = {"system": "pix2pix", "origin": "piano", "targets": ["guitar"]}
        flags = {"batch_size": 2, "gen_lr": RATES["generator_rate"], **(flags or {})}
        options = {**RATES, "epochs": 2, **options}
        with self._shared_step():
            return loop.fit(loop.Run(self.networks, *batches, save_samples, folder, description, flags, **options))

    @contextlib.contextmanager
    def _shared_step(self):
        def shared(*arguments):
            self.rates.append(tuple(float(rate) for rate in arguments[2:4]))
            return self.around_step(int(arguments[-1]), lambda: self.step(*arguments))

        self.rates.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.loop.make_step", lambda *_: shared)
            patch.setattr("training.loop.make_evaluation", lambda _: self.evaluation)
            patch.setattr("common.plots.save_history", lambda *_, **__: None)  # most of the time of so short a run
            yield


def history_of(folder):
    """The rows of a model's history.csv."""
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def untimed(rows):
    """Rows of a history without the columns that no two runs share."""
    return [{key: value for key, value in row.items() if key not in TIMED_COLUMNS} for row in rows]
