"""Segments of guitar recordings: what is found, kept, left out and loaded."""

import os
import resource
import shutil

import numpy as np
import pytest
from made_sounds import random_plucks

from common import InputError
from hum2guitar import dataset, harmonics
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.melody import analyse, find_notes
from sound.blocks import resample
from sound.files import read_audio, write_audio

RATE = PUBLISHED.sample_rate
METHOD = "cepstrum"  # fast


@pytest.fixture(scope="module")
def guitar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guitar")
    write_audio(folder / "a.wav", random_plucks(11, 1), RATE)
    write_audio(folder / "b.flac", random_plucks(16, 2), RATE)
    (folder / "more").mkdir()
    write_audio(folder / "more" / "c.wav", resample(random_plucks(5, 3), RATE, 44100), 44100)
    write_audio(folder / "short.wav", random_plucks(4.9, 4), RATE)
    write_audio(folder / "silent.wav", np.zeros(6 * RATE, np.float32), RATE)
    (folder / "broken.wav").write_bytes(b"no audio")
    return folder


@pytest.fixture(scope="module")
def features(guitar, tmp_path_factory):
    return dataset.prepare(guitar, tmp_path_factory.mktemp("features"), METHOD)


def test_recordings_become_segments_of_five_seconds_and_the_rest_is_named(features):
    counts = np.bincount(features.segments[:, 0])
    assert [path.stem for path in features.files] == ["a", "b", "more_c"]
    assert counts.tolist() == [2, 3, 1]
    reasons = {os.path.basename(path): reason for path, reason in features.left_out}
    assert set(reasons) == {"broken.wav", "short.wav", "silent.wav"}
    assert 100 < features.representation.f0_low < features.representation.f0_high < 600


def test_a_segment_holds_what_the_recording_is(features, guitar):
    audio = read_audio(guitar / "a.wav", RATE)
    start = PUBLISHED.segment_samples
    second = audio[start : 2 * start]
    f0, energy, spectrum = analyse(second, method=METHOD, guitar=True)
    level = harmonics.mel_level(spectrum)
    inputs, target = dataset.HumBatches(features, features.segments, 1, 0, shuffle=False).load(1)
    assert inputs.shape == target.shape == (1, 512, 216, 1)
    np.testing.assert_allclose(target[0, ..., 0], level, atol=1e-3)
    expected = harmonics.harmonics_level(f0, energy)
    assert np.abs(inputs[0, ..., 0] - expected).mean() < 1e-3
    halved, _ = dataset.HumBatches(features, features.segments, 1, 0, halve=True, shuffle=False).load(1)
    np.testing.assert_allclose(halved[0, ..., 0], harmonics.halve_bins(inputs[0, ..., 0]), atol=1e-6)


def test_what_is_there_is_not_computed_again_unless_the_recording_changed(tmp_path):
    source, cache = tmp_path / "guitar", tmp_path / "cache"
    write_audio(source / "a_solo_mic.wav", random_plucks(5, 1), RATE)
    write_audio(source / "a_comp_mic.wav", random_plucks(5, 2), RATE)  # chords, in GuitarSet
    (file,) = dataset.prepare(source, cache, METHOD).files
    kept = os.stat(file)
    assert dataset.prepare(source, cache, METHOD).files == (file,)
    assert os.stat(file).st_ino == kept.st_ino
    write_audio(source / "a_solo_mic.wav", random_plucks(11, 1), RATE)
    os.utime(source / "a_solo_mic.wav", ns=(kept.st_mtime_ns - 10**9, kept.st_mtime_ns - 10**9))
    assert len(dataset.prepare(source, cache, METHOD).segments) == 2
    assert dataset.prepare(source, cache, "swiftf0").files != (file,)  # another method's segments lie elsewhere
    os.remove(source / "a_solo_mic.wav")
    assert [path.stem for path in dataset.prepare(source, cache, METHOD).files] == ["a_comp_mic"]


def test_more_recordings_than_open_files(tmp_path):
    source, cache = tmp_path / "guitar", tmp_path / "cache"
    write_audio(source / "a.wav", random_plucks(11, 1), RATE)
    (file,) = dataset.prepare(source, cache, METHOD).files
    for number in range(60):
        shutil.copy2(source / "a.wav", source / f"b{number}.wav")
        shutil.copy2(file, file.with_name(f"b{number}.npy"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 30, limits[1]))
    try:
        assert len(dataset.prepare(source, cache, METHOD).segments) == 2 * 61
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_augmented_inputs_differ_from_epoch_to_epoch_and_targets_do_not(features):
    batches, plain = (dataset.HumBatches(features, features.segments[:1], 1, 5, augment=a) for a in (True, False))
    (inputs, target), (again, _), (other, other_target) = (batches.load(step) for step in (0, 0, 1))
    np.testing.assert_array_equal(inputs, again)
    assert not np.array_equal(inputs, other)
    for levels in (target, other_target):
        np.testing.assert_array_equal(levels, plain.load(0)[1])


def test_a_sample_is_the_first_recording_with_a_pitch(features, guitar):
    paths = [guitar / "broken.wav", guitar / "silent.wav", guitar / "short.wav"]
    examples = dataset.read_examples(features, features.segments[2], paths, METHOD, augment=True)
    assert [title for title, _, _ in examples.values()] == ["guitar: b", "humming: short"]
    for _, inputs, original in examples.values():
        assert inputs.shape == original.shape == (512, 216)
        assert inputs.max() > -1
    with pytest.raises(InputError):
        dataset.read_examples(features, features.segments[0], paths[:2], METHOD, augment=True)


def test_notes_are_held_and_keep_their_pitch():
    # Three notes of 60 frames that each decay by 30 dB, then 36 frames without pitch.
    f0 = np.repeat([220.0, 330.0, 0.0], [120, 60, 36])
    decay = np.linspace(-10, -40, 60)
    decibels = np.concatenate([decay, decay, decay, np.full(36, -80.0)])
    falls, pitches = [], []
    for seed in range(40):
        voice_f0, voice = dataset.as_voice(f0, decibels, PUBLISHED, np.random.default_rng(seed))
        assert (voice_f0 > 0).tolist() == (f0 > 0).tolist()
        falls.append([voice[start + 8] - voice[stop - 1] for start, stop in find_notes(f0, decibels)])
        pitches.append([np.median(voice_f0[start:stop]) for start, stop in [(0, 60), (60, 120), (120, 180)]])
    assert abs(np.median(falls)) < 2
    cents = 1200 * np.log2(np.array(pitches) / [220, 220, 330])
    assert np.abs(cents).max() < 30
    assert np.abs(cents).max() > 0
