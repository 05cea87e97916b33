"""Streams of audio blocks: resampling, lengths, levels, true peak."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")

MAX_RESAMPLED = 2**20  # values that are resampled to at a time
MIX_BLOCK = 2**23  # samples mixed at a time, 3.2 min at 44.1 kHz
NEAR_PEAK = 0.6
SINC_HALF = 12  # samples on each side that an interpolated value depends on


def mean_of_channels(audio: np.ndarray) -> np.ndarray:
    """Mean over the channels of ``(n_samples, n_channels)``: ``(n_samples,)``."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    return sum(audio.T[1:], audio[:, 0]) / np.float32(audio.shape[1])  # ten times as fast as audio.mean(axis=1)


def split(items: Iterable[T], n_streams: int) -> list[Iterator[T]]:
    """`n_streams` iterators over the same items.

    They hold only what one is ahead of the others; those of `itertools.tee` would keep some fifty items.
    """
    items = iter(items)
    waiting: list[collections.deque] = [collections.deque() for _ in range(n_streams)]

    def stream(own: collections.deque) -> Iterator[T]:
        while True:
            if not own:
                try:
                    item = next(items)
                except StopIteration:
                    return
                for queue in waiting:
                    queue.append(item)
                del item
            yield own.popleft()

    return [stream(own) for own in waiting]


def pick_channel(blocks: Iterable[np.ndarray], index: int) -> Iterator[np.ndarray]:
    """One channel ``(n,)`` of blocks ``(n, n_channels)``."""
    for block in blocks:
        yield block[:, index]


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """`audio` at another sample rate (soxr, quality HQ), along the last axis; a new array, of one sample at least."""
    if from_rate == to_rate:
        return np.array(audio)
    import soxr

    resampled = soxr.resample(audio.T, from_rate, to_rate)
    if not len(resampled) and audio.shape[-1]:
        return np.zeros((*audio.shape[:-1], 1), audio.dtype)
    return np.ascontiguousarray(resampled.T)


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: float, to_rate: float, n_channels: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks ``(n,)``, or ``(n, n_channels)``, at another sample rate; joined, they are what `resample` gives.

    A long block is resampled in parts, so that memory is bounded whatever the rates are.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, n_channels or 1, dtype="float32", quality="HQ")
    n_part = max(1, int(MAX_RESAMPLED / (n_channels or 1) * min(1, from_rate / to_rate)))
    n_given = n_made = 0
    for block in blocks:
        for start in range(0, len(block), n_part):
            made = stream.resample_chunk(np.ascontiguousarray(block[start : start + n_part]))
            n_given, n_made = n_given + len(block), n_made + len(made)
            yield made
    made = stream.resample_chunk(np.zeros((0, n_channels) if n_channels else 0, np.float32), last=True)
    yield made if n_made or len(made) or not n_given else np.zeros((1, *made.shape[1:]), np.float32)


def join_blocks(blocks: Iterable[np.ndarray], n_samples: int) -> Iterator[np.ndarray]:
    """`blocks` joined to blocks of at least `n_samples`; the last one may be shorter."""
    waiting, n_waiting = [], 0
    for block in blocks:
        waiting.append(block)
        n_waiting += len(block)
        if n_waiting >= n_samples:
            yield np.concatenate(waiting)
            waiting, n_waiting = [], 0
    if n_waiting:
        yield np.concatenate(waiting)


def trim_or_pad(blocks: Iterable[np.ndarray], n_samples: int, n_channels: int | None = None) -> Iterator[np.ndarray]:
    """Blocks ``(n,)`` or ``(n, n_channels)``, cut or followed by zeros to `n_samples` in total; without empty ones."""
    for block in blocks:
        taken = block[:n_samples]
        n_samples -= len(taken)
        if len(taken):
            yield taken
    if n_samples > 0:
        yield np.zeros((n_samples, n_channels) if n_channels else n_samples, np.float32)


def add_streams(first: Iterable[np.ndarray], second: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The sum of two streams of the same total length, in blocks as long as those of `first`."""
    second = iter(second)
    waiting = np.zeros(0, np.float32)
    for block in first:
        while len(waiting) < len(block):
            following = next(second)
            waiting = np.concatenate([waiting, following]) if len(waiting) else following
        yield block + waiting[: len(block)]
        waiting = waiting[len(block) :]


class CountedBlocks:
    """Iterates over blocks of samples and counts the samples: for outputs that have to be as long as their input.

    Attributes:
        n_samples: of the blocks so far.
    """

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = blocks
        self.n_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block

    def trim(self, made: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks `made` from these ones, cut to the same total length; empty ones are left out.

        Nothing may be made before the samples that it stands for were read.
        """
        n_given = 0
        for block in made:
            kept = block[: self.n_samples - n_given]
            if len(kept):
                n_given += len(kept)
                yield kept


def mix_sounds(sounds: Iterator[tuple[int, np.ndarray]], n_samples: int) -> Iterator[np.ndarray]:
    """The sum of sounds, which are in order of their first sample, up to `n_samples`, in blocks of `MIX_BLOCK`."""
    ringing: list[tuple[int, np.ndarray]] = []  # sounds that continue in the next block
    following = next(sounds, None)
    for begin in range(0, n_samples, MIX_BLOCK):
        mix = np.zeros(min(MIX_BLOCK, n_samples - begin), np.float32)
        for first, sound in ringing:
            part = sound[begin - first :][: len(mix)]
            mix[: len(part)] += part
        ringing = [(first, sound) for first, sound in ringing if first + len(sound) > begin + MIX_BLOCK]
        while following and following[0] < begin + MIX_BLOCK:
            first, sound = following
            part = mix[first - begin :][: len(sound)]
            part += sound[: len(part)]
            if first + len(sound) > begin + MIX_BLOCK:
                ringing.append(following)
            following = next(sounds, None)
        yield mix


def to_pcm(audio: np.ndarray, bits: int) -> np.ndarray:
    """`audio` rounded to integer samples and clipped: int16, or for 24 bits int32 whose lowest 8 bits are zero.

    One step is ``2**(1 - bits)``, so that samples that were read are written unchanged; libsndfile would truncate.
    """
    top = 2 ** (bits - 1)
    steps = np.clip(np.rint(audio * np.float32(top)), -top, top - 1)
    return steps.astype(np.int16) if bits == 16 else np.left_shift(steps.astype(np.int32), 8)


def true_peak(blocks: Iterable[np.ndarray]) -> float:
    """The greatest absolute value of a waveform, between the samples, too; full scale 1.

    Four values for each sample, as in ITU-R BS.1770-4, annex 2, interpolated by a windowed sinc. To be fast, this looks
    only near samples above `NEAR_PEAK` of the peak so far. At the start and the end the peak of the samples counts.

    Args:
        blocks: ``(n, n_channels)`` each.
    """
    half = SINC_HALF
    offsets = np.arange(1 - half, half + 1)[:, np.newaxis] - np.array([0.25, 0.5, 0.75])
    taps = (np.sinc(offsets) * np.cos(np.pi * offsets / (2 * half + 1)) ** 2).astype(np.float32)
    peak, before = 0.0, None
    for block in blocks:
        peak = max(peak, float(np.abs(block).max(initial=0)))
        joined = block if before is None else np.concatenate([before, block])
        before = joined[-2 * half :]
        for channel in joined.T:
            absolute = np.abs(channel)
            near = np.maximum(absolute[half - 1 : -half], absolute[half : 1 - half]) > NEAR_PEAK * peak
            windows = channel[np.flatnonzero(near)[:, np.newaxis] + np.arange(2 * half)]
            peak = max(peak, float(np.abs(windows @ taps).max(initial=0)))
    return peak
