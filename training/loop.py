"""The one training loop: steps, epochs, validation, samples, and a state from which a run resumes exactly.

The variants (fixed pair, multitarget, generator only, hum2guitar) differ in what a `Run` holds: networks with their
losses and optimizers, settings, and batches. What a run computes depends on these alone: step s of epoch e always sees
the same batch, the same dropout and the same learning rate, wherever the run was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import math
import pathlib
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow as tf

import losses
import model
from common import weights
from common.errors import InputError
from common.files import open_regular
from training import checkpoints
from training.batches import Batches, iterate_batches, stream_batches
from training.distribution import is_chief, wait_for_all
from training.optimizers import Schedule
from training.progress import Status, outcome, summary, warnings, write_csv

keras = tf.keras
T = TypeVar("T")
MAX_FRAMES = 200  # of an animation: all its frames are held in memory while it is written
_BROKEN_PICTURE = (OSError, ValueError, SyntaxError, ArithmeticError, EOFError)  # what Pillow raises
CHECK_EVERY = 10  # steps between two readings of the losses; each reading waits for the device


@dataclasses.dataclass(frozen=True)
class Networks:
    """What is trained.

    Attributes:
        generator: maps (batch, bins, frames, channels) to (batch, bins, frames, 1), both in [-1, 1].
        discriminator: judges (channel 0 of the input, spectrogram); None trains the generator alone.
        objective: the losses of both networks and their weights.
        generator_optimizer, discriminator_optimizer: Keras optimizers; the loop sets their learning rate at every step.
        instance_noise: standard deviation of the noise added to every spectrogram that the discriminator judges.
    """

    generator: keras.Model
    discriminator: keras.Model | None
    objective: losses.Objective
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer | None = None
    instance_noise: float = 0.0

    def build(self) -> None:
        """Create the optimizers' variables, before the first step is traced and before a state is restored."""
        pairs = [(self.generator, self.generator_optimizer), (self.discriminator, self.discriminator_optimizer)]
        for network, optimizer in pairs:
            if network is not None and not optimizer.built:  # LossScaleOptimizer would add its own variables twice
                optimizer.build(network.trainable_variables)

    def variables(self) -> Iterator[tuple[str, keras.Variable]]:
        """Everything that changes during training, by name: weights, moments, dropout seeds, loss scale."""
        parts = {"generator": self.generator, "generator_optimizer": self.generator_optimizer}
        if self.discriminator is not None:
            parts |= {"discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer}
        for part, owner in parts.items():
            for index, variable in enumerate(owner.variables):
                yield f"{part}/{index:03d}", variable


@dataclasses.dataclass(frozen=True)
class Settings:
    """How networks are trained; docs/training.md explains each setting.

    Attributes:
        folder: the model's folder, which this process has claimed (`start.claim_folder`).
        description: is stored in the weights files.
        identity: the settings that define the run, by flag; a resumed run prints those that have changed.
        epoch_offset: epochs that bare weights in the folder were trained for; None takes the number in the file.
        after_step: is called after each step with the number of steps that the run has done.
        advice: what to do if the run ends worse than copying its input.
        epochs_flag: the flag that `epochs` was given with, for messages.
    """

    folder: pathlib.Path
    description: dict
    identity: dict
    generator_rate: float
    discriminator_rate: float = 0.0
    epochs: int = 100
    epoch_offset: int | None = None
    max_steps: int | None = None
    seed: int = 0
    lr_schedule: str = "constant"
    patience: int | None = None
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False
    plot_format: str = "png"
    jit: bool = False
    after_step: Callable[[int], None] | None = None
    advice: str = "raise the learning rates"
    epochs_flag: str = "--epochs"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One example of an epoch: RGB picture (height, width, 3) uint8 and audio (n_samples,)."""

    name: str
    picture: np.ndarray
    audio: np.ndarray
    sample_rate: int


@dataclasses.dataclass
class Progress:
    """How far a run has come: the counters that its state stores.

    Attributes:
        epoch: complete epochs, counted from the first one of the weights that the run began with (`epoch_offset`).
        step: steps done in the current epoch.
        n_slices, sums, seconds: of the current epoch: slices seen, sum of each loss over them, seconds of training.
        rows: rows of history.csv.
        best: lowest validation MAE so far.
        waited: epochs since then.
        copy_mae: validation MAE of copying the input.
        epoch_offset: epochs that bare weights were trained for before this run.
    """

    epoch: int = 0
    step: int = 0
    n_slices: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    rows: list[dict] = dataclasses.field(default_factory=list)
    best: float = math.inf
    waited: int = 0
    copy_mae: float = math.nan
    epoch_offset: int = 0


@dataclasses.dataclass
class Run:
    """One training run: what is trained, how, on what, and how far it has come.

    Attributes:
        networks, settings: what is trained, and how.
        training_batches: batches by step.
        validation_batches: the same for the slices that are held out; None if there are none.
        save_samples: writes pictures and audio of the present generator into a folder and returns them.
        progress: is set by `fit` from the folder's state.
        end_seconds: what the end of the last epoch took: validation, samples, files.
    """

    networks: Networks
    settings: Settings
    training_batches: Batches
    validation_batches: Batches | None
    save_samples: Callable[[pathlib.Path], list[Sample]]
    progress: Progress = dataclasses.field(default_factory=Progress)
    end_seconds: float = 0.0

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
        n_steps = max(0, self.settings.epochs - self.progress.epoch_offset) * self.steps_per_epoch
        return n_steps if self.settings.max_steps is None else min(n_steps, self.settings.max_steps)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether an epoch has ended and the validation MAE has not fallen for `patience` epochs."""
        patience = self.settings.patience
        return patience is not None and self.progress.step == 0 and self.progress.waited >= patience

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done, or patience has run out."""
        return self.is_out_of_patience or self.next_step >= self.first_step + self.n_steps

    def learning_rates(self, step: int) -> tuple[float, float]:
        """Learning rates of generator and discriminator at step number `step`."""
        factor = Schedule(self.settings.lr_schedule, self.n_steps).factor(step - self.first_step)
        return factor * self.settings.generator_rate, factor * self.settings.discriminator_rate


class Stopped(SystemExit):
    """Raised after SIGTERM, when the state is on disk; exit status 143 as shells report it."""


def fit(run: Run) -> Progress:
    """Train from the state in the folder, or from the start, to the end of the settings; the progress at the end.

    Raises:
        InputError: the folder holds another network's state, a loss or weight is infinite or NaN, or a feature file is
            damaged.
        KeyboardInterrupt, Stopped: after Ctrl-C and SIGTERM; the state is on disk.
    """
    with _Interruption() as interruption:
        run.networks.build()
        run.progress = _resume(run) or _begin(run)
        wait_for_all()  # the chief writes below what the others read above
        if run.is_complete:
            flag = "--patience" if run.is_out_of_patience else f"{run.settings.epochs_flag} or --max_steps"
            print(f"{run.settings.folder}: this run is complete; a larger {flag} extends it")
            _print_outcome(run)
            return run.progress
        if run.validation_batches is not None and not math.isfinite(run.progress.copy_mae):
            run.progress.copy_mae = _copy_mae(run.validation_batches)
        if not checkpoints.states(run.settings.folder):
            _save_state(run)  # before any weights file: weights without a state cannot be resumed
        if is_chief():
            _rehearse_drawing(run)
        step = make_step(run.networks, run.settings.seed, run.settings.jit)
        evaluation = make_evaluation(run.networks)
        training_stream, validation_stream = _stream_training(run), _stream_validation(run)
        while not run.is_complete:
            _train_epoch(run, step, training_stream, interruption)
            trained = time.monotonic()
            _end_epoch(run, _validate(run, evaluation, validation_stream))
            if run.is_complete and is_chief():
                _write_animations(run.settings.folder)  # before the state: a complete run writes nothing any more
            _save_state(run)
            run.end_seconds = time.monotonic() - trained
            interruption.check()
        _print_outcome(run)
        wait_for_all()  # the next run in this folder finds everything written
    return run.progress


# --- the start of a run -----------------------------------------------------------------------------------------------


def _resume(run: Run) -> Progress | None:
    """Set all variables from the newest state in the folder; its progress, or None if there is no state.

    Raises:
        InputError: as `checkpoints.load`, or the state belongs to another network.
    """
    state = checkpoints.load(run.settings.folder, _check_state)
    if state is None:
        return None
    for line in state.damaged:
        print(line)
    identity, earlier = run.settings.identity, state.run["identity"]
    _restore_variables(run, state.path, earlier)
    progress = Progress(**state.run["progress"])
    if earlier != identity:
        progress.copy_mae = math.nan  # may have been measured on other data
    size, earlier_size = identity.get("batch_size", 1), earlier.get("batch_size", 1)
    if earlier_size != size or progress.step > run.steps_per_epoch:  # resume at the same share of the epoch
        progress.step = min(progress.step * earlier_size // size, run.steps_per_epoch - 1)
    for flag, value in identity.items():
        if flag in earlier and earlier[flag] != value:
            print(f"Going on with other settings: {flag} {value} (started with {earlier[flag]})")
    if run.settings.epoch_offset not in (None, progress.epoch_offset):
        print(f"--epoch_offset is for bare weights: this run goes on with its own, {progress.epoch_offset}")
    if not dataclasses.replace(run, progress=progress).is_complete:
        print(f"Going on from {state.path} (epoch {progress.epoch + 1}, step {progress.step})")
    return progress


def _check_state(state: dict) -> None:
    """Refuse a state whose entries are not what `_save_state` has written.

    Raises:
        ValueError: naming the entry.
    """

    def is_of(kind: str, value: object) -> bool:
        if kind == "int":
            return type(value) is int and 0 <= value < 2**53
        if kind == "float":
            return type(value) in (int, float)
        if kind.startswith("dict"):
            return isinstance(value, dict) and all(is_of("float", number) for number in value.values())
        return isinstance(value, list) and all(is_of("dict", row) and is_of("int", row.get("epoch")) for row in value)

    progress = state.get("progress")
    if not isinstance(state.get("identity"), dict) or not isinstance(progress, dict):
        raise ValueError("expected the entries identity and progress")
    if not is_of("int", state["identity"].get("batch_size", 1)) or not state["identity"].get("batch_size", 1):
        raise ValueError(f"expected a batch size, found {str(state['identity']['batch_size'])[:100]}")
    kinds = {field.name: field.type for field in dataclasses.fields(Progress)}
    for name, value in progress.items():
        if name not in kinds or not is_of(kinds[name], value):
            raise ValueError(f"expected {name} as in training, found {str(value)[:100]}")


def _restore_variables(run: Run, path: pathlib.Path, earlier: dict) -> None:
    """Set all variables from the state at `path`, which was written by a run with the identity `earlier`.

    Raises:
        InputError: the state belongs to another network.
    """
    variables = dict(run.networks.variables())
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if shapes != dict(checkpoints.shapes(path)):
        other = [f"--{key} {value}" for key, value in earlier.items() if run.settings.identity.get(key) != value]
        raise InputError(
            f"{path}: expected the training state of this network, found that of another"
            f"{' (' + ', '.join(other) + ')' if other else ''}; --fresh starts over"
        )
    for name, array in checkpoints.arrays(path):
        variables[name].assign(array)


def _begin(run: Run) -> Progress:
    """Begin with the weights that the networks have or, if there are bare weights in the folder, with those.

    Raises:
        InputError: ``--epoch_offset`` without weights, weights without a number of epochs, or no epoch left to train.
    """
    networks, settings = run.networks, run.settings
    generator, discriminator = settings.folder / "generator.h5", settings.folder / "discriminator.h5"
    offset = 0
    if generator.exists():
        if weights.describe(generator).settings.get("exported"):
            raise InputError(
                f"{settings.folder}: expected a folder for this training, found an exported model: give another "
                f"--models_path (--init {generator} starts from it), or --fresh to keep it under another name"
            )
        offset = _stored_epoch(generator) if settings.epoch_offset is None else settings.epoch_offset
        if offset >= settings.epochs:
            raise InputError(
                f"{settings.epochs_flag}: expected the number of the last epoch, above the {offset} that {generator} "
                f"was trained for, found {settings.epochs}; --fresh sets these weights aside"
            )
        try:
            model.load_into(networks.generator, generator)
            if networks.discriminator is not None and discriminator.exists():
                model.load_into(networks.discriminator, discriminator)
        except InputError as error:
            raise InputError(f"{error}; another --models_path leaves them alone, --fresh sets them aside") from None
        print(f"Going on from the bare weights {generator} as epoch {offset + 1}")
    elif settings.epoch_offset:
        raise InputError(f"--epoch_offset: expected weights to go on from, found no {generator}")
    settings.folder.mkdir(parents=True, exist_ok=True)
    _warn_if_disk_is_small(networks, settings.folder)
    return Progress(epoch=offset, epoch_offset=offset)


def _stored_epoch(path: pathlib.Path) -> int:
    """The number of epochs that the weights file at `path` says it was trained for.

    Raises:
        InputError: the file does not say it, as published ones do not.
    """
    epoch = weights.describe(path).settings.get("epoch")
    if not isinstance(epoch, int) or epoch < 0:
        raise InputError(
            f"{path}: expected a training state beside these weights, or the number of their epochs in them, found "
            "neither: --epoch_offset N goes on from them, --fresh starts over and keeps them under another name"
        )
    return epoch


def _warn_if_disk_is_small(networks: Networks, folder: pathlib.Path) -> None:
    n_bytes = sum(variable.numpy().nbytes for _, variable in networks.variables())
    needed = 4 * n_bytes  # two states, a third while it is written, and the weights files
    free = shutil.disk_usage(folder).free
    if free < needed:
        print(
            f"Warning: {folder} has {free / 1e9:.1f} GB free, this run needs about {needed / 1e9:.1f} GB: "
            "it will stop when the disk is full (docs/training.md)"
        )


def _rehearse_drawing(run: Run) -> None:
    """Draw once what the end of each epoch draws, so that what fails there is known before the first step."""
    with tempfile.TemporaryDirectory(
        prefix=checkpoints.REHEARSAL, dir=run.settings.folder, ignore_cleanup_errors=True
    ) as folder:
        _draw(run, pathlib.Path(folder, "000"), pathlib.Path(folder))


def _copy_mae(batches: Batches) -> float:
    """Mean absolute error over all slices if the input itself were the output."""
    total, n_slices = 0.0, 0
    for inputs, target in iterate_batches(stream_batches(batches, 0, batches.steps_per_epoch), batches):
        size = int(inputs.shape[0])
        total += float(tf.reduce_mean(tf.abs(target - inputs[..., :1]))) * size
        n_slices += size
    return total / n_slices


# --- steps ------------------------------------------------------------------------------------------------------------


def make_step(networks: Networks, seed: int = 0, jit: bool = False) -> Callable:
    """The compiled update of both networks by one batch.

    Returns:
        A function of (inputs, target, generator's learning rate, discriminator's, step number) that returns the losses
        by name: those of the objective, ``generator_loss``, ``discriminator_loss`` and ``mae``. The gradients of both
        networks are taken at the same weights, as published.
    """
    generator, discriminator, objective = networks.generator, networks.discriminator, networks.objective

    def judge(inputs, spectrogram, noise_seed):
        if networks.instance_noise:
            noise = tf.random.stateless_normal(tf.shape(spectrogram), noise_seed, stddev=networks.instance_noise)
            spectrogram += noise
        return model.discriminate(discriminator, inputs[..., :1], spectrogram, training=True)

    def replica_step(inputs, target, number):
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            output = generator(inputs, training=True)
            real, fake = [], []
            if discriminator is not None:
                real = judge(inputs, target, tf.stack([seed, 2 * number]))
                fake = judge(inputs, output, tf.stack([seed, 2 * number + 1]))
            outcome = losses.Outcome(target, output, real, fake)
            generator_loss, terms = losses.evaluate(objective.generator, outcome)
            scaled = _scale(networks.generator_optimizer, generator_loss)
            if discriminator is not None:
                discriminator_loss, _ = losses.evaluate(objective.discriminator, outcome)
                discriminator_scaled = _scale(networks.discriminator_optimizer, discriminator_loss)
        _update(networks.generator_optimizer, generator_tape, scaled, generator.trainable_variables)
        values = {"generator_loss": generator_loss, "mae": losses.l1(outcome), **terms}
        if discriminator is not None:
            trainable = discriminator.trainable_variables
            _update(networks.discriminator_optimizer, discriminator_tape, discriminator_scaled, trainable)
            values["discriminator_loss"] = discriminator_loss
        return values

    @tf.function(jit_compile=jit, reduce_retracing=True, autograph=False)
    def step(inputs, target, generator_rate, discriminator_rate, number):
        strategy = tf.distribute.get_strategy()
        _set_rate(networks.generator_optimizer, generator_rate)
        if discriminator is not None:
            _set_rate(networks.discriminator_optimizer, discriminator_rate)
        values = strategy.run(replica_step, (inputs, target, number))
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in values.items()}

    return step


def _scale(optimizer: keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """The loss to take gradients of: multiplied by the loss scale if the optimizer has one (mixed_float16).

    It is divided by the number of replicas, because optimizers add up the gradients of all replicas.
    """
    return optimizer.scale_loss(loss) / tf.distribute.get_strategy().num_replicas_in_sync


def _set_rate(optimizer: keras.optimizers.Optimizer, rate: tf.Tensor) -> None:
    getattr(optimizer, "inner_optimizer", optimizer).learning_rate.assign(rate)


def _update(optimizer, tape: tf.GradientTape, loss: tf.Tensor, variables: list) -> None:
    """Take one step of `optimizer` down the gradient of `loss`."""
    optimizer.apply(tape.gradient(loss, variables), variables)


def _stream_training(run: Run) -> Iterator:
    """The batches of all steps that are left; with several replicas, each of them gets a share of every batch."""
    strategy, batches = tf.distribute.get_strategy(), run.training_batches
    start, stop = run.next_step, run.first_step + run.n_steps
    n_replicas = strategy.num_replicas_in_sync
    if n_replicas == 1:
        return iterate_batches(stream_batches(batches, start, stop), batches)

    def stream_of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        n_local = n_replicas // context.num_input_pipelines
        local = range(context.input_pipeline_id * n_local, (context.input_pipeline_id + 1) * n_local)
        return stream_batches(batches, start, stop, replicas=local, n_replicas=n_replicas)

    return iterate_batches(strategy.distribute_datasets_from_function(stream_of_worker), batches)


def _train_epoch(run: Run, step: Callable, training_stream: Iterator, interruption: _Interruption) -> None:
    """Train to the end of the current epoch or of the run, and write the state every `checkpoint_minutes`."""
    settings, progress = run.settings, run.progress
    first, first_of_epoch = run.next_step, progress.epoch * run.steps_per_epoch
    stop = min(first_of_epoch + run.steps_per_epoch, run.first_step + run.n_steps)
    label = f"epoch {progress.epoch + 1}/{settings.epochs}"
    saved = clock = time.monotonic()
    pending: list[tuple[int, dict]] = []
    batches = itertools.islice(training_stream, stop - first)
    later_steps = run.first_step + run.n_steps - stop
    ends = run.end_seconds * (1 + math.ceil(later_steps / run.steps_per_epoch))
    status = Status(
        label,
        stop - first_of_epoch,
        progress.step,
        later_steps=later_steps,
        later_seconds=ends,
        is_first=not run.end_seconds,
    )
    with contextlib.closing(status):
        for number, (inputs, target) in enumerate(batches, first):
            rates = map(tf.constant, run.learning_rates(number))
            pending.append((number, step(inputs, target, *rates, tf.constant(number, tf.int32))))
            if settings.after_step is not None:
                settings.after_step(number + 1)
            is_stopping = interruption.signal is not None
            is_due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            if len(pending) == CHECK_EVERY or number == stop - 1 or is_stopping or is_due:
                latest = _add_losses(run, pending)
                now = time.monotonic()
                progress.seconds, clock = progress.seconds + now - clock, now
                status.advance(len(pending), {name: latest[name] for name in ("generator_loss", "mae")})
                pending = []
            if (is_stopping or is_due) and number < stop - 1:  # after the last step, the end of the epoch writes it
                _check_variables(run)
                _save_state(run)
                saved = clock = time.monotonic()
                interruption.check()
    _check_variables(run)


def _add_losses(run: Run, pending: list[tuple[int, dict]]) -> dict[str, float]:
    """Add the losses of `pending` (step number, losses) to the sums of the epoch; the losses of the last of them.

    Raises:
        InputError: a loss is infinite or NaN.
    """
    progress, latest = run.progress, {}
    for number, tensors in pending:
        n_slices = run.training_batches.size(number)
        latest = {name: float(value) for name, value in tensors.items()}
        for name, value in latest.items():
            if not math.isfinite(value):
                raise _diverged(run, f"{name} is {value} at step {number + 1} (epoch {progress.epoch + 1})")
            progress.sums[name] = progress.sums.get(name, 0.0) + n_slices * value
        progress.n_slices += n_slices
        progress.step = number + 1 - progress.epoch * run.steps_per_epoch
    return latest


def _check_variables(run: Run) -> None:
    """Refuse to save infinite or NaN weights.

    Raises:
        InputError: the last update has made a variable infinite or NaN, though its losses were finite.
    """
    for name, variable in run.networks.variables():
        if not np.isfinite(variable.numpy()).all():
            place = f"the update of step {run.progress.step} of epoch {run.progress.epoch + 1}"
            raise _diverged(run, f"{name} is infinite or NaN after {place}")


def _diverged(run: Run, found: str) -> InputError:
    """The error of a run whose losses or weights are infinite or NaN."""
    kept = checkpoints.states(run.settings.folder)
    return InputError(
        f"{run.settings.folder}: {found}: training has diverged; smaller learning rates may help; "
        f"{f'the last good state is {kept[-1]}' if kept else 'no state was written yet'}"
    )


# --- validation -------------------------------------------------------------------------------------------------------


def make_evaluation(networks: Networks) -> Callable:
    """The compiled losses of one batch in inference mode: a function of (inputs, target) that returns them by name."""
    generator, discriminator, objective = networks.generator, networks.discriminator, networks.objective

    @tf.function(reduce_retracing=True, autograph=False)
    def evaluation(inputs, target):
        output = generator(inputs, training=False)
        real, fake = [], []
        if discriminator is not None:
            real = model.discriminate(discriminator, inputs[..., :1], target, training=False)
            fake = model.discriminate(discriminator, inputs[..., :1], output, training=False)
        outcome = losses.Outcome(target, output, real, fake)
        values = {"val_mae": losses.l1(outcome)}
        values["val_generator_loss"], _ = losses.evaluate(objective.generator, outcome)
        if discriminator is not None:
            values["val_discriminator_loss"], _ = losses.evaluate(objective.discriminator, outcome)
        return values

    return evaluation


def _stream_validation(run: Run) -> tf.data.Dataset | None:
    batches = run.validation_batches
    return None if batches is None else stream_batches(batches, 0, batches.steps_per_epoch)


def _validate(run: Run, evaluation: Callable, validation_stream: tf.data.Dataset | None) -> dict[str, float]:
    """Mean of the inference-mode losses over the slices that are held out; empty if there are none."""
    if validation_stream is None:
        return {}
    sums, n_slices = {}, 0
    for inputs, target in iterate_batches(validation_stream, run.validation_batches):
        size = int(inputs.shape[0])
        n_slices += size
        for name, value in evaluation(inputs, target).items():
            sums[name] = sums.get(name, 0.0) + size * float(value)
    return {name: value / n_slices for name, value in sums.items()}


# --- the end of an epoch ----------------------------------------------------------------------------------------------


def _end_epoch(run: Run, validation_losses: dict[str, float]) -> None:
    """Add the epoch to the history, write its files, and reset the counters of the epoch if it is complete."""
    progress = run.progress
    row = _history_row(run, validation_losses)
    progress.rows = [*(earlier for earlier in progress.rows if earlier["epoch"] != row["epoch"]), row]
    is_best = False
    if math.isfinite(row.get("val_mae", math.nan)):
        is_best = row["val_mae"] < progress.best
        progress.waited = 0 if is_best else progress.waited + 1
        progress.best = min(progress.best, row["val_mae"])
    if is_chief():
        _write_epoch(run, is_best)
    if progress.step == run.steps_per_epoch:
        progress.epoch, progress.step, progress.n_slices = progress.epoch + 1, 0, 0
        progress.sums, progress.seconds = {}, 0.0


def _history_row(run: Run, validation_losses: dict[str, float]) -> dict:
    """The row of history.csv for the epoch that has just ended."""
    progress = run.progress
    generator_rate, discriminator_rate = run.learning_rates(run.next_step - 1)
    row = {"epoch": progress.epoch + 1, "step": run.next_step, "generator_lr": generator_rate}
    if run.settings.discriminator_rate:
        row["discriminator_lr"] = discriminator_rate
    row |= {name: total / progress.n_slices for name, total in progress.sums.items()}
    if validation_losses:
        row |= {**validation_losses, "val_copy_mae": progress.copy_mae}
    row["seconds"] = round(progress.seconds, 2)
    row["slices_per_second"] = round(progress.n_slices / max(progress.seconds, 1e-9), 3)
    return row


def _write_epoch(run: Run, is_best: bool) -> None:
    """Write history, weights and samples of the epoch that has ended, and print its summary and warnings."""
    networks, folder, rows = run.networks, run.settings.folder, run.progress.rows
    row = rows[-1]
    write_csv(folder / "history.csv", rows)
    description = {
        **run.settings.description,
        "epoch": row["epoch"],
        "validation_mae": row.get("val_mae", math.nan),
        "copy_mae": row.get("val_copy_mae", math.nan),
    }
    model.save(networks.generator, folder / "generator.h5", description)
    if is_best:
        model.save(networks.generator, folder / "generator_best.h5", description)
    if networks.discriminator is not None:
        model.save(networks.discriminator, folder / "discriminator.h5", description)
    samples = _draw(run, folder / "samples" / f"{row['epoch']:03d}", folder)
    if run.settings.tensorboard:
        _write_tensorboard(folder / "tensorboard", row, samples)
    print(summary(row, run.settings.epochs), flush=True)
    for warning in warnings(rows):
        print(f"Warning: {warning}", flush=True)


def attempt(what: str, work: Callable[[], T], otherwise: T) -> T:
    """The result of `work`, which draws something; if it fails, a warning about `what`, and `otherwise`.

    A package may find no place for its cache, or no font. A full disk still stops the run, in one line.
    """
    try:
        return work()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        print(f"Warning: {what} could not be drawn, training goes on without: {reason}", flush=True)
        return otherwise


def _draw(run: Run, samples_folder: pathlib.Path, history_folder: pathlib.Path) -> list[Sample]:
    """Write the samples of an epoch and the plot of the history; the samples.

    What cannot be drawn is a warning (`attempt`), because it must not cost the epoch.
    """

    def draw_history() -> None:
        from common import plots

        columns = ["mae"]  # which is the loss of a generator alone
        if run.networks.discriminator is not None:
            columns += ["generator_loss", "discriminator_loss"]
        path = history_folder / f"history.{run.settings.plot_format}"
        plots.save_history(path, run.progress.rows, columns, title=run.settings.folder.name)

    samples = attempt("samples", lambda: run.save_samples(samples_folder), [])
    attempt("the history", draw_history, None)
    return samples


def _write_tensorboard(folder: pathlib.Path, row: dict, samples: list[Sample]) -> None:
    """Write scalars, pictures and audio of one epoch.

    Each kind has tags of its own: TensorBoard shows neither of two kinds that share a tag.
    """
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=row["epoch"]):
        for name, value in row.items():
            if name not in ("epoch", "step"):
                tf.summary.scalar(name, value)
        for example in samples:
            tf.summary.image(f"spectrogram/{example.name}", example.picture[np.newaxis])
            audio = example.audio[np.newaxis, :, np.newaxis]
            tf.summary.audio(f"audio/{example.name}", audio, example.sample_rate)
    writer.close()


def _write_animations(folder: pathlib.Path) -> None:
    """Write one GIF for each kind of sample, from the pictures of all epochs or of evenly chosen ones."""
    from common import plots

    by_name: dict[str, list[pathlib.Path]] = {}
    pictures = [path for path in (folder / "samples").glob("*/*.png") if re.fullmatch("[0-9]{1,9}", path.parent.name)]
    for path in sorted(pictures, key=lambda path: int(path.parent.name)):
        by_name.setdefault(path.stem, []).append(path)
    for name, paths in by_name.items():
        chosen = np.linspace(0, len(paths) - 1, min(len(paths), MAX_FRAMES)).round().astype(int)
        frames = _read_frames([paths[index] for index in chosen])
        attempt(f"{name}.gif", lambda n=name, f=frames: plots.save_gif(folder / f"{n}.gif", f, 0.5), None)


def _read_frames(paths: list[pathlib.Path]) -> Iterator[np.ndarray]:
    """The pictures at `paths` that have the size of the last one, RGB, one at a time; damaged ones are left out."""
    from PIL import Image

    size = None
    for path in reversed(paths):  # the size of the last one that can be read
        with contextlib.suppress(*_BROKEN_PICTURE), open_regular(path) as file, Image.open(file) as last:
            last.load()
            size = last.size
            break
    for path in paths:
        frame = None
        with contextlib.suppress(*_BROKEN_PICTURE), open_regular(path) as file, Image.open(file) as image:
            if image.size == size:
                frame = np.asarray(image.convert("RGB"))
        if frame is not None:
            yield frame


def _save_state(run: Run) -> None:
    """Write the state; the previous one stays until this one is complete."""
    if not is_chief():
        return
    arrays = ((name, variable.numpy()) for name, variable in run.networks.variables())
    state = {"identity": run.settings.identity, "progress": dataclasses.asdict(run.progress)}
    checkpoints.save(run.settings.folder, run.next_step, arrays, state)


def _print_outcome(run: Run) -> None:
    """Print which weights are the best and how good they are, the last line of a run."""
    if not is_chief():
        return
    path, is_best = run.settings.folder / "generator_best.h5", True
    if not path.exists():
        path, is_best = run.settings.folder / "generator.h5", False
    settings = weights.describe(path).settings
    epoch, mae = settings["epoch"], settings["validation_mae"] if is_best else math.nan
    print(outcome(path, epoch, mae, run.progress.copy_mae, run.settings.advice), flush=True)


# --- interruption -----------------------------------------------------------------------------------------------------


class _Interruption(contextlib.AbstractContextManager):
    """Records Ctrl-C or SIGTERM, so that the step can end and the state be written; a second signal stops at once.

    Attributes:
        signal: number of the signal that has arrived; None before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> _Interruption:
        self.handlers = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                self.handlers[number] = signal.signal(number, self._record)
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
        if self.signal == signal.SIGTERM:
            raise Stopped(128 + signal.SIGTERM)
        if self.signal is not None:
            raise KeyboardInterrupt
