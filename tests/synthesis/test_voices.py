"""Voices: what --voices means, SoundFonts and the notes rendered of them, and folders of recorded notes."""

import numpy as np
import pretty_midi
import pytest
import soundfile
from made_notes import made_note, measured_f0, write_notes, write_recorded_notes

from common import InputError
from synthesis.voices import (
    PROGRAMS,
    default_soundfont,
    find_instruments,
    find_recorded_notes,
    parse_note_name,
    prepare_pitch,
    read_soundfont,
    render_pitch,
    soundfont_instrument,
)

RATE = 44100
SOUNDFONT = default_soundfont()


def test_voices_are_named_after_their_sources(tmp_path):
    write_notes(tmp_path / "nsynth", "piano", [60], preset=7)
    for folder in ("grand", "my piano (1)", "x/@audio-samples"):
        write_recorded_notes(tmp_path / folder, {"C4.wav": 60})
    (tmp_path / "b-v1.4.SF2").symlink_to(SOUNDFONT)
    sources = [f"{SOUNDFONT}:0", f"{tmp_path}/b-v1.4.SF2:127", "nsynth:7"]
    sources += [f"{tmp_path}/{folder}" for folder in ("grand/", "x/../my piano (1)", "x/@audio-samples")]
    found = find_instruments([], [("piano", sources)], str(tmp_path / "nsynth"), str(tmp_path))
    assert [voice.name.partition("@")[2] for voice in found] == [
        "TimGM6mb-0", "b-v1.4-127", "nsynth-007", "grand", "my_piano_1", "audio-samples",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "source", ["SF2", "SF2:128", "SF2:x", "a.sf2:0", "a.sf3:0", "nsynth:", "nsynth:1000", "nsynth:7", "", "nowhere"]
)
def test_what_is_no_voice_is_refused(tmp_path, source):
    with pytest.raises(InputError):
        find_instruments([], [("piano", [source.replace("SF2", str(SOUNDFONT))])], None, str(tmp_path))


# --- SoundFonts -------------------------------------------------------------------------------------------------------


def test_every_family_and_source_has_a_program_of_its_kind():
    kinds = {"flute": "Pipe", "keyboard": "Piano", "mallet": "Chromatic Percussion", "string": "Ensemble"}
    kinds |= {"synth_lead": "Synth Lead", "vocal": "Ensemble"}
    for name, program in PROGRAMS.items():
        family = name.rsplit("_", 1)[0]
        assert pretty_midi.program_to_instrument_class(program) == kinds.get(family, family.capitalize())
    assert len(PROGRAMS) == len(set(PROGRAMS.values())) == 33
    assert read_soundfont(SOUNDFONT)[0] == set(range(128))


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def test_the_programs_of_a_soundfont_are_read(tmp_path):
    def header(program, bank):
        return b"name".ljust(20, b"\0") + program.to_bytes(2, "little") + bank.to_bytes(2, "little") + b"\0" * 14

    lists = chunk(b"LIST", b"INFO" + chunk(b"isng", b"odd")) + chunk(b"LIST", b"sdta" + chunk(b"smpl", b"\0" * 6))
    phdr = chunk(b"phdr", header(24, 0) + header(0, 0) + header(5, 128) + header(0, 0))
    (tmp_path / "a.sf2").write_bytes(chunk(b"RIFF", b"sfbk" + lists + chunk(b"LIST", b"pdta" + phdr)))
    assert read_soundfont(tmp_path / "a.sf2")[0] == {0, 24}
    assert soundfont_instrument("own", tmp_path / "a.sf2", 24, str(tmp_path)).can_play(60)
    with pytest.raises(InputError):
        soundfont_instrument("own", tmp_path / "a.sf2", 5, str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVEfmt ", b"RIFF\0\0\0\0sfbkLIST\xff\0\0\0pdtaphdr\x26\0\0\0"])
def test_what_is_no_soundfont_is_told(tmp_path, content):
    (tmp_path / "a.sf2").write_bytes(content)
    for read in (read_soundfont, lambda path: render_pitch(path, 0, 60)):
        with pytest.raises(InputError):
            read(tmp_path / "a.sf2")


def test_the_death_of_the_renderer_is_one_line(monkeypatch):
    monkeypatch.setattr("synthesis.voices.MAX_BYTES", -4 * SOUNDFONT.stat().st_size + 2**20)  # not enough to start
    with pytest.raises(InputError):
        render_pitch(SOUNDFONT, 25, 60)


@pytest.mark.parametrize(("program", "pitch"), [(25, 48), (48, 57)])  # of which the ensemble sustains
def test_rendered_notes_have_their_pitch_velocity_and_shape_and_no_dc(program, pitch):
    """The guitar's samples are offset by up to 17 % of their RMS, and its attacks begin at 3 to 8 ms."""
    notes = render_pitch(SOUNDFONT, program, pitch)
    for note, again in zip(notes, render_pitch(SOUNDFONT, program, pitch), strict=True):
        np.testing.assert_array_equal(note, again)
        assert np.argmax(np.abs(note) > 0.0316228 * np.abs(note).max()) / RATE == pytest.approx(0.003, abs=1e-3)
        window = note[2205:22050]
        assert abs(window.mean()) < 0.01 * window.std()
    assert measured_f0(notes[4][RATE : 2 * RATE], RATE) == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=0.01)
    rms = np.array([np.sqrt(np.mean(note[: 3 * RATE] ** 2)) for note in notes])
    assert len(rms) == 5
    assert (np.diff(rms) > 0).all()
    held, released = (np.abs(notes[4][round(t * RATE) :][: RATE // 10]).max() for t in (2.9, 3.9))
    assert released < held / 10


# --- recorded notes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "expected"),
    [("A0", (21, None, None)), ("C4", (60, None, None)), ("C#4", (61, None, None)), ("Cs4", (61, None, None)),
     ("Db4", (61, None, None)), ("bb3", (58, None, None)), ("b3", (59, None, None)), ("D#6v12", (87, None, 12)),
     ("f#2 V3", (42, None, 3)), ("Piano.ff.Gb5", (78, None, None)), ("060", (60, None, None)),
     ("p108", (108, None, None)), ("060-100", (60, 100, None)), ("21_v7", (21, 7, None)),
     ("keyboard_acoustic_000-060-025", (60, 25, None)),
     *((stem, None) for stem in ("index", "H4", "C", "track1", "7", "200", "060-128", "060-000", "C12", "A4v0"))],
)  # fmt: skip
def test_pitch_velocity_and_layer_are_read_from_names(stem, expected):
    assert parse_note_name(stem) == expected


def test_layers_are_shares_of_the_loudest_one(tmp_path):
    write_recorded_notes(tmp_path / "soft", {"C4v1.wav": 60, "A4v1.wav": 69})
    write_recorded_notes(tmp_path / "loud", {"C4v4.wav": 60, "A4v2.wav": 69, "E4.wav": 64})
    (tmp_path / "README.txt").write_text("C4")
    write_recorded_notes(tmp_path, {"index.wav": 60})
    files = find_recorded_notes(tmp_path)
    assert {pitch: sorted(layers) for pitch, layers in files.items()} == {60: [32, 127], 64: [127], 69: [32, 64]}
    assert files[69][64].endswith("loud/A4v2.wav")


def test_folders_that_are_no_voice_get_one_line(tmp_path):
    write_recorded_notes(tmp_path / "songs", {"song.wav": 60})
    write_recorded_notes(tmp_path / "twice", {"C#4.wav": 61, "Db4.wav": 61})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "C4.wav").write_text("no audio")
    for name in ("nowhere", "songs", "twice", "broken"):
        with pytest.raises(InputError):
            prepare_pitch(find_recorded_notes(tmp_path / name), 60)


@pytest.mark.parametrize("pitch", [48, 55, 60, 62, 63, 66, 72, 78])
def test_gaps_are_filled_in_tune(tmp_path, pitch):
    write_recorded_notes(tmp_path, {"C4.flac": 60, "F#4.flac": 66}, rate=48000)
    note = prepare_pitch(find_recorded_notes(tmp_path), pitch)[4]
    f0 = measured_f0(note[RATE // 10 : RATE // 2], RATE)
    assert 1200 * np.log2(f0 / (440 * 2 ** ((pitch - 69) / 12))) == pytest.approx(0, abs=1)  # cents


def test_layers_keep_their_levels_and_a_single_one_follows_the_square_of_velocity(tmp_path):
    write_recorded_notes(tmp_path / "single", {"C4.wav": 60})
    (tmp_path / "layers").mkdir()
    time, square = np.arange(RATE) / RATE, np.abs(made_note(60)).max() * (np.array([25, 50, 75, 100, 127]) / 127) ** 2
    for velocity, level in ((25, 0.02), (50, 0.05), (75, 0.2), (100, 0.3), (127, 0.7)):
        tone = level * np.sin(2 * np.pi * 261.6 * time)
        soundfile.write(tmp_path / f"layers/060-{velocity:03d}.wav", tone, RATE, "PCM_24")
    layers = [0.02, 0.05, 0.2, 0.3, 0.7]
    for folder, pitch, start, levels in (
        ("single", 60, 0, square),
        ("layers", 60, 4410, layers),
        ("layers", 61, 4410, layers),
    ):
        notes = prepare_pitch(find_recorded_notes(tmp_path / folder), pitch)
        np.testing.assert_allclose([np.abs(note[start : len(note) - start]).max() for note in notes], levels, rtol=0.01)


def test_a_note_is_let_go_after_three_seconds(tmp_path):
    time = np.arange(6 * RATE) / RATE
    soundfile.write(tmp_path / "C4.wav", 0.5 * np.sin(2 * np.pi * 262 * time), RATE)
    note = prepare_pitch(find_recorded_notes(tmp_path), 60)[4]
    level = [np.abs(note[round(t * RATE) :][:441]).max() for t in (1, 2.9, 3.1875, 3.375)]
    np.testing.assert_allclose(level, 0.5 * np.array([1, 1, np.exp(-1), np.exp(-2)]), rtol=0.06)
