"""Whether pairs are really pairs: lag, tuning, transposition, silence and length of recordings of the same piece."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from common import cli, jobs
from common.audio import find_audio, read_audio
from common.errors import InputError
from common.files import existing_folder, piece_names
from data import peak_offset

SAMPLE_RATE = 22050
HOP = 256  # 11.6 ms, the resolution of a lag before interpolation
LARGEST_LAG = 2.0  # seconds
EXCERPT = 90.0  # seconds, from the middle, that a long recording is judged by
# What is reported. Strings measure 40 to 80 ms late beside a guitar that plays the same notes, by their soft attack;
# recordings of the same notes match by 0.55 to 0.9, of different ones by less than 0.15.
MOST_LAG, MOST_CENTS, MOST_LENGTH = 0.1, 20.0, 0.1
LEAST_MATCH = 0.3
SILENT_DB = -60.0


@dataclasses.dataclass(frozen=True)
class Check:
    """A recording of a piece beside the first instrument's.

    Attributes:
        piece, instrument, reference: names; `reference` is the instrument compared with.
        lag: seconds that this one comes late (early: negative); NaN where one is silent.
        match: correlation of the spectrograms at that lag, at most 1; 0 where they have nothing in common.
        cents: how much higher this one is tuned, within half a semitone; NaN where one is silent.
        semitones: how many semitones it seems transposed, -5 to 6.
        longer: seconds that it is longer.
        peak_db: its greatest sample in dB of full scale (-inf: digital silence).
        problems: what is wrong, in words; empty for a good pair.
    """

    piece: str
    instrument: str
    reference: str
    lag: float
    match: float
    cents: float
    semitones: int
    longer: float
    peak_db: float
    problems: tuple[str, ...]


def check(folder: str | os.PathLike) -> int:
    """Print a line for each piece and instrument of ``<folder>/<instrument>/<piece>.<extension>``; the exit status.

    Every instrument is compared with the first one in alphabetical order that has the piece.

    Raises:
        InputError: see `find_pieces`.
    """
    pieces, left_out = find_pieces(folder)
    print(
        f"{'piece':32} {'instrument':22} {'lag ms':>8} {'match':>6} {'cents':>6} {'semit.':>6} {'longer s':>9}  verdict"
    )
    n_checked = n_bad = 0
    for index, checks, reason in jobs.run(
        check_piece, list(pieces.items()), 1 if len(pieces) < 8 else 0, label="check"
    ):
        if reason is not None:
            left_out.append((list(pieces)[index], reason))
            continue
        for found in checks:
            n_checked, n_bad = n_checked + 1, n_bad + bool(found.problems)
            print(
                f"{found.piece:32} {found.instrument:22} {1000 * found.lag:8.0f} {found.match:6.2f} {found.cents:6.0f} "
                f"{found.semitones:6d} {found.longer:9.3f}  {', '.join(found.problems) or 'ok'}"
            )
    print(f"{n_checked - n_bad} of {n_checked} recordings fit their piece's first one.")
    return max(cli.report_left_out(left_out), cli.SOME_LEFT_OUT if n_bad else 0)


def find_pieces(folder: str | os.PathLike) -> tuple[dict[str, dict[str, pathlib.Path]], list[tuple[str, str]]]:
    """Recordings of each piece by instrument, of ``<folder>/<instrument>/<piece>.<extension>``.

    Returns:
        pieces: piece: {instrument: file}, both sorted, at least two instruments each.
        left_out: (piece, reason) of those that an instrument lacks.

    Raises:
        InputError: no folder, fewer than two instruments, or no piece that two have in common.
    """
    folder = existing_folder(folder, "--check")
    instruments = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(instruments) < 2:
        raise InputError(
            f"--check: expected a folder for each of two or more instruments in {folder}, found {len(instruments)}"
        )
    pieces: dict[str, dict[str, pathlib.Path]] = {}
    left_out = []
    for instrument in instruments:
        names, doubles = piece_names(find_audio(instrument, "--check"), instrument)
        left_out += doubles
        for piece, path in names.items():
            pieces.setdefault(piece, {})[instrument.name] = path
    for piece, found in pieces.items():
        missing = [instrument.name for instrument in instruments if instrument.name not in found]
        if missing:
            left_out.append((piece, f"expected in every instrument's folder, found nothing in {', '.join(missing)}"))
    pairs = {piece: found for piece, found in sorted(pieces.items()) if len(found) > 1}
    if not pairs:
        raise InputError(f"--check: expected a piece that two instruments of {folder} have in common, found none")
    return pairs, left_out


def check_piece(piece: str, recordings: dict[str, pathlib.Path]) -> list[Check]:
    """Each further instrument's recording of a piece beside the first one's.

    Raises:
        InputError: a recording that cannot be read.
    """
    (reference, path), *others = recordings.items()
    first = read_audio(path, SAMPLE_RATE)
    return [check_pair(first, read_audio(path, SAMPLE_RATE), piece, name, reference) for name, path in others]


def check_pair(
    reference: np.ndarray, audio: np.ndarray, piece: str = "", instrument: str = "", against: str = ""
) -> Check:
    """`Check` of two audios ``(n_samples,)`` at `SAMPLE_RATE`."""
    problems = []
    longer = (len(audio) - len(reference)) / SAMPLE_RATE
    if abs(longer) > MOST_LENGTH:
        problems.append(f"{abs(longer):.2f} s {'longer' if longer > 0 else 'shorter'}")
    peaks = [peak_db(x) for x in (reference, audio)]
    lag, match, cents, semitones = np.nan, 0.0, np.nan, 0
    silent = [name for name, peak in zip((against, instrument), peaks, strict=True) if peak < SILENT_DB]
    if silent:
        problems.append(f"{' and '.join(silent)} silent")
    else:
        n = int(EXCERPT * SAMPLE_RATE)
        start = max(0, min(len(reference), len(audio)) - n) // 2
        excerpts = reference[start : start + n], audio[start : start + n]
        lag, match = find_lag(*excerpts)
        cents, semitones = find_tuning(*excerpts)
        if semitones:
            problems.append(f"transposed by {semitones:+d} semitones")
        elif match < LEAST_MATCH:
            problems.append("other notes, or at other times")
        elif abs(lag) > MOST_LAG:
            problems.append(f"{1000 * abs(lag):.0f} ms {'late' if lag > 0 else 'early'}")
        if abs(cents) > MOST_CENTS:
            problems.append(f"{abs(cents):.0f} cents {'high' if cents > 0 else 'low'}")
    return Check(piece, instrument, against, lag, match, cents, semitones, longer, peaks[1], tuple(problems))


def peak_db(audio: np.ndarray) -> float:
    """Greatest sample in dB of full scale, -inf for digital silence."""
    peak = float(np.abs(audio).max())
    return 20 * np.log10(peak) if peak else -np.inf


def find_lag(reference: np.ndarray, audio: np.ndarray) -> tuple[float, float]:
    """Seconds that `audio` comes later than `reference`, up to 2 s either way, and the correlation at that lag.

    The normalised cross-correlation of the two log mel spectrograms over time, each band's mean taken away, summed over
    the bands: waveforms of two instruments have nothing in common, and onsets of soft attacks are not found, but the
    same notes sound in the same bands. The peak is interpolated by a parabola.
    """
    levels = [_level(x) for x in (reference, audio)]
    norm = np.linalg.norm(levels[0]) * np.linalg.norm(levels[1])
    if not norm:
        return 0.0, 0.0
    from scipy import fft

    n = fft.next_fast_len(levels[0].shape[1] + levels[1].shape[1], real=True)
    first, second = (fft.rfft(level, n, axis=1) for level in levels)
    most = min(int(LARGEST_LAG * SAMPLE_RATE / HOP), n // 2 - 1)
    correlation = np.roll(fft.irfft((second * first.conj()).sum(axis=0), n), most)[: 2 * most + 1] / norm
    best = int(correlation.argmax())
    shift = 0.0
    if 0 < best < 2 * most:
        shift = peak_offset(*correlation[best - 1 : best + 2])
    return float((best - most + shift) * HOP / SAMPLE_RATE), float(correlation[best])


def _level(audio: np.ndarray) -> np.ndarray:
    """Log level of 96 mel bands to 5 kHz without their means, ``(96, n_frames)``, linear under -60 dB of the peak."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=audio, sr=SAMPLE_RATE, n_fft=2048, hop_length=HOP, n_mels=96, fmax=5000, power=1.0
    )
    level = np.log1p(mel * (1000 / max(float(mel.max()), 1e-9)))
    return level - level.mean(axis=1, keepdims=True)


def find_tuning(reference: np.ndarray, audio: np.ndarray) -> tuple[float, int]:
    """How much higher `audio` is: cents within half a semitone, and whole semitones from -5 to 6.

    Cents: difference of `librosa.estimate_tuning`. Semitones: the rotation under which the mean chroma of the two
    correlate best, other than none only where it is clearly better (by 0.1).
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
