"""Sounds, networks and weights for the tests of the conversion, and its commands run in this process."""

import numpy as np
import soundfile
from made_weights import fill, patchgan_table

import predict
from common import weights
from conversion import network
from conversion.converter import Pix2PixConverter, Settings
from data import PUBLISHED

RATE = PUBLISHED.sample_rate


def identity(slices):
    """A network that returns the first channel of its input."""
    return slices[..., :1]


def load_network(path, gpu=-1):
    """The network of a weights file."""
    return network.load_network(weights.describe(path), gpu)


def make_converter(generator=identity, style=None, **settings):
    """A Pix2Pix converter with the settings given by name."""
    return Pix2PixConverter(generator, style=style, settings=Settings(**settings))


def make_music(seconds, seed=0, rate=RATE):
    """Decaying tones at random times over a little noise, peak 0.5."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    audio = rng.normal(0, 1e-4, len(time))
    for _ in range(max(1, round(4 * seconds))):
        since = time - rng.uniform(0, seconds)
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * since) * np.exp(-3 * np.maximum(since, 0))
        audio += np.where(since > 0, tone, 0)
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def make_sine(frequency, seconds, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def decibels(error, reference):
    """Level of an error relative to the reference, both by their RMS."""
    return 20 * np.log10(np.sqrt(np.mean(np.square(error)) / np.mean(np.square(reference))) + 1e-30)


def write_tone(path, seconds=0.5, rate=RATE, n_channels=1, **options):
    """Write a tone of 440 Hz to `path`; the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = make_sine(440, seconds, rate, 0.3)
    soundfile.write(path, np.repeat(audio[:, np.newaxis], n_channels, 1), rate, **options)
    return str(path)


def write_discriminator(path, base_filters=2):
    """Write the weights of a discriminator."""
    weights.write(path, fill(patchgan_table(base_filters), lambda _, shape: np.ones(shape, np.float32)), {})
    return path


def run(*argv, command=predict):
    """Run a predict command in this process; its exit status."""
    return command.main([str(word) for word in argv])


def read_refusal(capsys, *argv, command=predict):
    """Run a predict command that refuses its arguments with one line and status 2; the line."""
    capsys.readouterr()
    try:
        status = run(*argv, command=command)
    except SystemExit as stopped:  # from argparse
        status = stopped.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.count("\n") == 1
    return captured.err
