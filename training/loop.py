"""The one training loop: a GradientTape step, epochs, validation, samples and a state that resumes exactly.

The variants (fixed pair, multitarget, generator only, hum2guitar) are arguments: a `System` says which networks, losses
and optimizers, the batches say which data. A run is a function of its settings: step s of epoch e always sees the same
batch, the same dropout and the same learning rate, wherever the run was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

import losses
import model
from common.errors import InputError
from training import checkpoints
from training.batches import Batches, iterate_batches, stream_batches
from training.optimizers import Schedule
from training.progress import Status, summary, warnings, write_csv

keras = tf.keras
MAX_FRAMES = 200  # of an animation, which is held in memory while it is written
CHECK_EVERY = 10  # steps between two looks at the losses: each look waits for the device


@dataclasses.dataclass(frozen=True)
class System:
    """What is trained.

    Attributes:
        generator: (batch, bins, frames, channels) to (batch, bins, frames, 1), both in [-1, 1].
        discriminator: sees (channel 0 of the input, spectrogram); None trains the generator alone.
        objective: the losses of both and their weights.
        generator_optimizer, discriminator_optimizer: Keras optimizers; their learning rate is set at every step.
        instance_noise: standard deviation of the noise added to what the discriminator judges.
    """

    generator: keras.Model
    discriminator: keras.Model | None
    objective: losses.Objective
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer | None = None
    instance_noise: float = 0.0

    def build(self) -> None:
        """Make the optimizers' variables, once; before the first step is traced and before a state is restored."""
        pairs = [(self.generator, self.generator_optimizer), (self.discriminator, self.discriminator_optimizer)]
        for network, optimizer in pairs:
            if network is not None and not optimizer.built:  # the one that scales the loss would add its own again
                optimizer.build(network.trainable_variables)

    def variables(self) -> Iterator[tuple[str, keras.Variable]]:
        """Everything that changes while training, by name: weights, moments, seeds of dropout, loss scale."""
        parts = {"generator": self.generator, "generator_optimizer": self.generator_optimizer}
        if self.discriminator is not None:
            parts |= {"discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer}
        for part, owner in parts.items():
            for index, variable in enumerate(owner.variables):
                yield f"{part}/{index:03d}", variable


@dataclasses.dataclass(frozen=True)
class Settings:
    """How it is trained; see docs/training.md for each.

    Attributes:
        folder: the model's folder.
        description: what the weights files say of themselves.
        identity: settings that make a run what it is, by flag: compared with those a resumed run was started with.
        is_chief: writes to the folder; the other workers of a distributed run compute the same and write nothing.
        after_step: called after each step with how many the run has done, for samples between the epochs' ends.
    """

    folder: pathlib.Path
    description: dict
    identity: dict
    generator_rate: float
    discriminator_rate: float = 0.0
    epochs: int = 100
    epoch_offset: int = 0
    max_steps: int | None = None
    seed: int = 0
    lr_schedule: str = "constant"
    patience: int | None = None
    checkpoint_minutes: float = 10.0
    fresh: bool = False
    tensorboard: bool = False
    jit: bool = False
    is_chief: bool = True
    after_step: Callable[[int], None] | None = None

    def n_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole run."""
        n_steps = max(0, self.epochs - self.epoch_offset) * steps_per_epoch
        return n_steps if self.max_steps is None else min(n_steps, self.max_steps)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One example of an epoch: RGB picture (height, width, 3) uint8 and audio (n_samples,)."""

    name: str
    picture: np.ndarray
    audio: np.ndarray
    sample_rate: int


@dataclasses.dataclass
class Progress:
    """How far a run has come: the counters that are kept in its state.

    Attributes:
        epoch, step: epochs done (counted from 0, `epoch_offset` included) and steps done in the one under way.
        n_slices, sums, seconds: of the epoch under way: slices seen, losses times slices, seconds spent.
        rows: of history.csv.
        best, waited: lowest validation MAE, and epochs since.
        copy_mae: what copying the input would give.
        epoch_offset: epochs that the bare weights it started from had behind them.
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


# --- several devices or machines --------------------------------------------------------------------------------------


def make_strategy(name: str, batch_size: int) -> tf.distribute.Strategy:
    """The strategy that networks are built and trained under: "none", "mirrored" or "multiworker".

    Losses and batch normalisation are those of the whole batch, of which every replica gets an equal share.

    Raises:
        InputError: no TF_CONFIG for several workers, or a batch size that the replicas cannot share.
    """
    if name == "multiworker" and "TF_CONFIG" not in os.environ:
        raise InputError("--distribute multiworker: expected the environment variable TF_CONFIG, found none")
    strategies = {"mirrored": tf.distribute.MirroredStrategy, "multiworker": tf.distribute.MultiWorkerMirroredStrategy}
    strategy = strategies.get(name, tf.distribute.get_strategy)()
    n_replicas = strategy.num_replicas_in_sync
    if batch_size % n_replicas:
        raise InputError(f"--batch_size: expected a multiple of the {n_replicas} replicas, found {batch_size}")
    if name != "none":
        print(
            f"{n_replicas} replicas, {batch_size // n_replicas} slices each; an epoch's last, smaller batch is left out"
        )
    return strategy


def is_chief() -> bool:
    """Whether this process writes the files of a distributed run; true where there is only one."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")


def wait_for_all() -> None:
    """Return when every worker of a distributed run has come here; at once where there is only one."""
    strategy = tf.distribute.get_strategy()
    if strategy.cluster_resolver is not None:
        strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.ones(())), axis=None)


def start_over(folder: pathlib.Path) -> None:
    """Set aside what is in a folder that this run has locked, before any worker of it goes on."""
    aside = checkpoints.set_aside(folder) if is_chief() else None
    if aside:
        print(f"Starting over; what was there is now {aside}")
    wait_for_all()


class Stopped(SystemExit):
    """Raised after SIGTERM, when the state is on disk; exit status 143 as shells report it."""


# --- steps ------------------------------------------------------------------------------------------------------------


def make_step(system: System, seed: int = 0, jit: bool = False) -> Callable:
    """The compiled update of both networks by one batch.

    Returns:
        A function of (inputs, target, generator rate, discriminator rate, step) that gives the losses by name: those of
        the objective, ``generator_loss``, ``discriminator_loss`` and ``mae``. The gradients of both networks are taken
        at the same weights, as published.
    """
    generator, discriminator, objective = system.generator, system.discriminator, system.objective

    def judge(inputs, spectrogram, noise_seed):
        if system.instance_noise:
            noise = tf.random.stateless_normal(tf.shape(spectrogram), noise_seed, stddev=system.instance_noise)
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
            scaled = _scale(system.generator_optimizer, generator_loss)
            if discriminator is not None:
                discriminator_loss, _ = losses.evaluate(objective.discriminator, outcome)
                discriminator_scaled = _scale(system.discriminator_optimizer, discriminator_loss)
        _apply(system.generator_optimizer, generator_tape, scaled, generator.trainable_variables)
        values = {"generator_loss": generator_loss, "mae": losses.l1(outcome), **terms}
        if discriminator is not None:
            trainable = discriminator.trainable_variables
            _apply(system.discriminator_optimizer, discriminator_tape, discriminator_scaled, trainable)
            values["discriminator_loss"] = discriminator_loss
        return values

    @tf.function(jit_compile=jit, reduce_retracing=True, autograph=False)
    def step(inputs, target, generator_rate, discriminator_rate, number):
        strategy = tf.distribute.get_strategy()
        _set_rate(system.generator_optimizer, generator_rate)
        if discriminator is not None:
            _set_rate(system.discriminator_optimizer, discriminator_rate)
        values = strategy.run(replica_step, (inputs, target, number))
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in values.items()}

    return step


def _scale(optimizer: keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """The loss as its gradients are taken: times the loss scale where the optimizer has one (mixed_float16).

    Optimizers add the gradients of all replicas up; the mean over the global batch has equal shares of them.
    """
    return optimizer.scale_loss(loss) / tf.distribute.get_strategy().num_replicas_in_sync


def _set_rate(optimizer: keras.optimizers.Optimizer, rate: tf.Tensor) -> None:
    getattr(optimizer, "inner_optimizer", optimizer).learning_rate.assign(rate)


def _apply(optimizer, tape: tf.GradientTape, loss: tf.Tensor, variables: list) -> None:
    """One step of `optimizer` down the gradient of `loss`."""
    optimizer.apply(tape.gradient(loss, variables), variables)


def make_evaluation(system: System) -> Callable:
    """The compiled losses of one batch in inference mode: a function of (inputs, target) that gives them by name."""
    generator, discriminator, objective = system.generator, system.discriminator, system.objective

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


# --- the loop ---------------------------------------------------------------------------------------------------------


def fit(
    system: System,
    settings: Settings,
    training: Batches,
    validation: Batches | None,
    sample: Callable[[pathlib.Path], list[Sample]],
) -> Progress:
    """Train from where the folder's state stands (or from the start) to the end of the settings.

    Args:
        training, validation: batches by step.
        sample: writes pictures and audio of the network as it is into a folder.

    Raises:
        InputError: the folder is in use or holds another network's state, the loss is no number, a feature is damaged.
        KeyboardInterrupt, Stopped: after Ctrl-C and SIGTERM; the state is on disk.
    """
    lock = checkpoints.locked(settings.folder) if settings.is_chief else contextlib.nullcontext()
    with lock, _Interruption() as interruption:
        if settings.fresh:
            start_over(settings.folder)
        system.build()
        progress = _start(system, settings, training)
        wait_for_all()  # the chief writes below what the others read above
        if progress.epoch_offset != settings.epoch_offset:
            print(f"--epoch_offset is for bare weights: this run goes on with its own, {progress.epoch_offset}")
            settings = dataclasses.replace(settings, epoch_offset=progress.epoch_offset)
        if _is_complete(progress, settings, training):
            flag = "--patience" if _is_out_of_patience(progress, settings) else "--epochs or --max_steps"
            print(f"{settings.folder}: this run is complete; more {flag} extend it")
            return progress
        if validation is not None and not math.isfinite(progress.copy_mae):
            progress.copy_mae = _copy_mae(validation)
        if not checkpoints.states(settings.folder):
            _save(system, settings, progress, training)  # before any weights, which are nothing to go on from
        step, evaluation = make_step(system, settings.seed, settings.jit), make_evaluation(system)
        stream = _training_stream(settings, progress, training)
        held_out = None if validation is None else stream_batches(validation, 0, validation.steps_per_epoch)
        while not _is_complete(progress, settings, training):
            _train_epoch(system, settings, progress, training, stream, step, interruption)
            row = _row(progress, settings, training, _evaluate(evaluation, validation, held_out))
            is_best = _account_epoch(progress, row)
            if settings.is_chief:
                _write_epoch(system, settings, progress, is_best, sample)
            if progress.step == training.steps_per_epoch:
                progress.epoch, progress.step, progress.n_slices = progress.epoch + 1, 0, 0
                progress.sums, progress.seconds = {}, 0.0
            if _is_complete(progress, settings, training) and settings.is_chief:
                _write_animations(settings.folder)  # before the state that says there is nothing left to do
            _save(system, settings, progress, training)
            interruption.check()
        wait_for_all()  # whoever goes on from here finds everything written
    return progress


def _is_complete(progress: Progress, settings: Settings, training: Batches) -> bool:
    """Whether all steps are done, or patience has run out."""
    n_steps = settings.n_steps(training.steps_per_epoch)
    return _is_out_of_patience(progress, settings) or _steps_done(progress, settings, training) >= n_steps


def _is_out_of_patience(progress: Progress, settings: Settings) -> bool:
    """Whether, at an epoch's end, the validation MAE has not fallen for too long."""
    return settings.patience is not None and progress.step == 0 and progress.waited >= settings.patience


def _steps_done(progress: Progress, settings: Settings, training: Batches) -> int:
    return (progress.epoch - settings.epoch_offset) * training.steps_per_epoch + progress.step


def _training_stream(settings: Settings, progress: Progress, training: Batches) -> Iterator:
    """The batches from here to the end of the run; with several replicas, each step's are dealt out among them."""
    strategy, per_epoch = tf.distribute.get_strategy(), training.steps_per_epoch
    first = progress.epoch * per_epoch + progress.step
    last = settings.epoch_offset * per_epoch + settings.n_steps(per_epoch)
    n_replicas = strategy.num_replicas_in_sync
    if n_replicas == 1:
        return iterate_batches(stream_batches(training, first, last), training)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        n_local = n_replicas // context.num_input_pipelines
        local = range(context.input_pipeline_id * n_local, (context.input_pipeline_id + 1) * n_local)
        return stream_batches(training, first, last, replicas=local, n_replicas=n_replicas)

    return iterate_batches(strategy.distribute_datasets_from_function(of_worker), training)


def _train_epoch(system, settings, progress: Progress, training, stream, step: Callable, interruption) -> None:
    """Go on to the end of the epoch under way, or of the run."""
    per_epoch = training.steps_per_epoch
    n_steps = settings.n_steps(per_epoch)
    schedule = Schedule(settings.lr_schedule, n_steps)
    first = progress.epoch * per_epoch + progress.step
    last = min((progress.epoch + 1) * per_epoch, settings.epoch_offset * per_epoch + n_steps)
    label = f"epoch {progress.epoch + 1}/{settings.epochs}"
    saved = clock = time.monotonic()
    pending: list[tuple[int, int, dict]] = []
    batches = itertools.islice(stream, last - first)
    with contextlib.closing(Status(label, last - progress.epoch * per_epoch, progress.step)) as status:
        for number, (inputs, target) in enumerate(batches, first):
            factor = schedule.factor(number - settings.epoch_offset * per_epoch)
            rates = [tf.constant(factor * r) for r in (settings.generator_rate, settings.discriminator_rate)]
            values = step(inputs, target, *rates, tf.constant(number, tf.int32))
            pending.append((number, training.size(number), values))
            if settings.after_step is not None:
                settings.after_step(number + 1)
            stopping = interruption.signal is not None
            due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            if len(pending) == CHECK_EVERY or number == last - 1 or stopping or due:
                latest = _account(pending, settings, progress, training)
                now = time.monotonic()
                progress.seconds, clock = progress.seconds + now - clock, now
                status.advance(len(pending), {name: latest[name] for name in ("generator_loss", "mae")})
                pending = []
            if (stopping or due) and number < last - 1:  # the end of the epoch writes its own
                _check_weights(system, settings, progress)
                _save(system, settings, progress, training)
                saved = clock = time.monotonic()
                interruption.check()
    _check_weights(system, settings, progress)


def _account(pending: list, settings: Settings, progress: Progress, training) -> dict[str, float]:
    """Add the losses of some steps to the epoch's sums; the last one's.

    Raises:
        InputError: a loss is no finite number.
    """
    latest = {}
    for number, n_slices, tensors in pending:
        latest = {name: float(value) for name, value in tensors.items()}
        for name, value in latest.items():
            if not math.isfinite(value):
                raise _diverged(settings, f"{name} is {value} at step {number + 1} (epoch {progress.epoch + 1})")
            progress.sums[name] = progress.sums.get(name, 0.0) + n_slices * value
        progress.n_slices += n_slices
        progress.step = number + 1 - progress.epoch * training.steps_per_epoch
    return latest


def _check_weights(system: System, settings: Settings, progress: Progress) -> None:
    """See to it that no state or weights file is written with numbers to which nothing can be added.

    Raises:
        InputError: the last update, after finite losses, has made a weight infinite or NaN.
    """
    for name, variable in system.variables():
        if not np.isfinite(variable.numpy()).all():
            place = f"the update of step {progress.step} of epoch {progress.epoch + 1}"
            raise _diverged(settings, f"{name} is infinite or NaN after {place}")


def _diverged(settings: Settings, found: str) -> InputError:
    """The error of a run that has left the numbers behind."""
    kept = checkpoints.states(settings.folder)
    return InputError(
        f"{settings.folder}: {found}: training has diverged; smaller learning rates may help; "
        f"{f'the last good state is {kept[-1]}' if kept else 'no state was written yet'}"
    )


def _evaluate(evaluation: Callable, validation, held_out: tf.data.Dataset | None) -> dict[str, float]:
    """Mean of the inference-mode losses over the validation slices; empty without any."""
    if held_out is None:
        return {}
    sums, n = {}, 0
    for inputs, target in iterate_batches(held_out, validation):
        size = int(inputs.shape[0])
        n += size
        for name, value in evaluation(inputs, target).items():
            sums[name] = sums.get(name, 0.0) + size * float(value)
    return {name: value / n for name, value in sums.items()}


def _copy_mae(validation) -> float:
    """Mean absolute error of taking the input itself for the output, over the validation slices."""
    total, n = 0.0, 0
    for inputs, target in iterate_batches(stream_batches(validation, 0, validation.steps_per_epoch), validation):
        total += float(tf.reduce_mean(tf.abs(target - inputs[..., :1]))) * int(inputs.shape[0])
        n += int(inputs.shape[0])
    return total / n


def _row(progress: Progress, settings: Settings, training, validated: dict[str, float]) -> dict:
    """The line of history.csv for the epoch that has just ended."""
    done = _steps_done(progress, settings, training)
    factor = Schedule(settings.lr_schedule, settings.n_steps(training.steps_per_epoch)).factor(done - 1)
    row = {"epoch": progress.epoch + 1, "step": progress.epoch * training.steps_per_epoch + progress.step}
    row["generator_lr"] = factor * settings.generator_rate
    if settings.discriminator_rate:
        row["discriminator_lr"] = factor * settings.discriminator_rate
    row |= {name: total / progress.n_slices for name, total in progress.sums.items()}
    row |= validated | ({"val_copy_mae": progress.copy_mae} if validated else {})
    row["seconds"] = round(progress.seconds, 2)
    row["slices_per_second"] = round(progress.n_slices / max(progress.seconds, 1e-9), 3)
    return row


def _account_epoch(progress: Progress, row: dict) -> bool:
    """Enter the row of an epoch; whether its validation MAE is the lowest so far."""
    progress.rows = [*(old for old in progress.rows if old["epoch"] != row["epoch"]), row]
    mae = row.get("val_mae", math.nan)
    if not math.isfinite(mae):  # nothing is held out
        return False
    is_best = mae < progress.best
    progress.waited = 0 if is_best else progress.waited + 1
    progress.best = min(progress.best, mae)
    return is_best


def _write_epoch(system, settings: Settings, progress: Progress, is_best: bool, sample) -> None:
    """History, weights and samples of the epoch that has ended."""
    from common import plots

    folder, row = settings.folder, progress.rows[-1]
    write_csv(folder / "history.csv", progress.rows)
    description = {**settings.description, "epoch": row["epoch"], "validation_mae": row.get("val_mae", math.nan)}
    model.save(system.generator, folder / "generator.h5", description)
    if is_best:
        model.save(system.generator, folder / "generator_best.h5", description)
    if system.discriminator is not None:
        model.save(system.discriminator, folder / "discriminator.h5", description)
    samples = sample(folder / "samples" / f"{row['epoch']:03d}")
    columns = ["mae", "generator_loss", *(["discriminator_loss"] if system.discriminator is not None else [])]
    plots.save_history(folder / "history.png", progress.rows, columns)
    if settings.tensorboard:
        _write_tensorboard(folder / "tensorboard", row, samples)
    print(summary(row, settings.epochs), flush=True)
    for warning in warnings(progress.rows):
        print(f"Warning: {warning}", flush=True)


def _write_tensorboard(folder: pathlib.Path, row: dict, samples: list[Sample]) -> None:
    """Scalars, pictures and audio of one epoch."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=row["epoch"]):
        for name, value in row.items():
            if name not in ("epoch", "step"):
                tf.summary.scalar(name, value)
        for example in samples:
            tf.summary.image(example.name, example.picture[np.newaxis])
            tf.summary.audio(example.name, example.audio[np.newaxis, :, np.newaxis], example.sample_rate)
    writer.close()


def _write_animations(folder: pathlib.Path) -> None:
    """One GIF of the pictures of all epochs, or of evenly chosen ones, for each kind of sample."""
    from common import plots

    by_name: dict[str, list[pathlib.Path]] = {}
    for path in sorted((folder / "samples").glob("[0-9]*/*.png"), key=lambda path: int(path.parent.name)):
        by_name.setdefault(path.stem, []).append(path)
    for name, paths in by_name.items():
        chosen = np.linspace(0, len(paths) - 1, min(len(paths), MAX_FRAMES)).round().astype(int)
        frames = _frames([paths[index] for index in chosen])
        plots.save_gif(folder / f"{name}.gif", frames, seconds_per_frame=0.5)


def _frames(paths: list[pathlib.Path]) -> Iterator[np.ndarray]:
    """The pictures at `paths` that have the size of the last one, RGB, one at a time."""
    from PIL import Image

    with Image.open(paths[-1]) as last:
        size = last.size
    for path in paths:
        with Image.open(path) as image:
            if image.size == size:
                yield np.asarray(image.convert("RGB"))


# --- state ------------------------------------------------------------------------------------------------------------


def _save(system: System, settings: Settings, progress: Progress, training) -> None:
    """Write the state; the previous one stays until this one is whole."""
    if not settings.is_chief:
        return
    arrays = ((name, variable.numpy()) for name, variable in system.variables())
    step = progress.epoch * training.steps_per_epoch + progress.step
    run = {"identity": settings.identity, "progress": dataclasses.asdict(progress)}
    checkpoints.save(settings.folder, step, arrays, run)


def _start(system: System, settings: Settings, training) -> Progress:
    """The progress that the folder's state holds, with all variables set from it; a new one where there is none."""
    found = checkpoints.load(settings.folder)
    if found is None:
        return _start_without_state(system, settings)
    path, run, said = found
    for line in said:
        print(line)
    _restore(system, path, run["identity"], settings.identity)
    progress = Progress(**run["progress"])
    if run["identity"] != settings.identity:
        progress.copy_mae = math.nan  # of the data then
    was, size = (identity.get("batch_size", 1) for identity in (run["identity"], settings.identity))
    if was != size or progress.step > training.steps_per_epoch:  # the same share of an epoch of other batches
        progress.step = min(progress.step * was // size, training.steps_per_epoch - 1)
    for flag, value in settings.identity.items():
        if flag in run["identity"] and run["identity"][flag] != value:
            print(f"Going on with other settings: {flag} {value} (started with {run['identity'][flag]})")
    if not _is_complete(progress, settings, training):
        print(f"Going on from {path} (epoch {progress.epoch + 1}, step {progress.step})")
    return progress


def _start_without_state(system: System, settings: Settings) -> Progress:
    """A new run: from random weights, or with ``--epoch_offset`` from the bare weights in the folder."""
    generator, discriminator = settings.folder / "generator.h5", settings.folder / "discriminator.h5"
    if settings.epoch_offset:
        if not generator.exists():
            raise InputError(f"--epoch_offset: expected weights to go on from, found no {generator}")
        model.load_into(system.generator, generator)
        if system.discriminator is not None and discriminator.exists():
            model.load_into(system.discriminator, discriminator)
        print(f"Going on from the bare weights {generator} as epoch {settings.epoch_offset + 1}")
    elif generator.exists():
        raise InputError(
            f"{settings.folder}: expected a training state beside generator.h5, found none: --epoch_offset N goes on "
            "from these weights, --fresh starts over and keeps them under another name"
        )
    n_bytes = sum(variable.numpy().nbytes for _, variable in system.variables())
    settings.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.folder).free
    needed = 4 * n_bytes  # two states, the one being written, and the weights files
    if free < needed:
        print(
            f"Warning: {settings.folder} has {free / 1e9:.1f} GB free, this run needs about {needed / 1e9:.1f} GB: "
            "it will stop when the disk is full (docs/training.md)"
        )
    return Progress(epoch=settings.epoch_offset, epoch_offset=settings.epoch_offset)


def _restore(system: System, path: pathlib.Path, started_with: dict, identity: dict) -> None:
    """Set all variables from a state.

    Raises:
        InputError: the state belongs to another network.
    """
    variables = dict(system.variables())
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if shapes != dict(checkpoints.shapes(path)):
        other = [f"--{key} {value}" for key, value in started_with.items() if identity.get(key) != value]
        raise InputError(
            f"{path}: expected the training state of this network, found that of another"
            f"{' (' + ', '.join(other) + ')' if other else ''}; --fresh starts over"
        )
    for name, array in checkpoints.arrays(path):
        variables[name].assign(array)


class _Interruption(contextlib.AbstractContextManager):
    """Notes Ctrl-C and SIGTERM, so that the step under way is finished and the state written; twice stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> _Interruption:
        self.before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: whoever runs it handles signals
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(RuntimeError):  # where the signal came in the middle of another line's writing
            print("\nStopping after this step; the state will be on disk.", flush=True)

    def check(self) -> None:
        """Raise what the signal noted stands for, now that everything is written."""
        if self.signal == signal.SIGTERM:
            raise Stopped(128 + signal.SIGTERM)
        if self.signal is not None:
            raise KeyboardInterrupt
