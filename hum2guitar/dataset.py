"""Training segments of hum2guitar, made from guitar recordings and cached on disk, and their batches by step.

Training pairs are made from guitar alone: the input is the harmonics of a segment's own pitch, and the target is its
mel spectrogram. The segments of a recording are one file, float16 ``(n_segments, n_mels + 3, n_frames)``: the mel level
in [-1, 1], then one row each of energy in dB, of F0 in Hz (0 where unvoiced) and of the rounding error of F0 in
float16, which matters at the higher harmonics. Harmonics are computed from these when a batch is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from common import InputError, jobs
from common.files import piece_names, read_array, write_array
from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.melody import analyse, find_notes, octaves_into_range, pluck
from sound.files import find_audio, read_audio
from training.dataset import ByStep

MIN_VOICED = 0.1  # share of a segment's frames; segments with less are dropped

# Augmentation: `as_voice`.
KEPT_SHARE = 0.15  # of the segments stay as they are
ATTACK_FRAMES = (1, 8)  # a held note swells for so long (23 to 190 ms)
ATTACK_DB = (3.0, 20.0)  # from so far below
DRIFT_DB = 4.0  # standard deviation of the change of level from start to end of a note
SCOOP_SEMITONES = 0.8  # largest distance below its pitch from which a note starts
VIBRATO_CENTS = 30.0  # largest depth
VIBRATO_HZ = (4.0, 7.0)
GAIN_DB = (-12.0, 6.0)  # of the whole segment


@dataclasses.dataclass(frozen=True)
class Segments:
    """The segments of a folder of guitar recordings.

    Attributes:
        representation: of the levels; its range of pitches is the 5th to 95th percentile of the segments' pitches.
        files: feature files, one for each recording, sorted.
        segments: int ``(n_segments, 2)``: index of the file, and of the segment in it.
        left_out: (recording, reason) of those that could not be used.
    """

    representation: HumRepresentation
    files: tuple[pathlib.Path, ...]
    segments: np.ndarray
    left_out: list[tuple[str, str]]


def prepare(folder: str | os.PathLike, features_path: str | os.PathLike, method: str) -> Segments:
    """The segments of the guitar recordings in `folder`, computed unless they are cached already.

    Args:
        folder: guitar recordings; if any are named ``*solo*``, as in GuitarSet, only those: its others are chords.
        features_path: the cache; every combination of folder, representation and F0 method has a folder of its own.
        method: of `melody.analyse`.

    Raises:
        InputError: no recordings, or none that gives a segment.
    """
    root, representation = pathlib.Path(folder).resolve(), harmonics.PUBLISHED
    settings = {"folder": str(root), "f0": method, **representation.to_dict()}
    key = hashlib.sha1(json.dumps(settings, sort_keys=True).encode(), usedforsecurity=False).hexdigest()[:10]
    cache = pathlib.Path(features_path, f"{root.name}_{method}_{key}")
    found = find_audio(root, "--guitar_dir")
    solos = [path for path in found if "solo" in path.stem.lower()]
    pieces, left_out = piece_names(solos or found, root)
    work = [
        (str(path), str(cache / f"{piece}.npy"), method, representation)
        for piece, path in pieces.items()
        if not _is_current(cache / f"{piece}.npy", path)
    ]
    results = jobs.run(write_segments, work, 0, "guitar recordings")
    left_out += [(work[index][0], reason) for index, _, reason in results if reason]
    failed = {path for path, _ in left_out}
    files = tuple(cache / f"{piece}.npy" for piece, path in sorted(pieces.items()) if str(path) not in failed)
    if not files:
        raise InputError(f"--guitar_dir: {folder} has no recording of at least 5 s with a pitch; {left_out[0][1]}")
    # Copies of the F0 alone: arrays that are mapped from disk keep their files open.
    f0 = [np.array(read_array(file)[:, representation.n_mels + 1]) for file in files]
    rows = [(file, number) for file, segments in enumerate(f0) for number in range(len(segments))]
    every = np.concatenate(f0)
    voiced = every[every > 0].astype(np.float32)
    low, high = (float(f) for f in np.percentile(voiced, [5, 95]))
    representation = dataclasses.replace(representation, f0_low=low, f0_high=high)
    print(f"{root}: {len(rows)} segments, {len(voiced) / every.size:.0%} of their frames voiced")
    return Segments(representation, files, np.array(rows), sorted(left_out))


def write_segments(source: str, destination: str, method: str, representation: HumRepresentation) -> None:
    """Write the segments of one recording to a feature file, which gets the recording's time.

    Segments that are hardly voiced and a remainder shorter than a segment are dropped.

    Raises:
        InputError: not audio, or no segment is left.
    """
    recorded, n = os.stat(source), representation.segment_samples
    audio = read_audio(source, representation.sample_rate)
    kept = []
    for segment in audio[: len(audio) // n * n].reshape(-1, n):
        f0, energy, spectrum = analyse(segment, representation, method, guitar=True)
        if np.mean(f0 > 0) >= MIN_VOICED:
            decibels = 10 * np.log10(np.maximum(energy, 1e-10))
            rounded = f0.astype(np.float16)
            level = harmonics.mel_level(spectrum, representation)
            kept.append(np.concatenate([level, [decibels, rounded, f0 - rounded]]).astype(np.float16))
    if not kept:
        raise InputError(f"{source}: no segment of 5 s with a pitch")
    write_array(destination, np.stack(kept))
    os.utime(destination, ns=(recorded.st_atime_ns, recorded.st_mtime_ns))


def _is_current(segments: pathlib.Path, recording: pathlib.Path) -> bool:
    """Whether the segments are those of a recording as it is now. Some file systems keep microseconds."""
    return segments.exists() and segments.stat().st_mtime_ns // 1000 == recording.stat().st_mtime_ns // 1000


class HumBatches(ByStep):
    """Batches of segments: inputs are the harmonics, the target is the mel level, of all bands or half of them.

    Args:
        features: from `prepare`.
        segments: rows of ``features.segments``.
        batch_size, seed, shuffle: as of `ByStep`.
        halve: give half the bands, for the global generator.
        augment: give each note of the inputs the loudness of `melody.pluck`; with `shuffle`, first change pitch and
            loudness by `as_voice`, differently in each epoch.
    """

    def __init__(
        self,
        features: Segments,
        segments: np.ndarray,
        batch_size: int,
        seed: int,
        halve: bool = False,
        shuffle: bool = True,
        augment: bool = False,
    ) -> None:
        super().__init__(len(segments), batch_size, seed, shuffle)
        self.files, self.segments, self.halve, self.augment = features.files, segments, halve, augment
        self.representation = features.representation

    def read(self, row: int, epoch: int, draw: float) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and target of one segment."""
        file, number = self.segments[row]
        r = self.representation
        features = read_array(self.files[file])[number].astype(np.float32)
        level, (decibels, rounded, error) = features[: r.n_mels], features[r.n_mels :]
        f0 = rounded + error
        if self.augment and self.shuffle:
            f0, decibels = as_voice(f0, decibels, r, np.random.default_rng([self.seed, 2, epoch, row]))
        energy = 10 ** (decibels / 10)
        if self.augment:
            energy = pluck(f0, energy, r)
        levels = (harmonics.harmonics_level(f0, energy, r), level)
        inputs, target = map(harmonics.halve_bins, levels) if self.halve else levels
        return inputs[..., np.newaxis], target[..., np.newaxis]


def as_voice(
    f0: np.ndarray, decibels: np.ndarray, representation: HumRepresentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """F0 and energy of a guitar, changed into what a voice would have that sings the same notes.

    A guitar note is loudest at its onset and decays. A hummed note swells, stays loud and ends softly, and its pitch
    slides and trembles. A network that has only seen the loudness of guitars turns a held note into a drone. With this
    augmentation it sees notes that are held, and its target is still the guitar's own sound.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        decibels: energy in dB ``(n_frames,)``.

    Returns:
        float32 ``(n_frames,)`` each. Unvoiced frames stay unvoiced and keep their energy, apart from the gain of the
        whole segment.
    """
    f0, decibels = np.array(f0, np.float32), np.array(decibels, np.float32)
    gain = rng.uniform(*GAIN_DB)
    if rng.random() < KEPT_SHARE:
        return f0, decibels + np.float32(gain)
    frame_rate = representation.sample_rate / representation.hop_length
    vibrato_cents = rng.uniform(0, VIBRATO_CENTS)
    vibrato_hz, phase = rng.uniform(*VIBRATO_HZ), rng.uniform(0, 2 * np.pi)
    for start, stop in find_notes(f0, decibels):
        time = np.arange(stop - start)
        swell = rng.uniform(*ATTACK_DB) * np.maximum(0, 1 - time / rng.uniform(*ATTACK_FRAMES))
        drift = rng.normal(0, DRIFT_DB) * time / max(1, len(time) - 1)
        decibels[start:stop] = decibels[start:stop].max() - swell + drift
        scoop = rng.uniform(0, SCOOP_SEMITONES) * np.exp(-time / rng.uniform(0.5, 2.0))
        vibrato = vibrato_cents / 100 * np.sin(2 * np.pi * vibrato_hz * (start + time) / frame_rate + phase)
        f0[start:stop] *= 2 ** ((vibrato * np.minimum(1, time / 8) - scoop) / 12)
    return f0, decibels + np.float32(gain)


def read_examples(
    features: Segments, row: np.ndarray, hums: Sequence[pathlib.Path], method: str, augment: bool
) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """What samples during training are made of: title, harmonics and mel level ``(n_mels, n_frames)``.

    "guitar" is a row of ``features.segments``. "humming" is the first segment of `hums` that has a pitch, moved into
    the guitar's range by octaves; a last, shorter segment is padded with silence, and what cannot be read is skipped.

    Raises:
        InputError: there are hums, but none has a pitch.
    """
    r = features.representation
    (inputs,), (level,) = HumBatches(features, row[np.newaxis], 1, 0, shuffle=False, augment=augment).load(0)
    examples = {"guitar": (f"guitar: {features.files[row[0]].stem}", inputs[..., 0], level[..., 0])}
    for path in hums:
        with contextlib.suppress(InputError):
            hum = read_audio(path, r.sample_rate)
            for segment in np.pad(hum, (0, -len(hum) % r.segment_samples)).reshape(-1, r.segment_samples):
                f0, energy, spectrum = analyse(segment, r, method)
                if f0.any():
                    f0 = f0 * 2.0 ** octaves_into_range(f0, energy, r.f0_low, r.f0_high)
                    inputs = harmonics.harmonics_level(f0, pluck(f0, energy, r) if augment else energy, r)
                    return {**examples, "humming": (f"humming: {path.stem}", inputs, harmonics.mel_level(spectrum, r))}
    if hums:
        raise InputError(f"--humming_dir: expected a recording with a pitch, found none in {hums[0].parent}")
    return examples
