"""MIDI files to notes with times in seconds.

The bytes of a file are first mended: what is damaged, unknown or of no use for notes is left out, so that pretty_midi
reads what can be read.
"""

from __future__ import annotations

import bisect
import collections
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from common.errors import InputError
from common.files import existing_folder, find_files, open_regular

if TYPE_CHECKING:
    import mido

MAX_TICKS = 3 * 10**7  # pretty_midi keeps three numbers for each
MAX_BYTES = 2**22  # of a file; in memory, its messages take up to 400 times as much
MIDI_EXTENSIONS = (".mid", ".midi", ".rmi", ".kar")
DRUM_CHANNEL = 9
SUSTAIN = 64  # control change number
NOTE_OFF, NOTE_ON, CONTROL_CHANGE, SYSTEM, META = 0x80, 0x90, 0xB0, 0xF0, 0xFF  # statuses
TEMPO, END_OF_TRACK = 0x51, 0x2F  # kinds of meta messages
CHECKED = {TEMPO: "tempo", 0x54: "SMPTE offset", 0x58: "time signature", 0x59: "key signature"}


class Note(NamedTuple):
    """One note: start and end in seconds, MIDI pitch and velocity."""

    start: float
    end: float
    pitch: int
    velocity: int


class Piece(NamedTuple):
    """Notes in order of their start, and the length of the piece in seconds: the end of the last note.

    `n_drums` and `n_empty` (of length zero) count the notes that are not among the `n_notes`; `skipped` tells what else
    was not read.
    """

    notes: tuple[Note, ...]
    seconds: float
    n_drums: int = 0
    n_empty: int = 0
    skipped: tuple[str, ...] = ()
    n_notes: int = 0


def find_midi(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All MIDI files in `folder` and below, sorted; hidden files are left out.

    Raises:
        InputError: naming `flag`, if the folder is missing or holds none.
    """
    paths = find_files(existing_folder(folder, flag), MIDI_EXTENSIONS)
    if not paths:
        raise InputError(f"{flag}: no MIDI files ({' '.join(MIDI_EXTENSIONS)}) in {folder}")
    return paths


def read_midi(path: str | os.PathLike, sustain_pedal: bool = False) -> Piece:
    """The notes of a MIDI file without its drums, as pretty_midi reads them.

    The tempo changes of all tracks count. A note without a note-off ends at the end of the file.

    Args:
        path: a standard MIDI file, also inside a RIFF file (.rmi).
        sustain_pedal: whether the pedal (CC 64) holds notes. A note that is released while the pedal of its channel is
            down (64 or more) then ends when the pedal goes up, the same key is struck again, or the piece ends.

    Raises:
        InputError: the file is not MIDI, has no notes, or is longer than `MAX_TICKS`.
    """
    import pretty_midi

    with open_regular(path, "a MIDI file") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: MIDI files of more than {MAX_BYTES / 1e6:.0f} MB are not read")
    pretty_midi.pretty_midi.MAX_TICK = MAX_TICKS + 1
    try:
        mended, n_struck, n_drums, skipped = _mend(content)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    midi = pretty_midi.PrettyMIDI(mido_object=mended)
    notes: list[Note] = []
    for _, instruments in itertools.groupby(midi.instruments, lambda instrument: instrument.name):  # of one channel
        played, pedal = [], []
        for instrument in instruments:
            played += [Note(float(n.start), float(n.end), n.pitch, n.velocity) for n in instrument.notes]
            pedal += [(change.time, change.value >= 64) for change in instrument.control_changes]
        notes += _hold(sorted(played), pedal, midi.get_end_time()) if sustain_pedal else played
    if not notes:
        raise InputError(f"{path}: no notes" + (" but drums" if n_drums else ""))
    n_empty = n_struck - len(notes)
    return Piece(tuple(sorted(notes)), max(note.end for note in notes), n_drums, n_empty, tuple(skipped), len(notes))


def _hold(notes: list[Note], pedal: list[tuple[float, bool]], end: float) -> list[Note]:
    """The notes of a channel, held by its pedal, whose changes are (seconds, whether it is down then)."""
    times = []  # down, up, down ...
    for at, down in pedal:
        if down != len(times) % 2:
            times.append(at)
    held, struck_next = [], {}
    for start, released, pitch, velocity in reversed(notes):
        index, until = bisect.bisect_left(times, released), released
        if index % 2:  # down when the key is released
            up = times[index] if index < len(times) else end
            until = max(released, min(up, struck_next.get(pitch, end)))
        struck_next[pitch] = start
        held.append(Note(start, until, pitch, velocity))
    return held


# --- mending ----------------------------------------------------------------------------------------------------------


def _mend(content: bytes) -> tuple[mido.MidiFile, int, int, list[str]]:
    """What pretty_midi is to read, the numbers of notes and of drums that are struck, and what was skipped.

    The first track has all tempo changes. For each channel of each track, a track named by the channel follows.

    Raises:
        ValueError: nothing can be read; the text tells why.
    """
    import mido

    at, n_tracks, ticks_per_beat, in_frames = _read_header(content)
    tempos = [(0, mido.MetaMessage("set_tempo", tempo=500000))]
    strokes, pedals = collections.defaultdict(list), collections.defaultdict(list)
    sounding: dict[tuple[int, int, int], int] = {}  # when keys that are down were struck
    n_struck, last = [0, 0], 0  # without drums, and drums
    skipped: list[str] = []
    tracks = list(_find_tracks(content, at, skipped))
    if len(tracks) < n_tracks:
        skipped.append(f"{n_tracks - len(tracks)} of {n_tracks} announced tracks, which are not there")
    for number, (track, length) in enumerate(tracks):
        if length > len(track):
            skipped.append(f"{length - len(track)} announced bytes of track {number + 1}, which are not there")
        for tick, status, data in _find_messages(track, length, f"track {number + 1}", skipped):
            last = max(last, tick)
            kind, channel = status & 0xF0, status & 0x0F
            if status == META and data[0] == TEMPO and not in_frames:
                tempos.append((tick, mido.MetaMessage("set_tempo", tempo=int.from_bytes(data[1:], "big"))))
            elif kind == CONTROL_CHANGE and data[0] == SUSTAIN:
                pedals[channel].append((tick, mido.Message("control_change", control=SUSTAIN, value=data[1])))
            elif kind in (NOTE_ON, NOTE_OFF):
                velocity = data[1] if kind == NOTE_ON else 0
                strokes[channel, number].append((tick, mido.Message("note_on", note=data[0], velocity=velocity)))
                n_struck[channel == DRUM_CHANNEL] += velocity > 0
                key = (channel, number, data[0])
                if velocity:
                    sounding[key] = tick
                elif sounding.get(key) != tick:
                    sounding.pop(key, None)
    for channel, number, pitch in sounding:
        strokes[channel, number].append((min(last, MAX_TICKS), mido.Message("note_off", note=pitch)))
    end = max((tick for messages in strokes.values() for tick, _ in messages), default=0)
    if end > MAX_TICKS:
        raise ValueError(f"MIDI files of more than {MAX_TICKS} ticks are not read")
    mended = mido.MidiFile(ticks_per_beat=ticks_per_beat)
    mended.tracks.append(_join("tempo", [event for event in tempos if event[0] <= end]))
    for channel, number in sorted(key for key in strokes if key[0] != DRUM_CHANNEL):
        held = [event for event in pedals.pop(channel, []) if event[0] <= MAX_TICKS]
        mended.tracks.append(_join(str(channel), held + strokes[channel, number]))
    return mended, *n_struck, skipped


def _read_header(content: bytes) -> tuple[int, int, float, bool]:
    """Where the header ends, the number of tracks, ticks a beat, and whether time is in frames, which knows no tempo.

    Frames are counted as ticks of the default tempo, half a second a beat.
    """
    start = content.find(b"MThd")  # not at 0 in a RIFF file
    if start < 0 or len(content) < start + 14:
        raise ValueError("not a MIDI file" if start < 0 else "a MIDI file that ends in its header")
    n_tracks, division = (int.from_bytes(content[at : at + 2], "big") for at in (start + 10, start + 12))
    in_frames = division >= 0x8000  # SMPTE: the negative number of frames a second, and ticks a frame
    ticks_per_beat = (256 - (division >> 8)) * (division & 0xFF) / 2 if in_frames else division
    if not ticks_per_beat:
        raise ValueError("a MIDI file with 0 ticks a beat")
    return start + 14, n_tracks, ticks_per_beat, in_frames


def _join(name: str, messages: list[tuple[int, mido.Message]]) -> mido.MidiTrack:
    """A track of messages at their ticks."""
    import mido

    track, now = mido.MidiTrack([mido.MetaMessage("track_name", name=name)]), 0
    for tick, message in sorted(messages, key=lambda event: event[0]):
        message.time, now = tick - now, tick
        track.append(message)
    return track


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


def _find_messages(track: bytes, length: int, name: str, skipped: list[str]) -> Iterator[tuple[int, int, bytes]]:
    """(tick, status, data) of the channel and meta messages of a track, up to its end or to what cannot be read.

    The data of a meta message begin with its kind; those of `CHECKED` are sound.
    """
    at = tick = running = 0
    ended = False
    try:
        while at < len(track) and not (ended and at >= length):
            delta, at = _read_number(track, at)
            tick += delta
            status, at = (track[at], at + 1) if track[at] >= 0x80 else (running, at)
            size = 1 if status & 0xF0 in (0xC0, 0xD0) or status in (0xF1, 0xF3) else 2
            if status == META:
                kind = track[at]
                size, at = _read_number(track, at + 1)
            elif status in (0xF0, 0xF7):  # system exclusive
                size, at = _read_number(track, at)
            elif status > 0xF3:
                size = 0
            elif not status:
                raise IndexError("data without a status")
            data, at = track[at : at + size], at + size
            if at > len(track):
                raise IndexError("a message that is cut")
            if status < SYSTEM:
                running = status
                yield tick, status, bytes(min(byte, 127) for byte in data)
            elif status == META and kind in CHECKED and not _is_sound(kind, data):
                skipped.append(f"a damaged {CHECKED[kind]} in {name}")
            elif status == META:
                ended |= kind == END_OF_TRACK
                yield tick, status, bytes([kind]) + data
    except IndexError:
        ended = ended and at >= length
    if not ended:
        skipped.append(f"the end of {name}, which is missing or damaged")


def _is_sound(kind: int, data: bytes) -> bool:
    """Whether a meta message has a meaning."""
    import mido

    try:
        mido.MetaMessage.from_bytes([META, kind, len(data), *data])
    except (LookupError, ValueError, mido.KeySignatureError):
        return False
    return kind != TEMPO or (len(data) == 3 and any(data))


def _read_number(track: bytes, at: int) -> tuple[int, int]:
    """A number of at most four bytes, the last of which is below 128, and where it ends."""
    number = 0
    for end in range(at + 1, at + 5):
        number = number << 7 | track[end - 1] & 0x7F
        if track[end - 1] < 0x80:
            return number, end
    raise IndexError("a number of more than four bytes")
