"""Reading MIDI files, against hand-computed times and pretty_midi, from bytes that the tests write."""

import struct

import mido
import numpy as np
import pretty_midi
import pytest
from made_notes import write_midi

from common import InputError
from synthesis.midi import Note, read_midi

# At 480 ticks a beat and 120 beats a minute, 480 ticks ("\x83\x60") are half a second.
TWO_NOTES = b"\0\x90\x3c\x5a\x83\x60\x80\x3c\0\0\x90\x40\x5a\x83\x60\x80\x40\0"
END = b"\0\xff\x2f\0"


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    return name + struct.pack(">L", len(content) if length is None else length) + content


def midi_of(*chunks: bytes, n_tracks: int = 1, division: int = 480) -> bytes:
    return chunk(b"MThd", struct.pack(">HHH", 1, n_tracks, division)) + b"".join(chunks)


def track(*messages: bytes, length: int | None = None) -> bytes:
    return chunk(b"MTrk", b"".join(messages) + END, length)


def test_tempo_changes_are_honoured(tmp_path):
    # 120 beats a minute for 2 s, then 60: a second as written lasts two.
    extra = [(2, mido.MetaMessage("set_tempo", tempo=1_000_000))]
    path = write_midi(tmp_path / "a.mid", [(0, 1, 60, 80), (1.5, 2.5, 62, 90), (3, 3.25, 64, 100)], extra=extra)
    piece = read_midi(path)
    assert [note[2:] for note in piece.notes] == [(60, 80), (62, 90), (64, 100)]
    np.testing.assert_allclose([note[:2] for note in piece.notes], [(0, 1), (1.5, 3), (4, 4.5)], atol=1e-9)
    assert piece.seconds == pytest.approx(4.5)


def test_notes_equal_those_of_pretty_midi(tmp_path):
    rng = np.random.default_rng(3)
    midi = pretty_midi.PrettyMIDI(initial_tempo=97)
    for program, is_drum in ((0, False), (40, False), (0, True)):
        instrument = pretty_midi.Instrument(program, is_drum)
        for pitch in rng.integers(50, 62, 60):  # notes of one pitch overlap
            start = rng.uniform(0, 20)
            instrument.notes.append(
                pretty_midi.Note(int(rng.integers(1, 128)), int(pitch), start, start + rng.uniform(0.05, 3))
            )
        midi.instruments.append(instrument)
    midi.write(str(tmp_path / "a.mid"))
    expected = sorted(
        (note.start, note.end, note.pitch, note.velocity)
        for instrument in pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments
        for note in instrument.notes
        if not instrument.is_drum
    )
    piece = read_midi(tmp_path / "a.mid")
    np.testing.assert_allclose(np.array(piece.notes), np.array(expected), atol=1e-9)
    assert (piece.n_drums, piece.n_empty) == (60, 120 - len(expected))


def pedal(time: float, value: int):
    return (time, mido.Message("control_change", control=64, value=value))


def test_sustain_pedal_lengthens_notes(tmp_path):
    notes = [(0, 0.5, 60, 80), (1.0, 1.2, 60, 80), (1.0, 1.2, 64, 80), (2.5, 2.75, 67, 80), (3, 3.5, 69, 80)]
    extra = [pedal(0.25, 64), pedal(0.3, 90), pedal(2, 63), pedal(2.6, 127)]
    path = write_midi(tmp_path / "a.mid", notes, extra=extra)
    assert [note.end for note in read_midi(path).notes] == [0.5, 1.2, 1.2, 2.75, 3.5]
    piece = read_midi(path, sustain_pedal=True)
    # The first is struck again at 1, both of the second chord ring until 2, the rest until the piece ends.
    np.testing.assert_allclose([note.end for note in piece.notes], [1, 2, 2, 3.5, 3.5])
    assert [note.start for note in piece.notes] == [0, 1, 1, 2.5, 3]
    other = write_midi(tmp_path / "b.mid", [(0, 0.5, 60, 80)], channel=3, extra=[pedal(0.25, 127), pedal(2, 0)])
    assert read_midi(other, sustain_pedal=True).seconds == 0.5


@pytest.mark.parametrize(
    ("content", "n_skipped"),
    [
        (midi_of(track(TWO_NOTES)), 0),
        (midi_of(track(b"\0\xff\x59\x02\xfe\xff", TWO_NOTES)), 1),  # a key of 2 flats and mode 255
        (midi_of(track(b"\0\xff\x54\x05\xff\xff\xff\xff\xff", TWO_NOTES)), 1),  # an SMPTE offset of 255 hours
        (midi_of(track(b"\0\xff\x51\x03\0\0\0", TWO_NOTES)), 1),  # a tempo of 0
        (midi_of(track(TWO_NOTES, length=27)), 1),  # more than there is
        (midi_of(track(TWO_NOTES, length=9), track(), n_tracks=2), 0),  # less than there is
        (midi_of(track(TWO_NOTES, length=40), track(), n_tracks=2), 1),  # reaches into the next track
        (midi_of(track(TWO_NOTES), n_tracks=3), 1),
        (midi_of(chunk(b"XFIH", b"abcd"), track(TWO_NOTES)), 1),
        (midi_of(track(TWO_NOTES), b"\0" * 50), 0),  # padding at the end of the file
        (midi_of(track(TWO_NOTES))[:-4], 2),  # without an end of the track, which is shorter than announced
        (midi_of(track(TWO_NOTES, b"\x81\x81\x81\x81\x81\0")), 1),  # a time of five bytes
        (chunk(b"RIFF", b"RMIDdata\x30\0\0\0") + midi_of(track(TWO_NOTES)), 0),
        (midi_of(track(TWO_NOTES), division=0xE730), 0),  # 25 frames a second, 48 ticks a frame: 0.4 s
    ],
)
def test_what_can_be_read_is_read(tmp_path, content, n_skipped):
    (tmp_path / "a.mid").write_bytes(content)
    piece = read_midi(tmp_path / "a.mid")
    half = 0.4 if b"\xe7\x30" in content else 0.5
    assert piece.notes == (Note(0, half, 60, 90), Note(half, 2 * half, 64, 90))
    assert len(piece.skipped) == n_skipped


def test_keys_that_are_struck_on_the_tick_of_their_release_sound(tmp_path):
    on, off = b"\x90\x3c\x5a", b"\x80\x3c\0"
    wait = b"\x83\x60"
    (tmp_path / "a.mid").write_bytes(midi_of(track(b"\0", on, wait, on, b"\0", off, wait, off)))
    assert read_midi(tmp_path / "a.mid").notes == (Note(0, 0.5, 60, 90), Note(0.5, 1, 60, 90))
    # Two hands, two tracks of one channel: each track's note-off is its own.
    hands = midi_of(track(wait, on, wait, off), track(b"\0", on, wait, off), n_tracks=2)
    (tmp_path / "a.mid").write_bytes(hands)
    assert read_midi(tmp_path / "a.mid").notes == (Note(0, 0.5, 60, 90), Note(0.5, 1, 60, 90))
    # A note that is never released lasts until the file ends; one of length zero is counted.
    (tmp_path / "a.mid").write_bytes(midi_of(track(b"\0", on, wait, b"\x90\x40\x5a", b"\0\x80\x40\0", wait, b"\xc0\0")))
    piece = read_midi(tmp_path / "a.mid")
    assert (piece.notes, piece.n_empty) == ((Note(0, 1, 60, 90),), 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MThd",
        b"RIFF....WAVE",
        midi_of(),
        midi_of(track(TWO_NOTES), division=0),
        midi_of(track(TWO_NOTES.replace(b"\x90", b"\x99"))),  # drums alone
        midi_of(b"MTrk" + b"\xff" * 2**20),
        midi_of(track(b"\xff\xff\xff\x7f", TWO_NOTES)),  # 2**28 ticks
        bytes(2**22 + 1),
    ],
)
def test_what_holds_no_notes_or_asks_for_much_memory_is_refused(tmp_path, content):
    (tmp_path / "a.mid").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mid"):
        read_midi(tmp_path / "a.mid")
