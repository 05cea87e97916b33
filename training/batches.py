"""Feature files to batches by step."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from common import npy
from common.errors import InputError
from training.augmentation import Augmentation, rng_for
from training.dataset import Pairs

MIN_LEVEL, MAX_LEVEL = -0.005, 1.005  # [0, 1] with room for rounding


def read_level(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The log level in one feature file: float32 `shape`, [0, 1].

    Raises:
        InputError: not a feature file, or not of that shape and range.
    """
    try:
        level = npy.read_array(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a feature slice: {error}") from None
    if level.shape != shape:
        raise InputError(f"{path}: expected a feature slice of shape {shape}, found {level.shape}")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is refused below
        level = level.astype(np.float32, copy=False)
    if not (level.min() >= MIN_LEVEL and level.max() <= MAX_LEVEL):  # also where it is NaN
        raise InputError(f"{path}: expected levels in [0, 1], found values outside or NaN")
    return level


class ByStep:
    """What batches by step have in common: which of an epoch's items each step takes.

    Attributes:
        batch_size: items of a step; an epoch's last one has the rest, or is left out with `drop_remainder`.
        steps_per_epoch: steps that visit every item once.
        error: what went wrong while `stream_batches` was loading, for `iterate_batches`.
    """

    def __init__(self, n_items: int, batch_size: int, drop_remainder: bool) -> None:
        self._n_items, self.batch_size = n_items, batch_size
        self.steps_per_epoch = n_items // batch_size if drop_remainder else -(-n_items // batch_size)
        self.error: InputError | None = None

    def size(self, step: int) -> int:
        """How many items the batch of step `step` has."""
        return min(self.batch_size, self._n_items - step % self.steps_per_epoch * self.batch_size)

    def place(self, step: int, replica: int = 0, n_replicas: int = 1) -> tuple[int, slice]:
        """The epoch of a step, and where in its order the batch lies, or the equal share of it for one replica."""
        epoch, position = divmod(int(step), self.steps_per_epoch)
        share = self.size(step) // n_replicas
        first = position * self.batch_size + replica * share
        return epoch, slice(first, first + share)


class Batches(ByStep):
    """Batches of pairs as a function of the step, so that a run can be taken up anywhere.

    A batch is ``(inputs, target)``, float32 in [-1, 1]: inputs (batch, 256, 256, 1), or with 2 channels, origin and
    style, where `style`; target (batch, 256, 256, 1). Every epoch visits each sample once, in an order drawn from
    `seed` and the epoch; the last batch of an epoch may be smaller.

    Args:
        pairs: the data set.
        samples: rows of ``pairs.samples``.
        batch_size: pairs in a batch.
        seed: of order and styles.
        style: add another slice of the same target as second channel, never the answer itself: drawn from `samples`,
            or from all pairs where `samples` has only one of that target (and is the answer where there is no other).
        shuffle: otherwise samples come as they stand, with the same styles in every epoch.
        drop_remainder: leave an epoch's last batch out where it is smaller.
        augmentation: changes the origin's level, differently for each sample and epoch; None leaves it as it is.

    Raises:
        InputError: fewer samples than one batch.
    """

    def __init__(
        self,
        pairs: Pairs,
        samples: np.ndarray,
        batch_size: int,
        seed: int,
        style: bool = False,
        shuffle: bool = True,
        drop_remainder: bool = False,
        augmentation: Augmentation | None = None,
    ) -> None:
        if shuffle and batch_size > len(samples):
            raise InputError(
                f"--batch_size: expected at most the {len(samples)} slices to train on, found {batch_size}"
            )
        super().__init__(len(samples), batch_size, drop_remainder)
        self.pairs, self.samples, self.seed = pairs, samples, seed
        self.style, self.shuffle, self.augmentation = style, shuffle, augmentation
        self.shape = (pairs.representation.n_bins, pairs.representation.n_frames, 1)
        self._styles = [self._style_names(t) for t in range(len(pairs.targets))]
        self._epoch = (-1, None, None)

    def _style_names(self, target: int) -> np.ndarray:
        """The slices that may show what target `target` sounds like: their names as indices, ascending."""
        names = np.unique(self.samples[self.samples[:, 1] == target, 0])
        if len(names) > 1:
            return names
        return np.unique(self.pairs.samples[self.pairs.samples[:, 1] == target, 0])

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return 2 if self.style else 1

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's samples, as rows of ``samples``, and each one's style, a name: two int arrays (n_samples,)."""
        known, samples, styles = self._epoch  # read once: other threads may replace it
        if known != epoch:
            n = len(self.samples)
            rng = np.random.default_rng([self.seed, 1, epoch if self.shuffle else 0])
            samples = rng.permutation(n) if self.shuffle else np.arange(n)
            styles = np.zeros(n, np.int64)
            draw = rng.random(n)
            for i, sample in enumerate(samples if self.style else ()):
                name, target, _ = self.samples[sample]
                names = self._styles[target]
                j = int(draw[i] * max(1, len(names) - 1))
                styles[i] = names[(j + (names[j] >= name)) % len(names)]  # the answer's own place is stepped over
            self._epoch = (epoch, samples, styles)
        return samples, styles

    def load(self, step: int, replica: int = 0, n_replicas: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The batch of step `step`, counted from the start of the run, or the equal share of it for one replica."""
        epoch, chosen = self.place(step, replica, n_replicas)
        samples, styles = self.order(epoch)
        inputs = np.empty((len(samples[chosen]), *self.shape[:2], self.in_channels), np.float32)
        target = np.empty((len(inputs), *self.shape), np.float32)
        for i, (sample, style) in enumerate(zip(samples[chosen], styles[chosen], strict=True)):
            name, t, o = self.samples[sample]
            target_folder = self.pairs.targets[t]
            origin = read_level(self.pairs.path(self.pairs.origins[o], name), self.shape)
            if self.augmentation is not None:
                rng = rng_for(self.seed, epoch, int(sample))
                origin = self.augmentation(origin[..., 0], rng)[..., np.newaxis]
            inputs[i, ..., :1] = origin
            target[i] = read_level(self.pairs.path(target_folder, name), self.shape)
            if self.style:
                inputs[i, ..., 1:] = read_level(self.pairs.path(target_folder, style), self.shape)
        for levels in (inputs, target):  # `data.to_network` in place: new arrays of this size cost more than the sums
            np.multiply(levels, 2, out=levels)
            np.subtract(levels, 1, out=levels)
        return inputs, target


def stream_batches(
    batches, start: int, stop: int, replicas: Sequence[int] = (0,), n_replicas: int = 1, n_parallel: int = 2
):
    """A tf.data.Dataset of the batches of steps `start` to `stop`, read in parallel and prefetched.

    `batches` has ``load(step, replica, n_replicas)``, ``shape``, ``in_channels`` and ``error``. Of each step come the
    shares of `replicas`, one after the other.
    """
    import tensorflow as tf

    def load(index: np.ndarray):
        step, local = divmod(int(index), len(replicas))
        try:
            return batches.load(start + step, replicas[local], n_replicas)
        except InputError as error:
            batches.error = error  # TensorFlow passes on only the text of what is raised here
            raise

    def batch(index):
        inputs, target = tf.numpy_function(load, [index], (tf.float32, tf.float32), stateful=False)
        inputs.set_shape((None, *batches.shape[:2], batches.in_channels))
        target.set_shape((None, *batches.shape))
        return inputs, target

    indices = tf.data.Dataset.range((stop - start) * len(replicas))
    return indices.map(batch, num_parallel_calls=n_parallel, deterministic=True).prefetch(2)


def iterate_batches(dataset: Iterable, batches) -> Iterator:
    """Go through `dataset`, made by `stream_batches`; a damaged feature file raises its own InputError."""
    import tensorflow as tf

    try:
        yield from dataset
    except tf.errors.OpError:
        if batches.error is None:
            raise
        raise batches.error from None
