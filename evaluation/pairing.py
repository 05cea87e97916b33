"""Which recordings an evaluation compares: two files, two folders, or the pieces that training has held out; and a
check that the recordings of a piece really match."""

from __future__ import annotations

import dataclasses
import glob
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from common import InputError, cli, jobs, weights
from common.files import existing_folder, piece_names, writable_folder
from data import PUBLISHED, peak_offset
from sound.files import find_audio, read_audio, write_audio
from training import dataset

SAMPLE_RATE = 22050  # of what is checked
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
class Pair:
    """An origin and its true target."""

    piece: str
    origin: pathlib.Path
    target: pathlib.Path
    voice: str = ""  # of the origin's instrument; empty where there is only one

    def __str__(self) -> str:
        """``<voice>/<piece>``, or only the piece where there is one voice."""
        return f"{self.voice}/{self.piece}" if self.voice else self.piece


def find_pairs(
    origin: str | os.PathLike,
    target: str | os.PathLike,
    flag: str = "--origin_audio, --target_audio",
) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of two recordings, or of two folders by the recordings' names (below the folder, without extension).

    A folder stands for all voices of its instrument: ``audios/piano`` for ``audios/piano`` and ``audios/piano@*``.

    Args:
        origin, target: files or folders.
        flag: of both, for errors.

    Returns:
        pairs: sorted by voice and name; the pair of two files has the origin's name.
        left_out: (file, reason) of what has no counterpart.

    Raises:
        InputError: something is missing, one is a file and the other a folder, or no name is in both.
    """
    origin, target = pathlib.Path(origin), pathlib.Path(target)
    if origin.is_file() and target.is_file():
        return [Pair(origin.stem, origin, target)], []
    of_origin, of_target = _voice_folders(origin), _voice_folders(target)
    if not of_origin or not of_target:
        raise InputError(f"{flag}: {origin} and {target} are not two recordings or two folders")
    (origins, left_out), (targets, ambiguous) = (_find_recordings(folders, flag) for folders in (of_origin, of_target))
    left_out += ambiguous
    pairs = []
    for o, t in itertools.product(origins, targets):
        voice = f"{o} to {t}" if len(targets) > 1 else o if len(origins) > 1 else ""
        names = sorted(origins[o].keys() & targets[t].keys())
        pairs += [Pair(name, origins[o][name], targets[t][name], voice) for name in names]
    if not pairs:
        raise InputError(f"{flag}: no recording in {target} has the name of one in {origin}")
    paired = {path for pair in pairs for path in (pair.origin, pair.target)}
    for recordings, other in ((origins, target), (targets, origin)):
        paths = [path for of_voice in recordings.values() for path in of_voice.values()]
        left_out += [(str(path), f"no counterpart in {other}") for path in paths if path not in paired]
    return pairs, left_out


def _voice_folders(path: pathlib.Path) -> list[pathlib.Path]:
    """The folder `path`, if there is one, and the folders ``<path>@<voice>`` beside it, sorted."""
    folders = [path, *sorted(path.parent.glob(f"{glob.escape(path.name)}{dataset.VOICE_MARK}*"))]
    return [folder for folder in folders if folder.is_dir()]


def _find_recordings(
    folders: Iterable[pathlib.Path], flag: str
) -> tuple[dict[str, dict[str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings of each folder by the folder's name and their own, and (file, reason) of ambiguous names."""
    recordings, left_out = {}, []
    for folder in folders:
        recordings[folder.name], ambiguous = piece_names(find_audio(folder, flag), folder)
        left_out += ambiguous
    return recordings, left_out


# --- the validation pieces of a data set -----------------------------------------------------------------------------


def choose_instruments(
    features: str | os.PathLike, models: Sequence[weights.Description], origin: str | None, target: str | None
) -> tuple[str, str]:
    """Origin and target to evaluate on a data set: as given, or else what the first model was trained on.

    A voice that the data set lacks stands for its instrument.

    Raises:
        InputError: not given, and the first model does not name exactly one.
    """
    settings = models[0].settings if models else {}
    voices = settings.get("voices", settings.get("targets", []))
    targets = {v if pathlib.Path(features, v).is_dir() else dataset.instrument_of(v) for v in voices}
    if len(targets) > 1:
        targets = set(map(dataset.instrument_of, targets))
    origin = origin or settings.get("origin", dataset.ANY)
    target = target or (targets.pop() if len(targets) == 1 else dataset.ANY)
    for flag, instrument in (("--origin", origin), ("--target", target)):
        if instrument == dataset.ANY:
            raise InputError(f"{flag} is required with --dataset, unless the first model has exactly one")
    return origin, target


def find_validation_pairs(
    features: str | os.PathLike,
    audios: str | os.PathLike,
    origin: str,
    target: str,
    models: Mapping[str, weights.Description],
    holdout: str | os.PathLike | None = None,
) -> tuple[list[Pair], list[tuple[str, str]], list[str]]:
    """The recordings of the pieces that no model was trained on.

    Args:
        features, audios: data set and recordings, each with a folder for every instrument or voice.
        origin, target: instruments, of which all voices are taken, or single voices.
        models: their descriptions by name.
        holdout: text file that names the pieces, one a line, in place of those that training has held out.

    Returns:
        pairs, left_out: as `find_pairs`.
        remarks: a line about each model's split.

    Raises:
        InputError: see `dataset.find_pairs`; or a piece of `holdout` that is not there, or no piece is left.
    """
    existing_folder(features, "--dataset")
    evaluated = dataset.find_pairs(features, [origin], [target])
    pieces, remarks = set(evaluated.piece_names), []
    if holdout is not None:
        pieces = dataset.read_pieces(holdout, pieces)
        remarks.append(f"held out by {holdout}: {cli.count(len(pieces), 'piece')}")
    else:
        for name, description in models.items():
            pieces, remark = _keep_held_out(pieces, features, origin, target, description)
            remarks.append(f"{name}: {remark}")
    if not pieces:
        raise InputError("--dataset has no piece that all models have held out; name such pieces with --holdout")
    pairs, alone = find_pairs(pathlib.Path(audios, origin), pathlib.Path(audios, target), "--audios_path")
    pairs = [pair for pair in pairs if score_of(pair.piece) in pieces]
    if not pairs:
        raise InputError(f"--audios_path: {audios} has no recordings of the {len(pieces)} held-out pieces")
    missing = pieces - {score_of(pair.piece) for pair in pairs}
    left_out = [(file, reason) for file, reason in alone if score_of(pathlib.Path(file).stem) in pieces - missing]
    left_out += [(piece, f"{audios} has no recordings of it for {origin} and {target}") for piece in sorted(missing)]
    return pairs, left_out, remarks


def score_of(name: str) -> str:
    """The piece that a recording plays, perhaps as a variation: "waltz" of "waltz_v02"."""
    return dataset.VARIATION.sub("", name)


def _keep_held_out(
    pieces: set[str], features: str | os.PathLike, origin: str, target: str, description: weights.Description
) -> tuple[set[str], str]:
    """Those pieces of a data set that a model was not trained on, as far as it says; and a line about that.

    Training splits the pieces of all its instruments. A model of voices that the data set lacks was trained on another
    one, so that it has heard none of the pieces.
    """
    settings = description.settings
    if not {"validation_split", "seed"} <= settings.keys():
        return pieces, "its weights do not say what it was trained on, so no piece is left out"
    origins = settings.get("origins", [settings.get("origin", origin)])
    targets = settings.get("voices", settings.get("targets", [target]))
    folders = {entry.name for entry in os.scandir(os.fspath(features)) if os.path.isdir(entry.path)}
    missing = sorted({*origins, *targets} - folders - set(map(dataset.instrument_of, folders)))
    if missing:
        return pieces, f"a model of {missing[0]}, which is not in {features}, so every piece is new to it"
    pairs = dataset.find_pairs(features, origins, targets, settings.get("identity", True))
    _, held_out, summary = dataset.split_by_piece(pairs, settings["validation_split"], settings["seed"])
    is_new = len(pairs.piece_names) > 1  # of a single piece, only the last slices are held out
    return {pairs.piece_names[i] for i in pairs.pieces[held_out[:, 0]] if is_new} & pieces, summary


# --- do the recordings of a piece match? ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Check:
    """A recording compared with the reference, another instrument's recording of the same piece; NaN is not known."""

    lag: float  # seconds that it is late (early: negative)
    match: float  # correlation of the spectrograms at that lag, at most 1; 0 if they have nothing in common
    cents: float  # that it is tuned higher, within half a semitone
    length_difference: float  # seconds that it is longer
    problems: dict[str, str]  # what is wrong, in words, by what it concerns; empty for a good pair


def check_folder(folder: str | os.PathLike, aligned: str | os.PathLike | None = None) -> int:
    """Print a line for each recording ``<folder>/<instrument>/<piece>.<extension>``; the exit status.

    Every instrument is compared with the first one in alphabetical order that has the piece. With the folder `aligned`,
    copies of the recordings without their lag are written there; those with another problem are left out.

    Raises:
        InputError: no two instruments have a piece in common, or `aligned` is the folder itself.
    """
    folder = existing_folder(folder, "--check")
    instruments = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found, left_out = _find_recordings(instruments, "--check")
    pieces = {}
    for piece in sorted(set().union(*found.values())):
        recordings = {instrument: names[piece] for instrument, names in found.items() if piece in names}
        if len(recordings) > 1:
            pieces[piece] = recordings
        if missing := [instrument for instrument in found if instrument not in recordings]:
            left_out.append((piece, f"not recorded by {', '.join(missing)}"))
    if not pieces:
        raise InputError(f"--check needs folders of two or more instruments with the same pieces; {folder} has none")
    if aligned is not None and writable_folder(aligned, "--align").resolve() == folder.resolve():
        raise InputError("--align needs another folder than --check")
    print(f"{'piece':32} {'instrument':22} {'lag ms':>8} {'match':>6} {'cents':>6} {'longer s':>9}  verdict")
    n_checked = n_bad = 0
    work = [(recordings, aligned) for recordings in pieces.values()]
    for index, checks, reason in jobs.run(check_piece, work, 0, "check"):
        piece = list(pieces)[index]
        if reason is not None:
            left_out.append((piece, reason))
            continue
        for instrument, check in checks.items():
            n_checked, n_bad = n_checked + 1, n_bad + bool(check.problems)
            numbers = f"{1000 * check.lag:8.0f} {check.match:6.2f} {check.cents:6.0f} {check.length_difference:9.3f}"
            verdict = ", ".join(check.problems.values()) or "ok"
            print(f"{piece:32} {instrument:22} {numbers.replace('nan', '  -')}  {verdict}")
    print(f"{n_checked - n_bad} of {n_checked} recordings fit their piece's first one.")
    return max(cli.report_left_out(left_out), cli.SOME_LEFT_OUT if n_bad else 0)


def check_piece(recordings: dict[str, pathlib.Path], aligned: str | os.PathLike | None = None) -> dict[str, Check]:
    """`check_pair` of each further instrument's recording of a piece with the first one's, by instrument.

    With a folder, copies without the lag are written to ``<aligned>/<instrument>/<piece>.wav``, at 44.1 kHz: they begin
    where the latest recording begins and end where the first one ends.

    Raises:
        InputError: a recording that cannot be read.
    """
    (first, path), *others = recordings.items()
    reference = read_audio(path, SAMPLE_RATE)
    checks = {instrument: check_pair(reference, read_audio(path, SAMPLE_RATE)) for instrument, path in others}
    shifted = {instrument: check for instrument, check in checks.items() if check.problems.keys() <= {"lag", "length"}}
    if aligned is None or not shifted:
        return checks
    lags = {first: 0.0, **{instrument: check.lag for instrument, check in shifted.items()}}
    copies = {instrument: read_audio(recordings[instrument], mono=False) for instrument in lags}
    starts = {instrument: round((lag - min(lags.values())) * PUBLISHED.sample_rate) for instrument, lag in lags.items()}
    n_samples = min(copies[instrument].shape[1] - start for instrument, start in starts.items())
    for instrument, start in starts.items():
        path = pathlib.Path(aligned, instrument, f"{recordings[instrument].stem}.wav")
        write_audio(path, copies[instrument][:, start : start + n_samples])
    return checks | {instrument: dataclasses.replace(check, problems={}) for instrument, check in shifted.items()}


def check_pair(reference: np.ndarray, audio: np.ndarray) -> Check:
    """`Check` of two audios ``(n_samples,)`` at `SAMPLE_RATE`."""
    import librosa

    length_difference = (len(audio) - len(reference)) / SAMPLE_RATE
    for name, x in (("the reference is silent", reference), ("silent", audio)):
        if np.abs(x).max() < SILENT:
            return Check(np.nan, 0.0, np.nan, length_difference, {"level": name})
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
    if not semitones and match < MIN_MATCH:
        return Check(np.nan, match, np.nan, length_difference, {"performance": "not the same performance"})
    problems = {}
    if semitones:
        problems["key"] = f"transposed by {semitones:+d} semitones"
    elif abs(lag) > MAX_LAG:
        problems["lag"] = f"{1000 * abs(lag):.0f} ms {'late' if lag > 0 else 'early'}"
    if abs(length_difference) > MAX_LENGTH_DIFFERENCE:
        problems["length"] = f"{abs(length_difference):.2f} s {'longer' if length_difference > 0 else 'shorter'}"
    if abs(cents) > MAX_CENTS:
        problems["tuning"] = f"{abs(cents):.0f} cents {'high' if cents > 0 else 'low'}"
    return Check(lag, match, cents, length_difference, problems)


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
    best = max(scores, key=scores.__getitem__)
    return float(cents), best if scores[best] > scores[0] + 0.1 else 0
