"""MIDI files to notes with times in seconds."""

from __future__ import annotations

import io
import os
import pathlib
import re
from typing import NamedTuple

from common.errors import InputError
from common.files import existing_folder, find_files, open_regular

MAX_SECONDS = 24 * 3600
MAX_TICKS = 2**62  # between two messages; more is no number of MIDI, and no floating-point number
MAX_BYTES = 2**23  # of a file; in memory, its messages take up to 200 times as much
# Bytes that all say that a number goes on in the next one; MIDI's numbers have four bytes at most, but mido reads on.
_LONG_NUMBER = re.compile(rb"[\x80-\xff]{4096}")
MIDI_EXTENSIONS = (".mid", ".midi")
DRUM_CHANNEL = 9
SUSTAIN = 64  # control change number


class Note(NamedTuple):
    """One note of a piece: start and end in seconds, MIDI pitch and velocity."""

    start: float
    end: float
    pitch: int
    velocity: int


class Piece(NamedTuple):
    """Notes in order of their start, and the length of the piece in seconds: the end of the last note."""

    notes: tuple[Note, ...]
    seconds: float


def find_midi(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All .mid and .midi files in `folder` and below, sorted; hidden files are left out.

    Raises:
        InputError: naming `flag`, if the folder is missing or holds none.
    """
    paths = find_files(existing_folder(folder, flag), MIDI_EXTENSIONS)
    if not paths:
        raise InputError(f"{flag}: expected MIDI files ({' '.join(MIDI_EXTENSIONS)}), found none in {folder}")
    return paths


def read_midi(path: str | os.PathLike, sustain_pedal: bool = False) -> Piece:
    """The notes of a MIDI file without its drums, timed by all its tempo changes.

    Args:
        path: a standard MIDI file of type 0 or 1.
        sustain_pedal: whether the pedal (CC 64) holds notes. A note that is released while the pedal of its channel is
            down (64 or more) then ends when the pedal goes up, the same key is struck again, or the file ends.

    A note without a note-off ends at the end of the file. Notes of length zero are left out.

    Raises:
        InputError: the file is not MIDI, is damaged, has no notes, or is longer than 24 hours.
    """
    import mido

    try:
        with open_regular(path, "a MIDI file") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES / 1e6:.0f} MB")
        if _LONG_NUMBER.search(content):
            raise ValueError("a number of too many bytes")
        # From memory, because mido asks for as many bytes as a header announces.
        midi = mido.MidiFile(file=io.BytesIO(content), clip=True)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, mido.KeySignatureError) as error:
        reason = error if str(error) else type(error).__name__
        raise InputError(f"{path}: expected a MIDI file, found a broken one ({reason})") from None
    if midi.type == 2 or midi.ticks_per_beat <= 0:
        raise InputError(f"{path}: expected MIDI of type 0 or 1 timed in beats, found type 2 or SMPTE timing")

    events = []
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, message))
    events.sort(key=lambda event: event[0])  # a stable sort: events of one tick stay in the order of the tracks

    reader = _NoteReader(sustain_pedal)
    seconds, last_tick, seconds_per_tick = 0.0, 0, 0.5 / midi.ticks_per_beat
    for tick, message in events:
        seconds += min(tick - last_tick, MAX_TICKS) * seconds_per_tick
        last_tick = tick
        if seconds > MAX_SECONDS:
            raise InputError(
                f"{path}: expected a piece that ends within a day (24 h), found one of {seconds / 3600:.1f} h"
            )
        if message.type == "set_tempo":
            seconds_per_tick = message.tempo * 1e-6 / midi.ticks_per_beat
        elif not message.is_meta and getattr(message, "channel", DRUM_CHANNEL) != DRUM_CHANNEL:
            reader.take(message, seconds)
    notes = reader.finish(seconds)
    if not notes:
        raise InputError(f"{path}: expected notes (drums do not count), found none")
    return Piece(tuple(notes), max(note.end for note in notes))


class _NoteReader:
    """Collects notes from note and pedal messages, which are passed to `take` in order of time."""

    def __init__(self, sustain_pedal: bool) -> None:
        self._sustain_pedal = sustain_pedal
        self._notes: list[Note] = []
        # From (channel, pitch) to (start, velocity), for keys that are down and for released keys that the pedal holds.
        self._held: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self._ringing: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self._pedals_down: set[int] = set()

    def take(self, message, seconds: float) -> None:
        if message.type == "note_on" and message.velocity > 0:
            key = (message.channel, message.note)
            self._end(self._ringing, key, seconds)
            self._held.setdefault(key, []).append((seconds, message.velocity))
        elif message.type in {"note_on", "note_off"}:
            key = (message.channel, message.note)
            if message.channel in self._pedals_down:
                self._ringing.setdefault(key, []).extend(self._held.pop(key, ()))
            else:
                self._end(self._held, key, seconds)
        elif message.type == "control_change" and message.control == SUSTAIN and self._sustain_pedal:
            if message.value >= 64:
                self._pedals_down.add(message.channel)
            else:
                self._pedals_down.discard(message.channel)
                for key in [key for key in self._ringing if key[0] == message.channel]:
                    self._end(self._ringing, key, seconds)

    def finish(self, seconds: float) -> list[Note]:
        for sounding in (self._held, self._ringing):
            for key in list(sounding):
                self._end(sounding, key, seconds)
        return sorted(self._notes)

    def _end(self, sounding: dict, key: tuple[int, int], seconds: float) -> None:
        for start, velocity in sounding.pop(key, ()):
            if seconds > start:
                self._notes.append(Note(start, seconds, key[1], velocity))
