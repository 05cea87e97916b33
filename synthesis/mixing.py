"""Mix an instrument's notes to the recording of a piece. Times are in seconds, audio is float32 with full scale 1."""

from __future__ import annotations

import collections
import dataclasses
import glob
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from common import InputError
from common.files import read_json, remove_files, write_json
from sound.blocks import mix_sounds, resample_blocks, trim_or_pad
from sound.files import choose_format, spool, write_blocks
from synthesis.midi import Piece
from synthesis.notes import NOTE_SECONDS, SAMPLE_RATE, Instrument, release_envelope

PEAK = 32000 / 32768  # of every recording
ENDINGS = ("ring", "cut")
TRANSPOSITIONS = range(-5, 7)  # semitones of a variation: every key once
TEMPI, VELOCITY_FACTORS = (0.8, 1.25), (0.7, 1.3)  # limits of a variation's factors


@dataclasses.dataclass(frozen=True)
class Playing:
    """How a piece is played.

    Attributes:
        playback_speed: divides every time of the piece.
        duration_rate: multiplies each note's length, so that notes ring on.
        transpose: semitones added to every pitch.
        sustain_pedal: whether the sustain pedal of the piece lengthens notes.
        ending: "ring": the recording ends when its last note has rung out; "cut": where the piece ends, as published.
        velocity: multiplies every velocity, from 1 to 127.
    """

    playback_speed: float = 1
    duration_rate: float = 4
    transpose: int = 0
    sustain_pedal: bool = False
    ending: str = ENDINGS[0]
    velocity: float = 1


def vary(
    playing: Playing, duration_rates: Sequence[float], seed: int, piece: str, number: int = 0
) -> tuple[str, Playing]:
    """The name of the recording of variation `number` of a piece, and how it is played.

    Each recording takes one of `duration_rates`. Number 0 is otherwise the piece as it is, the others have another key,
    tempo and loudness: all keys are equally likely, the factors uniform on a logarithmic scale. Every voice that plays
    the piece gets the same variation, however many are made and in whatever order.
    """

    def generator(name: str, *numbers: int) -> np.random.Generator:
        digest = hashlib.sha256(name.encode()).digest()
        return np.random.default_rng([seed, int.from_bytes(digest[:8], "big"), *numbers])

    name = f"{piece}_v{number:02d}" if number else piece
    playing = dataclasses.replace(playing, duration_rate=float(generator(name).choice(duration_rates)))
    if not number:
        return name, playing
    rng = generator(piece, number)
    transpose = int(rng.choice(TRANSPOSITIONS))
    tempo, velocity = (float(np.exp(rng.uniform(*np.log(limits)))) for limits in (TEMPI, VELOCITY_FACTORS))
    return name, dataclasses.replace(
        playing,
        transpose=playing.transpose + transpose,
        playback_speed=playing.playback_speed * tempo,
        velocity=playing.velocity * velocity,
    )


def synthesize(
    piece: Piece, instrument: Instrument, playing: Playing | None = None
) -> tuple[np.ndarray, collections.Counter]:
    """The piece played with the notes of `instrument`.

    A note sounds for its length times `duration_rate`, but not longer than the recorded note. Its last tenth is
    multiplied by `release_envelope`. The mix has the sample rate of the notes, is resampled once if that is not
    44.1 kHz, and scaled to a peak of 32000 / 32768.

    Returns:
        audio: float32 ``(n_samples,)`` at 44.1 kHz, as long as `recording_seconds`.
        counts: the number of notes ("played"), and how many of them were replaced by another "velocity" or "pitch", or
            are "silent".
    """
    counts = collections.Counter(played=len(piece.notes))
    blocks = list(_mix_piece(piece, instrument, playing or Playing(), counts))
    audio = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    peak = max(audio.max(), -audio.min())
    if peak > 0:
        audio *= PEAK / peak
    return audio, counts


def write_piece(path: str | os.PathLike, piece: Piece, instrument: Instrument, playing: Playing) -> collections.Counter:
    """Write the audio of `synthesize` as a 16-bit wav at 44.1 kHz; returns its counts. Memory is bounded.

    Raises:
        InputError: the instrument can play no note of the piece.
    """
    counts = collections.Counter(played=len(piece.notes))
    blocks = (block[:, np.newaxis] for block in _mix_piece(piece, instrument, playing, counts))
    with spool(blocks, 1, pathlib.Path(path)) as spooled:
        if not spooled.peak:
            raise InputError(f"expected notes that {instrument.name} can play, found none among {len(piece.notes)}")
        form = choose_format(path, SAMPLE_RATE, 1)
        write_blocks(path, spooled.blocks(PEAK / spooled.peak), spooled.shape, SAMPLE_RATE, form)
    return counts


def recording_seconds(piece: Piece, playing: Playing) -> float:
    """Length of a piece's recording in seconds, which depends only on the piece and on `playing`.

    It is the same for every instrument: with the ending "ring", each note counts as if it were recorded in full.
    """
    seconds = piece.seconds / playing.playback_speed
    if playing.ending == "cut":
        return seconds
    ends = (
        start + min((end - start) * playing.duration_rate, NOTE_SECONDS * playing.playback_speed)
        for start, end, _, _ in piece.notes
    )
    return max(seconds, max(ends, default=0) / playing.playback_speed)


def _mix_piece(
    piece: Piece, instrument: Instrument, playing: Playing, counts: collections.Counter
) -> Iterator[np.ndarray]:
    """The mix at 44.1 kHz, not yet scaled, in blocks ``(n,)``; adds to `counts`."""
    seconds = recording_seconds(piece, playing)
    mix = mix_sounds(_cut_notes(piece, instrument, playing, counts), max(1, round(seconds * instrument.sample_rate)))
    blocks = resample_blocks(mix, instrument.sample_rate, SAMPLE_RATE)
    return trim_or_pad(blocks, max(1, round(seconds * SAMPLE_RATE)))  # the same for instruments of any sample rate


def _cut_notes(
    piece: Piece, instrument: Instrument, playing: Playing, counts: collections.Counter
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples) of each note of a piece, cut to its length and released, in order of their start."""
    rate = instrument.sample_rate
    envelope = release_envelope(NOTE_SECONDS * rate, rate)
    for start, end, pitch, velocity in piece.notes:
        wanted = min(max(round(velocity * playing.velocity), 1), 127)
        note, how = instrument.note(pitch + playing.transpose, wanted)
        if how:
            counts[how] += 1
        duration = (end - start) / playing.playback_speed * playing.duration_rate
        sound = note[: round(duration * rate)].copy()
        n_release = len(sound) // 10
        sound[len(sound) - n_release :] *= envelope[:n_release]
        yield round(start / playing.playback_speed * rate), sound


def keep_parameters(folder: pathlib.Path, parameters: dict, sources: dict[str, dict], overwrite: bool) -> None:
    """Write what a folder of recordings is made with to its synthesis.json, before recordings are made.

    Recordings of a piece that is another one now are removed; with `overwrite`, also those that were made with other
    parameters or another source of an instrument's notes.

    Args:
        parameters: of all recordings; those without an effect are None.
        sources: descriptions of the "instruments" and checksums of the "pieces", which are added to earlier runs' ones.

    Raises:
        InputError: parameters or an instrument changed and `overwrite` is off; or the file is damaged.
    """
    path = folder / "synthesis.json"
    kept = read_json(path) if path.exists() and any(folder.rglob("*.wav")) else {}
    old = {key: kept.get(key, {}) for key in sources}
    if not all(isinstance(value, dict) for value in old.values()):
        raise InputError(f"{path}: not written by this program, or damaged")
    parameters = {key: value for key, value in parameters.items() if value is not None}
    changed, renewed = _find_changed(kept, parameters), _find_changed(old["instruments"], sources["instruments"])
    if (changed or renewed) and not overwrite:
        others = ", ".join([*changed.values(), *renewed.values()])
        raise InputError(f"--audios_path: {path} tells of {others}; take another folder or --overwrite")
    remove_files(folder, "*.wav", old["instruments"] if changed else renewed)
    for piece in _find_changed(old["pieces"], sources["pieces"]):
        remove_files(folder, f"{glob.escape(piece)}.wav", old["instruments"])
    joined = sources if changed else {key: {**old[key], **sources[key]} for key in sources}
    write_json(path, {**kept, **parameters, **joined})


def _find_changed(old: dict, new: dict) -> dict[str, str]:
    """What both know but differently, by name, in words."""
    return {key: f"{key} {old[key]} (now {value})" for key, value in new.items() if old.get(key) not in (None, value)}
