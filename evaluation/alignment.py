"""Check that recordings of the same piece really match: lag, tuning, transposition, silence and length.

Copies without the lag can be written, so that the recordings of a piece begin together and end together.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from common import cli, jobs
from common.errors import InputError
from common.files import existing_folder, writable_folder
from data import peak_offset
from evaluation.selection import find_recordings
from sound.files import open_audio, read_audio, write_audio

SAMPLE_RATE = 22050
HOP = 256  # 11.6 ms, the resolution of a lag before interpolation
SEARCHED_LAG = 10.0  # seconds in either direction
EXCERPT = 90.0  # seconds from the middle of a long recording that are compared
# Beyond these, a pair is reported. Strings measure 40 to 80 ms late compared with a guitar that plays the same notes,
# because of their soft attack. Recordings of the same notes match by 0.55 to 0.9, of different ones by less than 0.15.
MAX_LAG = 0.1  # seconds
MAX_CENTS = 20.0
MAX_LENGTH_DIFFERENCE = 0.1  # seconds
MIN_MATCH = 0.3
SILENT = 1e-3  # peak, -60 dB of full scale


@dataclasses.dataclass(frozen=True)
class Check:
    """A recording compared with the reference, another instrument's recording of the same piece; NaN is not known."""

    lag: float  # seconds that it is late (early: negative)
    match: float  # correlation of the spectrograms at that lag, at most 1; 0 if they have nothing in common
    cents: float  # that it is tuned higher, within half a semitone
    semitones: int  # that it is transposed, -5 to 6
    length_difference: float  # seconds that it is longer
    problems: tuple[str, ...]  # what is wrong, in words; empty for a good pair

    @property
    def is_aligned_by_a_shift(self) -> bool:
        """Whether nothing is wrong but the lag, and the length that goes with it."""
        return not self.semitones and self.match >= MIN_MATCH and abs(self.cents) <= MAX_CENTS


def check_folder(folder: str | os.PathLike, aligned: str | os.PathLike | None = None) -> int:
    """Print a line for each recording ``<folder>/<instrument>/<piece>.<extension>``; the exit status.

    Every instrument is compared with the first one in alphabetical order that has the piece. With the folder `aligned`,
    copies of the recordings without their lag are written there; those with another problem are left out.

    Raises:
        InputError: see `find_pieces`, or `aligned` is the folder itself.
    """
    pieces, left_out = find_pieces(folder)
    if aligned is not None and writable_folder(aligned, "--align").resolve() == pathlib.Path(folder).resolve():
        raise InputError("--align needs another folder than --check")
    print(f"{'piece':32} {'instrument':22} {'lag ms':>8} {'match':>6} {'cents':>6} {'longer s':>9}  verdict")
    n_checked = n_bad = 0
    work = [(recordings, None if aligned is None else pathlib.Path(aligned)) for recordings in pieces.values()]
    for index, checks, reason in jobs.run(check_piece, work, 1 if len(pieces) < 8 else 0, label="check"):
        piece = list(pieces)[index]
        if reason is not None:
            left_out.append((piece, reason))
            continue
        for instrument, check in checks.items():
            n_checked, n_bad = n_checked + 1, n_bad + bool(check.problems)
            numbers = (f"{1000 * check.lag:8.0f}", f"{check.match:6.2f}", f"{check.cents:6.0f}")
            print(
                f"{piece:32} {instrument:22} {' '.join(n.replace('nan', '  -') for n in numbers)} "
                f"{check.length_difference:9.3f}  {', '.join(check.problems) or 'ok'}"
            )
    print(f"{n_checked - n_bad} of {n_checked} recordings fit their piece's first one.")
    return max(cli.report_left_out(left_out), cli.SOME_LEFT_OUT if n_bad else 0)


def find_pieces(folder: str | os.PathLike) -> tuple[dict[str, dict[str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings ``<folder>/<instrument>/<piece>.<extension>`` of each piece, by instrument.

    Returns:
        pieces: piece: {instrument: file}, both sorted, with at least two instruments each.
        left_out: (piece, reason) of those that some instruments lack.

    Raises:
        InputError: no folder, fewer than two instruments, or no piece that two of them have.
    """
    folder = existing_folder(folder, "--check")
    instruments = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(instruments) < 2:
        raise InputError(f"--check needs a folder for each of two or more instruments; {folder} has {len(instruments)}")
    found, left_out = find_recordings(instruments, "--check")
    pieces: dict[str, dict[str, pathlib.Path]] = {}
    for instrument, names in found.items():
        for piece, path in names.items():
            pieces.setdefault(piece, {})[instrument] = path
    for piece, recordings in pieces.items():
        missing = [instrument for instrument in found if instrument not in recordings]
        if missing:
            left_out.append((piece, f"not recorded by {', '.join(missing)}"))
    pairs = {piece: recordings for piece, recordings in sorted(pieces.items()) if len(recordings) > 1}
    if not pairs:
        raise InputError(f"--check: no two instruments of {folder} have a piece in common")
    return pairs, left_out


def check_piece(recordings: dict[str, pathlib.Path], aligned: pathlib.Path | None = None) -> dict[str, Check]:
    """`check_pair` of each further instrument's recording of a piece with the first one's, by instrument.

    With a folder, copies without the lag are written to ``<aligned>/<instrument>/<piece>.wav``.

    Raises:
        InputError: a recording that cannot be read.
    """
    (first, path), *others = recordings.items()
    reference = read_audio(path, SAMPLE_RATE)
    checks = {instrument: check_pair(reference, read_audio(path, SAMPLE_RATE)) for instrument, path in others}
    if aligned is not None:
        lags = {instrument: check.lag for instrument, check in checks.items() if check.is_aligned_by_a_shift}
        checks |= {instrument: dataclasses.replace(checks[instrument], problems=()) for instrument in lags}
        write_aligned({first: 0.0, **lags}, recordings, aligned)
    return checks


def write_aligned(lags: dict[str, float], recordings: dict[str, pathlib.Path], folder: pathlib.Path) -> None:
    """Copies of recordings that begin where the latest one begins, and end where the first one ends.

    Args:
        lags: seconds that each instrument's recording is late.
        recordings: their files, by instrument.
        folder: gets ``<instrument>/<piece>.wav``; nothing is written for a single recording.
    """
    if len(lags) < 2:
        return
    earliest = min(lags.values())
    copies = {}
    for instrument, lag in lags.items():
        with open_audio(recordings[instrument]) as file:
            rate = file.sample_rate
        audio = read_audio(recordings[instrument], None, mono=False)
        copies[instrument] = audio[:, round((lag - earliest) * rate) :], rate
    seconds = min(audio.shape[1] / rate for audio, rate in copies.values())
    for instrument, (audio, rate) in copies.items():
        write_audio(folder / instrument / f"{recordings[instrument].stem}.wav", audio[:, : int(seconds * rate)], rate)


def check_pair(reference: np.ndarray, audio: np.ndarray) -> Check:
    """`Check` of two audios ``(n_samples,)`` at `SAMPLE_RATE`."""
    import librosa

    length_difference = (len(audio) - len(reference)) / SAMPLE_RATE
    silent = [name for name, x in (("the reference", reference), ("", audio)) if np.abs(x).max() < SILENT]
    if silent:
        return Check(np.nan, 0.0, np.nan, 0, length_difference, (f"{' and '.join(silent)} silent".strip(),))
    n = int(EXCERPT * SAMPLE_RATE)
    start = max(0, min(len(reference), len(audio)) - n) // 2
    excerpts = reference[start : start + n], audio[start : start + n]
    lag, match = find_lag(*excerpts)
    cents, semitones = find_tuning(*excerpts)
    # Chroma takes a piece of few notes for a transposed one, unless the transposed reference really matches better.
    if semitones:
        transposed = librosa.effects.pitch_shift(excerpts[0], sr=SAMPLE_RATE, n_steps=semitones)
        if find_lag(transposed, excerpts[1])[1] < max(match, MIN_MATCH):
            semitones = 0
    problems = []
    if semitones:
        problems.append(f"transposed by {semitones:+d} semitones")
    elif match < MIN_MATCH:
        return Check(np.nan, match, np.nan, 0, length_difference, ("not the same performance",))
    elif abs(lag) > MAX_LAG:
        problems.append(f"{1000 * abs(lag):.0f} ms {'late' if lag > 0 else 'early'}")
    if abs(length_difference) > MAX_LENGTH_DIFFERENCE:
        problems.append(f"{abs(length_difference):.2f} s {'longer' if length_difference > 0 else 'shorter'}")
    if abs(cents) > MAX_CENTS:
        problems.append(f"{abs(cents):.0f} cents {'high' if cents > 0 else 'low'}")
    return Check(lag, match, cents, semitones, length_difference, tuple(problems))


def find_lag(reference: np.ndarray, audio: np.ndarray) -> tuple[float, float]:
    """Seconds that `audio` is later than `reference`, up to 10 s either way, and the correlation at that lag.

    The lag is at the peak, interpolated by a parabola, of the normalised cross-correlation over time of the two log mel
    spectrograms, each band without its mean, summed over the bands. Waveforms of two instruments do not correlate, and
    soft attacks have no clear onsets, but the same notes sound in the same bands.
    """
    levels = [mel_level(x) for x in (reference, audio)]
    norm = np.linalg.norm(levels[0]) * np.linalg.norm(levels[1])
    if not norm:
        return 0.0, 0.0
    from scipy import signal

    correlation = signal.fftconvolve(levels[1], levels[0][:, ::-1], axes=1).sum(axis=0) / norm
    lags = signal.correlation_lags(levels[1].shape[1], levels[0].shape[1])
    searched = np.abs(lags) <= SEARCHED_LAG * SAMPLE_RATE / HOP
    correlation, lags = correlation[searched], lags[searched]
    best = int(correlation.argmax())
    shift = peak_offset(*correlation[best - 1 : best + 2]) if 0 < best < len(lags) - 1 else 0.0
    return float((lags[best] + shift) * HOP / SAMPLE_RATE), float(correlation[best])


def mel_level(audio: np.ndarray) -> np.ndarray:
    """Log level ``(96, n_frames)`` of mel bands up to 5 kHz, each minus its mean; linear below -60 dB of the peak."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=audio, sr=SAMPLE_RATE, n_fft=2048, hop_length=HOP, n_mels=96, fmax=5000, power=1.0
    )
    level = np.log1p(mel * (1000 / max(float(mel.max()), 1e-9)))
    return level - level.mean(axis=1, keepdims=True)


def find_tuning(reference: np.ndarray, audio: np.ndarray) -> tuple[float, int]:
    """How much higher `audio` is than `reference`: cents within half a semitone, and semitones from -5 to 6.

    Cents: difference of `librosa.estimate_tuning`. Semitones: the rotation at which the mean chroma vectors of the two
    correlate best; 0 unless another one is clearly better (by 0.1).
    """
    import librosa

    tunings = [librosa.estimate_tuning(y=x, sr=SAMPLE_RATE, n_fft=4096) for x in (reference, audio)]
    cents = (100 * (tunings[1] - tunings[0]) + 50) % 100 - 50
    profiles = []
    for x, tuning in zip((reference, audio), tunings, strict=True):
        chroma = librosa.feature.chroma_stft(y=x, sr=SAMPLE_RATE, n_fft=8192, hop_length=4096, tuning=tuning)
        profile = chroma.mean(axis=1)
        profiles.append((profile - profile.mean()) / max(profile.std(), 1e-9))
    scores = {shift: float(np.mean(np.roll(profiles[0], shift) * profiles[1])) for shift in range(-5, 7)}
    best = max(scores, key=scores.get)
    return float(cents), best if scores[best] > scores[0] + 0.1 else 0
