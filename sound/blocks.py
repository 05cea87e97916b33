"""Streams of audio blocks: resampling, lengths, levels, true peak, STFT and its inverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from data import Representation, overlap_add, stft

MAX_RESAMPLED = 2**20  # values that are resampled to at a time
MIX_BLOCK = 2**18  # samples mixed at a time: 12 s of a guitar from a hum, so that its progress is seen
NEAR_PEAK = 0.6
SINC_HALF = 12  # samples on each side that an interpolated value depends on


def mean_of_channels(audio: np.ndarray) -> np.ndarray:
    """Mean over the channels of ``(n_samples, n_channels)``: ``(n_samples,)``."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    return sum(audio.T[1:], audio[:, 0]) / np.float32(audio.shape[1])  # ten times as fast as audio.mean(axis=1)


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """`audio` at another sample rate, along the last axis, as `resample_blocks` gives it; a new array."""
    n_channels = None if audio.ndim == 1 else len(audio)
    return np.ascontiguousarray(np.concatenate(list(resample_blocks([audio.T], from_rate, to_rate, n_channels))).T)


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: float, to_rate: float, n_channels: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks ``(n,)``, or ``(n, n_channels)``, at another sample rate (soxr, quality HQ), of one sample at least.

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
            made = stream.resample_chunk(np.ascontiguousarray(block[start : start + n_part], np.float32))
            n_given, n_made = n_given + len(block), n_made + len(made)
            yield made
    made = stream.resample_chunk(np.zeros((0, n_channels) if n_channels else 0, np.float32), last=True)
    yield made if n_made or len(made) or not n_given else np.zeros((1, *made.shape[1:]), np.float32)


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


# --- STFT -------------------------------------------------------------------------------------------------------------


def stft_blocks(blocks: Iterable[np.ndarray], representation: Representation) -> Iterator[np.ndarray]:
    """The centred `data.stft` of a stream of audio, complex64 ``(..., n_fft // 2 + 1, n)`` each.

    Computed in double precision, because the phase is also used in bins that the network makes much louder than they
    were. If the last sample lies where the last window is almost zero, one more frame is made: the inverse STFT divides
    by the window, which would amplify the network's output there.

    Args:
        blocks: audio ``(n,)`` or ``(n_channels, n)`` each.
        representation: window and hop.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    pending = None
    n_samples = n_made = 0
    for block in blocks:
        n_samples += block.shape[-1]
        before = np.zeros((*block.shape[:-1], n_fft // 2)) if pending is None else pending
        pending = np.concatenate([before, block], axis=-1)
        n_ready = max(0, (pending.shape[-1] - n_fft) // hop + 1)
        if n_ready:
            yield stft(pending, representation, center=False)
            pending = pending[..., n_ready * hop :]
            n_made += n_ready
    if pending is None or not n_samples:
        return
    n_frames = 1 + n_samples // hop
    # The window's values at the last sample, in the last frame and in those before it.
    last_weights = representation.window[n_fft // 2 + (n_samples - 1) - (n_frames - 1) * hop :: hop]
    if np.sum(np.square(last_weights)) < 1 / 16:
        n_frames += 1
    if n_frames > n_made:
        length = (n_frames - n_made - 1) * hop + n_fft
        zeros = np.zeros((*pending.shape[:-1], length))
        yield stft(np.concatenate([pending, zeros], axis=-1)[..., :length], representation, center=False)


def regroup_frames(spectra: Iterable[np.ndarray], advance: int, n_shared: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Regroup a stream of frames into overlapping pieces of ``advance + n_shared`` frames.

    Args:
        spectra: ``(..., n_bins, n)`` each.
        advance: frames from the start of a piece to the start of the next one.
        n_shared: frames at the end of a piece that the next one begins with.

    Yields:
        frames: ``(..., n_bins, advance + n_shared)``; the last piece may have fewer frames.
        is_last: whether it is the last piece.
    """
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for spectrum in spectra:
        waiting.append(spectrum)
        n_waiting += spectrum.shape[-1]
        if n_waiting <= advance + n_shared:
            continue
        joined = np.concatenate(waiting, axis=-1)
        while n_waiting > advance + n_shared:  # more frames than one piece, so this is not the last piece
            yield joined[..., : advance + n_shared], False
            joined = joined[..., advance:]
            n_waiting -= advance
        waiting = [joined]
    if waiting:
        yield np.concatenate(waiting, axis=-1), True


def istft_blocks(spectra: Iterable[np.ndarray], representation: Representation) -> Iterator[np.ndarray]:
    """The inverse of the centred STFT of a stream: audio from sample 0 on, float32 ``(..., n)`` each.

    Args:
        spectra: ``(..., n_bins, n)`` each; bins above them are zero.
        representation: window and hop.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    audio_tail = np.zeros(n_fft - hop, np.float32)
    weight_tail = np.zeros(n_fft - hop, np.float32)
    n_skipped = n_fft // 2  # before sample 0
    tiny = np.finfo(np.float32).tiny
    for spectrum in spectra:
        *channels, n_bins, n = spectrum.shape
        full = np.zeros((*channels, n_fft // 2 + 1, n), np.complex64)
        full[..., :n_bins, :] = spectrum
        audio, weight = overlap_add(full, representation)
        audio[..., : n_fft - hop] += audio_tail
        weight[: n_fft - hop] += weight_tail
        n_ready = n * hop
        audio_tail, weight_tail = audio[..., n_ready:], weight[n_ready:]
        skipped = min(n_skipped, n_ready)
        n_skipped -= skipped
        yield audio[..., skipped:n_ready] / np.maximum(weight[skipped:n_ready], tiny)
    yield (audio_tail / np.maximum(weight_tail, tiny))[..., n_skipped:]
