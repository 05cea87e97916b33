"""The one training loop: steps, epochs, validation, and a state from which a run resumes exactly.

The variants (fixed pair, multitarget, generator only, hum2guitar) differ in what a `Run` holds: networks with their
losses and optimizers, batches, and settings. What a run computes depends on these alone: step s of epoch e always sees
the same batch, the same dropout and the same learning rate, wherever the run was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import signal
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import model
from common import InputError, cli, weights
from training import checkpoints, outputs
from training.checkpoints import Progress
from training.dataset import ByStep, iterate_batches
from training.step import Networks, make_evaluation, make_step, rate_factor

CHECK_EVERY = 10  # steps between two readings of the losses; each reading waits for the device
CHECKPOINT_SECONDS = 600  # between two states within an epoch


@dataclasses.dataclass
class Run:
    """One training run: what is trained, on what, how (docs/training.md explains the settings), how far it has come.

    Attributes:
        training_batches: batches by step.
        validation_batches: the same for the slices that are held out; None if there are none.
        save_samples: writes pictures and audio of the present generator into a folder.
        folder: the model's folder.
        description: is stored in the weights files.
        flags: all settings by flag; a resumed run prints those that have changed.
        epochs: of the run, after the first `epoch_offset`.
        epoch_offset: epochs that bare weights in the folder were trained for; None takes the number in the file.
        fresh: start over, and keep what is in the folder under another name.
        after_step: is called after each step with the number of steps that the run has done.
        progress: is set by `fit` from the folder's state.
    """

    networks: Networks
    training_batches: ByStep
    validation_batches: ByStep | None
    save_samples: Callable[[pathlib.Path], None]
    folder: pathlib.Path
    description: dict
    flags: dict
    generator_rate: float
    discriminator_rate: float
    epochs: int
    lr_schedule: str = "constant"
    epoch_offset: int | None = None
    max_steps: int | None = None
    seed: int = 0
    patience: int | None = None
    tensorboard: bool = False
    fresh: bool = False
    after_step: Callable[[int], None] = lambda _: None
    progress: Progress = dataclasses.field(default_factory=Progress)

    # Steps are numbered from the first one of epoch 0, which `epoch_offset` may place before this run.

    @property
    def steps_per_epoch(self) -> int:
        return self.training_batches.steps_per_epoch

    @property
    def first_step(self) -> int:
        """Number of the run's first step."""
        return self.progress.epoch_offset * self.steps_per_epoch

    @property
    def next_step(self) -> int:
        """Number of the step that comes next."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        n_steps = self.epochs * self.steps_per_epoch
        return n_steps if self.max_steps is None else min(n_steps, self.max_steps)

    @property
    def last_epoch(self) -> int:
        return self.progress.epoch_offset + self.epochs

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done, or the validation MAE has not fallen for `patience` epochs."""
        patience, progress = self.patience, self.progress
        is_out_of_patience = patience is not None and progress.step == 0 and progress.waited >= patience
        return is_out_of_patience or self.next_step >= self.first_step + self.n_steps

    def learning_rates(self, step: int) -> tuple[float, float]:
        """Learning rates of generator and discriminator at step number `step`."""
        factor = rate_factor(self.lr_schedule, step - self.first_step, self.n_steps)
        return factor * self.generator_rate, factor * self.discriminator_rate


def fit(run: Run) -> Progress:
    """Train from the state in the folder, or from the start, to the end of the settings; the progress at the end.

    Raises:
        InputError: the folder holds another network's state, a loss or weight is infinite or NaN, or a feature file is
            damaged.
        KeyboardInterrupt, SystemExit: after Ctrl-C and SIGTERM (exit status 143); the state is on disk.
    """
    with checkpoints.claim(run.folder, run.flags, run.fresh), _Interruption() as interruption:
        epochs, steps = cli.count(run.epochs, "epoch"), cli.count(run.steps_per_epoch, "step")
        print(f"Training {run.folder}: {epochs} of {steps}")
        step, evaluation = make_step(run.networks, run.seed), make_evaluation(run.networks)
        resumed = checkpoints.resume(run.folder, dict(run.networks.variables()), run.flags)
        run.progress = resumed or _begin(run)
        run.progress.step = min(run.progress.step, run.steps_per_epoch - 1)
        if run.is_complete:
            print(f"{run.folder}: this run is complete; more epochs, --max_steps or --patience extend it")
            outputs.print_outcome(run.folder, run.progress.rows)
            return run.progress
        if not checkpoints.states(run.folder):
            _save_state(run)  # before any weights file: weights without a state cannot be resumed
        while not run.is_complete:
            _train_epoch(run, step, interruption)
            _end_epoch(run, _validate(run.validation_batches, evaluation))
            if run.is_complete:
                outputs.write_animations(run.folder)  # before the state: a complete run writes nothing any more
            _save_state(run)
            interruption.check()
        outputs.print_outcome(run.folder, run.progress.rows)
    return run.progress


def _begin(run: Run) -> Progress:
    """Begin with the weights that the networks have or, if there are bare weights in the folder, with those."""
    networks = run.networks
    generator, discriminator = run.folder / "generator.h5", run.folder / "discriminator.h5"
    offset = run.epoch_offset
    if not generator.exists():
        if offset:
            raise InputError(f"--epoch_offset needs weights to go on from, and {generator} does not exist")
        return Progress()
    if offset is None:
        offset = weights.describe(generator).settings.get("epoch")
    if not isinstance(offset, int) or offset < 0:
        raise InputError(f"{generator} does not say how many epochs it was trained for: --epoch_offset does")
    try:
        model.load_into(networks.generator, generator)
        if networks.discriminator is not None and discriminator.exists():
            model.load_into(networks.discriminator, discriminator)
    except InputError as error:
        raise InputError(f"{error}; another --models_path leaves them alone, --fresh sets them aside") from None
    print(f"Resuming from the bare weights {generator}: epochs {offset + 1} to {offset + run.epochs}")
    return Progress(epoch=offset, epoch_offset=offset)


# --- epochs -----------------------------------------------------------------------------------------------------------


def _train_epoch(run: Run, step: Callable, interruption: _Interruption) -> None:
    """Train to the end of the current epoch or of the run, and write the state every `CHECKPOINT_SECONDS`."""
    progress = run.progress
    first, first_of_epoch, last = run.next_step, progress.epoch * run.steps_per_epoch, run.first_step + run.n_steps
    stop = min(first_of_epoch + run.steps_per_epoch, last)
    label = f"epoch {progress.epoch + 1}/{run.last_epoch}"
    status = outputs.Status(label, stop - first_of_epoch, progress.step, n_later=last - stop)
    saved = clock = time.monotonic()
    pending: list[tuple[int, int, dict]] = []
    with contextlib.closing(status):
        for number, (inputs, target) in enumerate(iterate_batches(run.training_batches, first, stop), first):
            rates = map(tf.constant, run.learning_rates(number))
            pending.append((number, len(target), step(inputs, target, *rates, tf.constant(number, tf.int32))))
            run.after_step(number + 1)
            is_due = interruption.signal is not None or time.monotonic() - saved > CHECKPOINT_SECONDS
            if len(pending) == CHECK_EVERY or number == stop - 1 or is_due:
                latest = _add_losses(run, pending)
                progress.seconds, clock = progress.seconds + time.monotonic() - clock, time.monotonic()
                status.advance(len(pending), {name: latest[name] for name in ("generator_loss", "mae")})
                pending = []
            if is_due and number < stop - 1:  # after the last step, the end of the epoch writes it
                _check_variables(run)
                _save_state(run)
                saved = clock = time.monotonic()
                interruption.check()
    _check_variables(run)


def _add_losses(run: Run, pending: list[tuple[int, int, dict]]) -> dict[str, float]:
    """Add the losses of `pending` (step number, slices, losses) to the sums of the epoch; the losses of the last."""
    progress, latest = run.progress, {}
    for number, n_slices, tensors in pending:
        latest = {name: float(value) for name, value in tensors.items()}
        progress.step = number + 1 - progress.epoch * run.steps_per_epoch
        for name, value in latest.items():
            if not math.isfinite(value):
                raise _diverged(run, f"{name} is {value} at")
            progress.sums[name] = progress.sums.get(name, 0.0) + n_slices * value
        progress.n_slices += n_slices
    return latest


def _check_variables(run: Run) -> None:
    """Refuse to save infinite or NaN weights: the last update may make them so, though its losses were finite."""
    for name, variable in run.networks.variables():
        if not np.isfinite(variable.numpy()).all():
            raise _diverged(run, f"{name} is infinite or NaN after")


def _diverged(run: Run, found: str) -> InputError:
    return InputError(
        f"{run.folder}: {found} step {run.progress.step} of epoch {run.progress.epoch + 1}: training has "
        f"diverged; run again with smaller learning rates, from {checkpoints.states(run.folder)[-1]}"
    )


# --- the end of an epoch ----------------------------------------------------------------------------------------------


def _validate(batches: ByStep | None, evaluation: Callable) -> dict[str, float]:
    """Mean of the values of `evaluation` over the slices that are held out; empty if there are none."""
    if batches is None:
        return {}
    sums: dict[str, float] = {}
    n_slices = 0
    for inputs, target in iterate_batches(batches, 0, batches.steps_per_epoch):
        n_slices += len(target)
        for name, value in evaluation(inputs, target).items():
            sums[name] = sums.get(name, 0.0) + len(target) * float(value)
    return {name: value / n_slices for name, value in sums.items()}


def _end_epoch(run: Run, validation_losses: dict[str, float]) -> None:
    """Add the epoch to the history, write its files, and reset the counters of the epoch if it is complete."""
    progress, networks, folder = run.progress, run.networks, run.folder
    rates = dict(zip(("generator_lr", "discriminator_lr"), run.learning_rates(run.next_step - 1), strict=True))
    if networks.discriminator is None:
        del rates["discriminator_lr"]
    row = {"epoch": progress.epoch + 1, "step": run.next_step, **rates}
    row |= {name: total / progress.n_slices for name, total in progress.sums.items()} | validation_losses
    row["seconds"] = round(progress.seconds, 2)
    row["slices_per_second"] = round(progress.n_slices / max(progress.seconds, 1e-9), 3)
    progress.rows = [*(earlier for earlier in progress.rows if earlier["epoch"] != row["epoch"]), row]
    mae = row.get("val_mae", math.inf)
    is_best = mae < progress.best
    progress.best = min(progress.best, mae)
    progress.waited = 0 if is_best or not validation_losses else progress.waited + 1
    description = {
        **run.description,
        "epoch": row["epoch"],
        "validation_mae": row.get("val_mae", math.nan),
        "copy_mae": row.get("val_copy_mae", math.nan),
    }
    model.save(networks.generator, folder / "generator.h5", description)
    if is_best:
        model.save(networks.generator, folder / "generator_best.h5", description)
    if networks.discriminator is not None:
        model.save(networks.discriminator, folder / "discriminator.h5", description)
    outputs.write_epoch(folder, progress.rows, run.last_epoch, run.save_samples, run.tensorboard)
    if progress.step == run.steps_per_epoch:
        progress.epoch, progress.step, progress.n_slices = progress.epoch + 1, 0, 0
        progress.sums, progress.seconds = {}, 0.0


def _save_state(run: Run) -> None:
    """Write the state; the previous one stays until this one is complete."""
    arrays = ((name, variable.numpy()) for name, variable in run.networks.variables())
    checkpoints.save(run.folder, run.next_step, arrays, run.flags, run.progress)


class _Interruption(contextlib.AbstractContextManager):
    """Records Ctrl-C or SIGTERM, so that the step can end and the state be written; a second signal stops at once."""

    signal: int | None = None  # that has arrived

    def __enter__(self) -> _Interruption:
        self.handlers = {number: signal.signal(number, self._record) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, _frame) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(RuntimeError):  # the signal may arrive while another line is being printed
            print("\nStopping after this step; the state will be on disk.", flush=True)

    def check(self) -> None:
        """Raise the exception of the signal that has arrived, if any; call it once everything is written."""
        if self.signal is not None:
            raise KeyboardInterrupt if self.signal == signal.SIGINT else SystemExit(128 + self.signal)
