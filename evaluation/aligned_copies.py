"""Write aligned copies of recordings that should be pairs: shifted, slowly warped, trimmed and levelled.

The lag of a recording behind the reference is measured in windows of 20 s. Where it changes, the copy is resampled
along its curve, by at most 1 %. What does not fit afterwards, according to `alignment.check_pair`, is left out.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from common import cli, jobs
from common.errors import InputError
from common.files import writable_folder
from data import peak_offset
from evaluation import alignment
from sound.blocks import resample
from sound.files import open_audio, read_audio, write_audio

WINDOW = 20.0  # seconds in which a lag is measured; windows overlap by half
FIRST_SEARCH = 30.0  # seconds either way in the first window, for recordings that start at different times
NEXT_SEARCH = 0.5  # seconds either way from the lag of the neighbouring window
MIN_SHIFT = 0.005  # seconds; a lag that changes by less is constant, and a smaller one is left alone
MAX_BEND = 0.02  # seconds from a straight line, within which the drift is taken for constant
MAX_DRIFT = 0.01  # change of the lag in seconds a second
FRAME = alignment.HOP / alignment.SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class LagCurve:
    """How late a recording is: `lags` in seconds at `times` in seconds of the reference, both ``(n,)``."""

    times: np.ndarray
    lags: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """The lag at any times; beyond the ends it goes on as between the outermost two points."""
        if len(self.times) == 1:
            return np.full_like(times, self.lags[0])
        before = self.lags[0] + (times - self.times[0]) * np.diff(self.lags[:2]) / np.diff(self.times[:2])
        after = self.lags[-1] + (times - self.times[-1]) * np.diff(self.lags[-2:]) / np.diff(self.times[-2:])
        inside = np.interp(times, self.times, self.lags)
        return np.where(times < self.times[0], before, np.where(times > self.times[-1], after, inside))

    @property
    def drift(self) -> float:
        """The greatest change of the lag, in seconds a second."""
        return float(np.max(np.abs(np.diff(self.lags) / np.diff(self.times)), initial=0.0))


def align_folder(folder: str | os.PathLike, destination: str | os.PathLike) -> int:
    """Write aligned copies of the recordings ``<folder>/<instrument>/<piece>.<extension>``; the exit status.

    Prints a line for each recording with what was done, and at the end which ones do not fit.

    Raises:
        InputError: see `alignment.find_pieces`; or the destination is the folder itself.
    """
    destination = writable_folder(destination, "--align")
    if destination.resolve() == pathlib.Path(folder).resolve():
        raise InputError(f"--align: expected another folder than that of --check, found {destination}")
    pieces, left_out = alignment.find_pieces(folder)
    work = [(piece, recordings, str(destination)) for piece, recordings in pieces.items()]
    n_written = 0
    for index, result, reason in jobs.run(align_piece, work, 1 if len(work) < 8 else 0, label="align"):
        lines, failures = result or ([], [(work[index][0], reason)])
        n_written += len(lines)
        print("\n".join(lines), end="\n" if lines else "")
        left_out += failures
    print(f"{destination}: {cli.count(n_written, 'recording')} written; check them with --check {destination}")
    return cli.report_left_out(left_out)


def align_piece(
    piece: str, recordings: dict[str, pathlib.Path], destination: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """Write the aligned copies of one piece, as wav: a line for each, and (file, reason) of those that do not fit.

    Raises:
        InputError: a recording that cannot be read.
    """
    (reference_name, reference_path), *others = recordings.items()
    reference, rate = _read(reference_path)
    level_reference = _level(reference, rate)
    copies = {reference_name: (reference, rate)}
    said, failures = {reference_name: "reference"}, []
    spans = [(0.0, reference.shape[1] / rate)]
    for instrument, path in others:
        audio, rate = _read(path)
        curve = find_lags(level_reference, _level(audio, rate))
        problem = None if curve is not None else "no notes in common"
        if curve is not None and curve.drift > MAX_DRIFT:
            problem = f"drifts by {100 * curve.drift:.1f} %, more than {100 * MAX_DRIFT:g} %: not one performance"
        if problem is None:
            warped, span = warp(audio, rate, curve, spans[0][1])
            check = alignment.check_pair(_mono(reference, copies[reference_name][1]), _mono(warped, rate))
            problem = ", ".join(text for text in check.problems if "longer" not in text and "shorter" not in text)
        if problem:
            failures.append((str(path), problem))
            continue
        gain = _rms(reference) / max(_rms(warped), 1e-9)
        copies[instrument] = (warped * np.float32(gain), rate)
        spans.append(span)
        lags = curve.at(np.array(spans[0]))
        late = _describe_lag(lags[0])
        if np.ptp(lags) >= MIN_SHIFT:
            late = f"{late} at the start, {_describe_lag(lags[1])} at the end"
        said[instrument] = f"was {late}, {20 * np.log10(gain):+.1f} dB, match {check.match:.2f}"
    if len(copies) < 2:
        return [], failures
    start, end = max(span[0] for span in spans), min(span[1] for span in spans)
    if end - start < 1.0:
        return [], [*failures, (piece, "less than a second in common")]
    peak = max(float(np.abs(audio).max()) for audio, _ in copies.values())
    lines = []
    for instrument, (audio, rate) in copies.items():
        cut = audio[:, round(start * rate) : round(end * rate)] / max(1.0, peak)  # one factor for the whole piece
        path = pathlib.Path(destination, instrument, f"{piece}.wav")
        write_audio(path, cut if len(cut) > 1 else cut[0], rate)
        lines.append(f"{path}: {said[instrument]}")
    return lines, failures


def _describe_lag(lag: float) -> str:
    return f"{1000 * abs(lag):.0f} ms {'late' if lag >= 0 else 'early'}"


def find_lags(reference: np.ndarray, level: np.ndarray) -> LagCurve | None:
    """The lag of one mel level ``(n_bands, n_frames)`` of `alignment` behind another; None if they do not match.

    The windows are followed outwards from the one that matches best; a window that does not match is left out. The
    curve is a single point if the lag stays the same, a line if it changes evenly, and otherwise follows the windows.
    """
    from scipy import ndimage, stats

    n = min(round(WINDOW / FRAME), reference.shape[1])
    starts = np.unique(np.linspace(0, reference.shape[1] - n, max(1, 2 * reference.shape[1] // n - 1)).astype(int))
    # The first window is the loudest one, because silence matches nothing.
    energy = [float(np.square(reference[:, s : s + n]).sum()) for s in starts]
    first = int(np.argmax(energy))
    wide, narrow = round(FIRST_SEARCH / FRAME), round(NEXT_SEARCH / FRAME)
    found: dict[int, float] = {}
    lag, match = _find_lag(reference, level, starts[first], n, -wide, wide)
    if match < alignment.MIN_MATCH:
        return None
    found[first] = lag
    for direction in (range(first + 1, len(starts)), range(first - 1, -1, -1)):
        at = found[first]
        for i in direction:
            lag, match = _find_lag(reference, level, starts[i], n, round(at) - narrow, round(at) + narrow)
            if match >= alignment.MIN_MATCH:
                found[i] = at = lag
    order = sorted(found)
    times = (starts[order] + n / 2) * FRAME
    lags = ndimage.median_filter(np.array([found[i] for i in order]), 3, mode="nearest") * FRAME
    if np.ptp(lags) < MIN_SHIFT or len(lags) < 3:
        constant = float(np.median(lags))
        return LagCurve(times[:1], np.array([constant if abs(constant) >= MIN_SHIFT else 0.0]))
    slope, intercept, *_ = stats.theilslopes(lags, times)
    line = intercept + slope * times
    if np.abs(lags - line).max() <= MAX_BEND:
        return LagCurve(times[[0, -1]], line[[0, -1]])
    return LagCurve(times, lags)


def _find_lag(
    reference: np.ndarray, level: np.ndarray, start: int, n: int, lowest: int, highest: int
) -> tuple[float, float]:
    """The lag in frames, between two bounds, at which a window of the reference matches best, and the correlation."""
    from scipy import signal

    window = reference[:, start : start + n]
    begin, end = start + lowest, start + n + highest
    padding = (max(0, -begin), max(0, end - level.shape[1]))
    part = level[:, max(0, begin) : max(0, end)]
    if not part.shape[1]:
        return 0.0, 0.0
    part = np.pad(part, ((0, 0), padding))[:, : end - begin]
    correlation = signal.fftconvolve(part, window[:, ::-1], mode="valid", axes=1).sum(axis=0)
    energy = np.concatenate([[0.0], np.cumsum(np.square(part, dtype=np.float64).sum(axis=0))])
    norm = np.sqrt(np.maximum(energy[n:] - energy[:-n], 1e-9) * float(np.square(window).sum() + 1e-9))
    score = correlation / np.maximum(norm, 0.05 * norm.max())  # no match with what is almost silent
    best = int(score.argmax())
    offset = peak_offset(*score[best - 1 : best + 2]) if 0 < best < len(score) - 1 else 0.0
    return best + lowest + float(offset), float(score[best])


def warp(audio: np.ndarray, rate: int, curve: LagCurve, seconds: float) -> tuple[np.ndarray, tuple[float, float]]:
    """A recording ``(n_channels, n)`` without its lag, `seconds` long, and the span in seconds that it covers.

    A constant lag moves it by whole samples. A changing one resamples it: cubic splines on twice the sample rate.
    """
    from scipy import ndimage

    n = round(seconds * rate)
    if len(curve.times) == 1:
        shift = round(float(curve.lags[0]) * rate)
        moved = audio[:, shift:] if shift > 0 else np.pad(audio, ((0, 0), (-shift, 0)))
        covered = (max(0, -shift) / rate, min(n, audio.shape[1] - shift) / rate)
        return np.pad(moved[:, :n], ((0, 0), (0, max(0, n - moved.shape[1])))), covered
    times = np.arange(n) / rate
    places = times + curve.at(times)
    twice = np.stack([resample(channel, rate, 2 * rate) for channel in audio])
    moved = np.stack([ndimage.map_coordinates(channel, [2 * rate * places], order=3) for channel in twice])
    inside = np.flatnonzero((places >= 0) & (places <= (audio.shape[1] - 1) / rate))
    covered = (inside[0] / rate, (inside[-1] + 1) / rate) if len(inside) else (0.0, 0.0)
    return moved.astype(np.float32), covered


def _read(path: pathlib.Path) -> tuple[np.ndarray, int]:
    """A recording at its own rate, ``(n_channels, n)``, and this rate in Hz."""

    with open_audio(path) as audio:
        rate = audio.sample_rate
    return read_audio(path, None, mono=False), rate


def _mono(audio: np.ndarray, rate: int) -> np.ndarray:
    """The mean of the channels at the rate of `alignment`."""
    return resample(audio.mean(axis=0), rate, alignment.SAMPLE_RATE)


def _level(audio: np.ndarray, rate: int) -> np.ndarray:
    return alignment.mel_level(_mono(audio, rate))


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
