"""Notes and their mix to the recording of a piece, against made notes and hand-computed samples."""

import dataclasses

import numpy as np
import pytest
from made_notes import made_note, measured_f0, piece_of, write_notes

from sound.files import read_audio
from synthesis.mixing import Playing, recording_seconds, synthesize, vary, write_piece
from synthesis.notes import NSYNTH_RATE, SAMPLE_RATE, align_onset, find_notes, remove_dc

RATE = NSYNTH_RATE


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Every fourth pitch from 48 to 72 in three velocities."""
    folder = tmp_path_factory.mktemp("notes")
    write_notes(folder, "keyboard_acoustic", range(48, 73, 4), (25, 100, 127))
    return find_notes(folder, "keyboard_acoustic")


# --- finding and preparing notes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "audio", "nsynth-train/audio"])
def test_notes_are_found_in_the_folder_and_in_the_download(tmp_path, place):
    write_notes(tmp_path / place, "synth_lead_synthetic", [60], [100, 127], preset=7)
    instrument = find_notes(tmp_path, "synth_lead_synthetic", 7)
    assert {pitch: set(files) for pitch, files in instrument.notes.items()} == {60: {100, 127}}
    np.testing.assert_allclose(instrument.note(60, 127)[0], made_note(60, 127), atol=1e-3)


def test_velocity_is_rounded_to_the_nearest_of_nsynth_or_of_those_that_are_there(bank):
    for velocity, expected in ((1, 25), (37, 25), (80, 100), (88, 100), (113, 100), (114, 127), (127, 127)):
        note, how = bank.note(60, velocity)
        assert how == ("velocity" if velocity == 80 else "")  # 75 is not there; 100 is nearer than 25
        np.testing.assert_allclose(note, made_note(60, expected), atol=1e-3)


@pytest.mark.parametrize(("pitch", "source"), [(61, 60), (59, 60), (74, 72), (40, 48), (36, 48)])
def test_a_missing_pitch_is_resampled_from_the_nearest_one(bank, pitch, source):
    note, how = bank.note(pitch, 100)
    assert how == "pitch"
    assert measured_f0(note[1600:8000], RATE) == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=1e-3)
    assert len(note) == pytest.approx(64000 * 2 ** ((source - pitch) / 12), abs=2)


def test_beyond_an_octave_there_is_silence_and_it_is_counted(bank):
    assert bank.note(35, 100)[1] == bank.note(85, 100)[1] == "silent"
    audio, counts = synthesize(piece_of((0, 1, 35, 100), (0, 1, 60, 80), (0, 1, 60, 100), (0, 1, 61, 100)), bank)
    assert counts == {"played": 4, "silent": 1, "velocity": 1, "pitch": 1}
    assert audio.any()
    audio, counts = synthesize(piece_of((0, 1, 20, 100)), bank, Playing(ending="cut"))
    assert not audio.any()
    assert len(audio) == 44100
    assert counts == {"played": 1, "silent": 1}


def test_a_note_is_the_same_to_the_bit_however_often_it_was_played(bank):
    assert not bank.note(60, 100)[0].flags.writeable
    bank = dataclasses.replace(bank, sample_rate=SAMPLE_RATE)  # so that the mix is not resampled
    audio, _ = synthesize(piece_of((0, 0.2, 60, 100), (2, 2.2, 60, 100), (4, 5, 60, 25)), bank)
    np.testing.assert_array_equal(audio[: 2 * SAMPLE_RATE], audio[2 * SAMPLE_RATE : 4 * SAMPLE_RATE])


@pytest.mark.parametrize("rate", [16000, 44100])
def test_dc_that_follows_a_note_is_removed_and_the_note_is_left_alone(rate):
    time = np.arange(3 * rate) / rate
    envelope = np.minimum(time / 0.002, 1) * np.exp(-2 * time)
    tone = envelope * np.sin(2 * np.pi * 200 * time)
    cleaned = remove_dc((tone + 0.3 * envelope).astype(np.float32), rate)
    for start in (0.005, 0.02, 0.1, 0.5, 1.5):  # windows of two periods
        window = slice(round(start * rate), round((start + 0.01) * rate))
        assert abs(cleaned[window].mean()) < 0.02 * np.abs(tone[window]).max()
    after_attack = time > 0.003
    assert np.abs(cleaned - tone)[after_attack].max() < 0.015  # a twentieth of the DC, at the onset
    np.testing.assert_allclose(remove_dc(tone.astype(np.float32), rate), tone, atol=0.005)
    lowest, middle = np.sin(2 * np.pi * 27.5 * time).astype(np.float32), slice(rate, 2 * rate)  # of a piano
    for offset in (0, 1):
        np.testing.assert_allclose(remove_dc(lowest + offset, rate)[middle], lowest[middle], atol=0.002)


@pytest.mark.parametrize(("silence", "floor"), [(0, 0), (0, 0.003), (0.001, 0.003), (0.027, 0), (0.4, 0.003)])
def test_onsets_are_moved_to_three_milliseconds(silence, floor):
    rng = np.random.default_rng(0)
    burst = np.exp(-np.arange(20000) / 5000) * np.cos(2 * np.pi * 500 / 44100 * np.arange(20000))  # at once at its peak
    note = np.concatenate([np.zeros(round(silence * 44100)), burst])
    note = (note + floor * rng.uniform(-1, 1, len(note))).astype(np.float32)  # hiss at -50 dB
    aligned = align_onset(note, 44100)
    loud = np.abs(aligned) > 0.5 * np.abs(aligned).max()
    assert np.argmax(loud) == round(0.003 * 44100)
    assert aligned[0] == 0
    np.testing.assert_allclose(aligned[132:10000], burst[: 10000 - 132], atol=0.01)


# --- mixing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("notes", "playing", "seconds"), [
    ([(0, 0.5), (0.25, 0.5)], {}, 2),  # the first note rings longest
    ([(0, 0.5), (0.25, 0.5)], {"playback_speed": 2}, 1),
    ([(0, 0.5), (0.25, 0.5)], {"ending": "cut"}, 0.5),
    ([(0.5, 1)], {"playback_speed": 0.5, "duration_rate": 1}, 2),
    ([(0, 0.5)], {"duration_rate": 0.5}, 0.5),  # the piece itself is longer
    ([(1, 6)], {}, 6),  # no longer than a recorded note: 4 s
    ([(1, 3)], {}, 5),
    ([(1, 3)], {"playback_speed": 2}, 4.5),
    ([(1, 3)], {"ending": "cut"}, 3),
])  # fmt: skip
def test_notes_are_cut_released_and_added_by_the_published_formula(bank, notes, playing, seconds):
    piece = piece_of(*((start, end, 60 + 4 * index, 100) for index, (start, end) in enumerate(notes)))
    bank = dataclasses.replace(bank, sample_rate=SAMPLE_RATE)  # so that the mix is not resampled
    speed, rate = playing.get("playback_speed", 1), playing.get("duration_rate", 4)
    expected = np.zeros(10 * SAMPLE_RATE)
    for start, end, pitch, velocity in piece.notes:
        sound = bank.note(pitch, velocity)[0][: round((end - start) / speed * rate * SAMPLE_RATE)].astype(np.float64)
        n_release = len(sound) // 10
        sound[len(sound) - n_release :] *= np.exp(-np.arange(n_release) / SAMPLE_RATE * 16000 / 3000)
        expected[round(start / speed * SAMPLE_RATE) :][: len(sound)] += sound
    expected = expected[: round(seconds * SAMPLE_RATE)]
    audio, _ = synthesize(piece, bank, Playing(**playing))
    np.testing.assert_allclose(audio, expected * (32000 / 32768 / np.abs(expected).max()), atol=1e-6)
    assert recording_seconds(piece, Playing(**playing)) == pytest.approx(seconds)


@pytest.mark.parametrize("block", [1000, 70000])
def test_blocks_leave_no_seam(bank, tmp_path, monkeypatch, block):
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 5, 40))
    piece = piece_of(*((s, s + rng.uniform(0.01, 1), int(rng.integers(48, 73)), 100) for s in starts))
    whole, counts = synthesize(piece, bank)
    monkeypatch.setattr("sound.blocks.MIX_BLOCK", block)
    in_blocks, counts_in_blocks = synthesize(piece, bank)
    # What rings on is added before what begins, so that sums of floats may differ in their last bits.
    np.testing.assert_allclose(in_blocks, whole, atol=1e-6)
    assert counts_in_blocks == counts
    assert write_piece(tmp_path / "a" / "long.wav", piece, bank, Playing()) == counts
    written = read_audio(tmp_path / "a" / "long.wav")
    np.testing.assert_allclose(written, whole, atol=2 * 2**-15)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["long.wav"]


# --- variations -------------------------------------------------------------------------------------------------------


def test_variations_fill_their_ranges_and_depend_on_seed_name_and_number():
    keys = [(seed, f"piece {index}", number) for seed in (0, 1) for index in range(100) for number in (1, 2)]
    drawn = {key: vary(Playing(2, 1, 3), [4], *key) for key in keys}
    assert all(vary(Playing(2, 1, 3), [4], *key) == varied for key, varied in drawn.items())
    assert {name for name, _ in drawn.values()} == {f"{piece}_v{number:02d}" for _, piece, number in keys}
    varied = [playing for _, playing in drawn.values()]
    assert len(set(varied)) == len(keys)
    assert {playing.transpose - 3 for playing in varied} == set(range(-5, 7))
    for factors, low, high in (
        ([playing.playback_speed / 2 for playing in varied], 0.8, 1.25),
        ([playing.velocity for playing in varied], 0.7, 1.3),
    ):
        assert low <= min(factors) < 1.03 * low
        assert 0.97 * high < max(factors) <= high
        assert abs(np.log(factors).mean() - np.log(low * high) / 2) < 0.03


def test_a_scaled_velocity_chooses_another_note(bank):
    piece = piece_of((0, 1, 60, 100), (0.5, 1, 60, 127))
    loud, soft = (synthesize(piece, bank, Playing(velocity=factor))[0] for factor in (5, 0.001))
    for audio, velocity in ((loud, 127), (soft, 25)):
        expected, _ = synthesize(piece_of((0, 1, 60, velocity), (0.5, 1, 60, velocity)), bank)
        np.testing.assert_array_equal(audio, expected)
