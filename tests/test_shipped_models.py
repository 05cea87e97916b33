"""The models that come with the project: their files, their cards, and that they convert what they say."""

import pathlib

import numpy as np
import pytest
from made_weights import arrays_of

import model
import timbre_transfer
from common import weights
from conversion import models
from hum2guitar import networks
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.melody import analyse
from models.results import synthesize_voice
from sound.files import read_audio

FOLDERS = sorted(path.parent for path in models.MODELS.glob("*/generator.h5"))
RATE = PUBLISHED.sample_rate
SOUNDS = pathlib.Path(models.MODELS.parent, "docs/results/beethoven_ode_to_joy")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_model_is_small_described_and_has_a_card_and_keras_itself_reads_it(folder):
    path = folder / "generator.h5"
    description = weights.describe(path)
    assert path.stat().st_size <= 8e6
    assert description.settings["exported"]
    assert description.settings["validation_mae"] < description.settings["copy_mae"]
    assert "licence" in (folder / "README.md").read_text(encoding="utf-8").lower()
    assert list(folder.glob("history*.csv"))
    if description.network == weights.UNET:
        generator = model.build_generator(description.in_channels, description.base_filters)
    else:
        generator = networks.build_local_enhancer(description.base_filters)
    generator.load_weights(path)
    for found, expected in zip(generator.get_weights(), arrays_of(path), strict=True):
        np.testing.assert_array_equal(found, expected)


PAIRS = [folder for folder in FOLDERS if not folder.name.endswith(("hum2guitar", "_any"))]


@pytest.mark.parametrize("folder", PAIRS, ids=lambda folder: folder.name)
def test_a_piano_that_was_not_trained_on_comes_nearer_to_the_target(folder):
    """The piano and the piece of docs/results, which the models have never heard; MP3 files of 10 s."""
    name = models.Model(weights.describe(folder / "generator.h5")).instrument
    piano, true = (read_audio(SOUNDS / f"{sound}.mp3", 44100) for sound in ("keyboard", f"{name}_target"))
    model = timbre_transfer.load_model(name)
    assert model.description.path.parent == folder
    output = model.convert(piano, 44100)
    of_output, of_copy = (timbre_transfer.evaluate(audio, true, 44100) for audio in (output, piano))
    for metric in ("mae", "lsd", "mfcc"):
        assert of_output[metric] < 0.9 * of_copy[metric], metric


def test_a_held_hum_becomes_plucked_notes_at_the_same_pitch():
    notes = np.array([196.0, 220.0, 262.0, 330.0, 294.0])
    hum = synthesize_voice(np.repeat(notes, RATE), breath=0.05)
    guitar = timbre_transfer.load_model("hum2guitar").convert(hum, RATE)
    f0 = analyse(guitar)[0]
    frames = RATE / PUBLISHED.hop_length

    def rms(second):
        return np.sqrt(np.mean(guitar[int(second * RATE) :][: RATE // 8] ** 2))

    for i, note in enumerate(notes):
        of_note = f0[round((i + 0.1) * frames) : round((i + 0.9) * frames)]
        cents = 1200 * np.log2(np.maximum(of_note, 1) / note)
        assert np.mean(np.abs(cents) <= 50) > 0.8
        assert rms(i + 0.8) < 0.7 * rms(i + 0.1)  # the hum is as loud there
