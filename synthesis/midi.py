"""MIDI files to notes with times in seconds.

What is damaged, unknown or of no use for notes is left out of a file, and pretty_midi reads the rest.
"""

from __future__ import annotations

import bisect
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from common import InputError
from common.files import existing_folder, find_files, open_regular

if TYPE_CHECKING:
    import mido

MAX_TICKS = 3 * 10**7  # pretty_midi keeps three numbers for each
MAX_BYTES = 2**22  # of a file; in memory, its messages take up to 400 times as much
MIDI_EXTENSIONS = (".mid", ".midi", ".rmi", ".kar")
DRUM_CHANNEL = 9
SUSTAIN = 64  # control change number
META, TEMPO, END_OF_TRACK = 0xFF, 0x51, 0x2F  # a status and kinds of meta messages
CHECKED = {TEMPO: "tempo", 0x54: "SMPTE offset", 0x58: "time signature", 0x59: "key signature"}


class Note(NamedTuple):
    """One note: start and end in seconds, MIDI pitch and velocity."""

    start: float
    end: float
    pitch: int
    velocity: int


class Piece(NamedTuple):
    """Notes in order of their start, and the length of the piece in seconds: the end of the last note.

    `n_drums` and `n_empty` (of length zero) count the notes that are left out; `skipped` tells what else was not read.
    """

    notes: tuple[Note, ...]
    seconds: float
    n_drums: int = 0
    n_empty: int = 0
    skipped: tuple[str, ...] = ()


def find_midi(folder: str | os.PathLike) -> list[pathlib.Path]:
    """All MIDI files in `folder` and below, sorted; hidden files are left out.

    Raises:
        InputError: the folder of ``--midi_path`` is missing or holds none.
    """
    paths = find_files(existing_folder(folder, "--midi_path"), MIDI_EXTENSIONS)
    if not paths:
        raise InputError(f"--midi_path: no MIDI files ({' '.join(MIDI_EXTENSIONS)}) in {folder}")
    return paths


def read_midi(path: str | os.PathLike, sustain_pedal: bool = False) -> Piece:
    """The notes of a MIDI file without its drums, as pretty_midi reads them.

    The tempo changes of all tracks count. A note without a note-off ends at the end of the file. Ticks beyond
    `MAX_TICKS` are not read.

    Args:
        path: a standard MIDI file, also inside a RIFF file (.rmi).
        sustain_pedal: whether the pedal (CC 64) holds notes. A note that is released while the pedal of its channel is
            down (64 or more) then ends when the pedal goes up, the same key is struck again, or the piece ends.

    Raises:
        InputError: the file is not MIDI, has no notes, or is larger than `MAX_BYTES`.
    """
    import pretty_midi

    with open_regular(path, "a MIDI file") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: MIDI files of more than {MAX_BYTES / 1e6:.0f} MB are not read")
    skipped: list[str] = []
    try:
        tracks, ticks_per_beat = _read_tracks(content, skipped)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    struck = [m.channel for track in tracks for m in track if m.type == "note_on" and m.velocity]
    pretty_midi.pretty_midi.MAX_TICK = MAX_TICKS + 2
    midi = pretty_midi.PrettyMIDI(mido_object=_rewrite(tracks, ticks_per_beat))
    played = [channel for channel in midi.instruments if not channel.is_drum]  # each channel of each track
    end = max((float(note.end) for channel in played for note in channel.notes), default=0.0)
    notes: list[Note] = []
    for channel in played:
        pedal = [(change.time, change.value >= 64) for change in channel.control_changes] if sustain_pedal else []
        own = [Note(float(note.start), float(note.end), note.pitch, note.velocity) for note in channel.notes]
        notes += _hold(sorted(own), pedal, end)
    if not notes:
        raise InputError(f"{path}: no notes" + (" but drums" if struck else ""))
    n_drums = struck.count(DRUM_CHANNEL)
    n_empty = len(struck) - n_drums - len(notes)
    return Piece(tuple(sorted(notes)), max(note.end for note in notes), n_drums, n_empty, tuple(skipped))


def _hold(notes: list[Note], pedal: list[tuple[float, bool]], end: float) -> list[Note]:
    """The notes of a channel, held by its pedal, whose changes are (seconds, whether it is down then)."""
    times: list[float] = []  # down, up, down ...
    for at, down in pedal:
        if down != len(times) % 2:
            times.append(at)
    held: list[Note] = []
    struck_next: dict[int, float] = {}
    for start, released, pitch, velocity in reversed(notes):
        index, until = bisect.bisect_left(times, released), released
        if index % 2:  # down when the key is released
            up = times[index] if index < len(times) else end
            until = max(released, min(up, struck_next.get(pitch, up)))
        struck_next[pitch] = start
        held.append(Note(start, until, pitch, velocity))
    return held


# --- mending ----------------------------------------------------------------------------------------------------------


def _read_tracks(content: bytes, skipped: list[str]) -> tuple[list[list[mido.Message]], float]:
    """The messages of each track that notes need, at their ticks, and the ticks a beat.

    What cannot be read is added to `skipped`.

    Raises:
        ValueError: nothing can be read; the text tells why.
    """
    start = content.find(b"MThd")  # not at 0 in a RIFF file
    if start < 0 or len(content) < start + 14:
        raise ValueError("not a MIDI file" if start < 0 else "a MIDI file that ends in its header")
    n_tracks, division = (int.from_bytes(content[at : at + 2], "big") for at in (start + 10, start + 12))
    in_frames = division >= 0x8000  # SMPTE: the negative number of frames a second, and ticks a frame, without tempo
    ticks_per_beat = (256 - (division >> 8)) * (division & 0xFF) / 2 if in_frames else division
    if not ticks_per_beat:
        raise ValueError("a MIDI file with 0 ticks a beat")
    tracks = []
    for number, (track, length) in enumerate(_find_tracks(content, start + 14, skipped), 1):
        if length > len(track):
            skipped.append(f"{length - len(track)} announced bytes of track {number}, which are not there")
        messages = _read_messages(track, length, f"track {number}", skipped)
        tracks.append([message for message in messages if not (in_frames and message.type == "set_tempo")])
    if len(tracks) < n_tracks:
        skipped.append(f"{n_tracks - len(tracks)} of {n_tracks} announced tracks, which are not there")
    return tracks, ticks_per_beat


def _find_tracks(content: bytes, at: int, skipped: list[str]) -> Iterator[tuple[bytes, int]]:
    """The content and the announced length of each track after the header."""
    while len(content) - at >= 8:
        name, begin = content[at : at + 4], at + 8
        length = int.from_bytes(content[at + 4 : begin], "big")
        end = begin + length
        if not content[end : end + 4].isalnum():  # a wrong length, or the last chunk
            following = content.find(b"MTrk", begin)
            end = following if following >= 0 else len(content)
        if name == b"MTrk":
            yield content[begin:end], length
        elif name.isalnum():
            skipped.append(f"a chunk called {name.decode('latin1')}")
        at = end


def _read_messages(track: bytes, length: int, name: str, skipped: list[str]) -> Iterator[mido.Message]:
    """Notes, changes of pedal and tempo, and end of a track, up to what cannot be read; times are ticks from 0."""
    import mido

    at = tick = running = 0
    ended = False
    try:
        while at < len(track) and not (ended and at >= length):
            delta, at = _read_number(track, at)
            status, at = (track[at], at + 1) if track[at] >= 0x80 else (running, at)
            if tick + delta > MAX_TICKS or not (0x80 <= status <= 0xF0 or status in (0xF7, META)):
                raise IndexError("a message that does not belong into files")
            tick += delta
            kind = track[at]
            if status < 0xF0:
                running, size = status, 1 if status & 0xF0 in (0xC0, 0xD0) else 2
            else:
                size, at = _read_number(track, at + (status == META))
            data, at = track[at : at + size], at + size
            if at > len(track):
                raise IndexError("a message that is cut")
            if status & 0xF0 in (0x80, 0x90) or (status & 0xF0 == 0xB0 and kind == SUSTAIN):
                yield mido.Message.from_bytes([status, *(min(byte, 127) for byte in data)], time=tick)
            elif status == META and kind in CHECKED:
                try:
                    message = mido.MetaMessage.from_bytes([META, kind, len(data), *data])
                    if kind == TEMPO and not message.tempo:
                        raise ValueError("no time passes")
                except (LookupError, ValueError, mido.KeySignatureError):
                    skipped.append(f"a damaged {CHECKED[kind]} in {name}")
                else:
                    yield message.copy(time=tick)
            ended |= status == META and kind == END_OF_TRACK
    except IndexError:
        ended = ended and at >= length
    if not ended:
        skipped.append(f"the end of {name}, which is missing or damaged")
    yield mido.MetaMessage("end_of_track", time=tick)


def _read_number(track: bytes, at: int) -> tuple[int, int]:
    """A number of at most four bytes, the last of which is below 128, and where it ends."""
    number = 0
    for end in range(at + 1, at + 5):
        number = number << 7 | track[end - 1] & 0x7F
        if track[end - 1] < 0x80:
            return number, end
    raise IndexError("a number of more than four bytes")


def _rewrite(tracks: list[list[mido.Message]], ticks_per_beat: float) -> mido.MidiFile:
    """What pretty_midi is to read: tempo changes in the first track, in the others the notes of each track, all keys
    released at the end, and the pedals of all tracks."""
    import mido

    end = max((track[-1].time for track in tracks), default=0)
    messages = sorted((message for track in tracks for message in track), key=lambda message: message.time)
    written = [[mido.MetaMessage("set_tempo", tempo=500000), *(m for m in messages if m.type == "set_tempo")]]
    pedals = [message for message in messages if message.type == "control_change"]
    for track in tracks:
        notes = [message for message in track if message.type in ("note_on", "note_off")]
        keys = sorted({(message.channel, message.note) for message in notes})
        releases = [mido.Message("note_off", channel=channel, note=note, time=end) for channel, note in keys]
        if notes:
            written.append(sorted([*notes, *releases, *pedals], key=lambda message: message.time))
    midi = mido.MidiFile(ticks_per_beat=ticks_per_beat)
    for track in written:
        starts = [0, *(message.time for message in track[:-1])]
        midi.tracks.append([m.copy(time=m.time - start) for m, start in zip(track, starts, strict=True)])
    return midi
