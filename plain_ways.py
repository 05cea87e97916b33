"""The plain way of each piece of work, as one would write it first: what benchmark.py holds the project against.

Results are those of the project (tests/test_benchmark.py), the ways are not: one process, whole files in memory, Keras'
own layers and optimizer. Each function imports what it needs, so that a timing includes what a user waits for.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

import data
from common import cli
from common.audio import read_audio, write_audio


def training_step(base_filters: int, seed: int, is_eager: bool) -> Callable:
    """The float32 update of both networks with Keras' own batch normalisation and Adam, eager as published or compiled.

    Returns:
        As `loop.make_step`.
    """
    import tensorflow as tf

    import losses
    import model
    from training import loop

    tf.config.run_functions_eagerly(is_eager)
    networks = loop.Networks(
        model.build_generator(1, base_filters, seed=seed, batch_norm=tf.keras.layers.BatchNormalization),
        model.build_discriminator(base_filters, seed=seed + 1, batch_norm=tf.keras.layers.BatchNormalization),
        losses.PIX2PIX,
        tf.keras.optimizers.Adam(),
        tf.keras.optimizers.Adam(),
    )
    networks.build()
    return loop.make_step(networks, seed)


def compute_features(audios: pathlib.Path, features: pathlib.Path) -> None:
    """The slices of all recordings, one after another, as float64."""
    import librosa

    window = np.hanning(1024)
    for path in sorted(audios.glob("*/*.wav")):
        folder = features / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        audio, _ = librosa.load(path, sr=44100)
        magnitude = 2 * np.abs(librosa.stft(audio, n_fft=1024, hop_length=512, window=window)) / window.sum()
        level = np.log1p(magnitude[:256] * 2**16) / np.log1p(2**16)
        level = np.pad(level, ((0, 0), (0, -level.shape[1] % 256)))
        for number in range(level.shape[1] // 256):
            part = level[:, 256 * number : 256 * (number + 1), np.newaxis]
            np.save(folder / f"{path.stem}_{number:03d}.npy", part.astype(np.float64))


def synthesize_audios(midis: pathlib.Path, notes: pathlib.Path, instrument: str, audios: pathlib.Path) -> None:
    """All pieces on one instrument, one after another; `notes` holds a file for every pitch and velocity."""
    import librosa
    import pretty_midi
    import soundfile

    audios.mkdir(parents=True, exist_ok=True)
    velocities = np.array([25, 50, 75, 100, 127])
    cache: dict[str, np.ndarray] = {}
    for path in sorted(midis.glob("*.mid")):
        midi = pretty_midi.PrettyMIDI(str(path))
        mix = np.zeros(round(midi.get_end_time() * 16000))
        for note in (note for part in midi.instruments for note in part.notes):
            velocity = velocities[np.abs(velocities - note.velocity).argmin()]
            name = f"{instrument}_000-{note.pitch:03d}-{velocity:03d}.wav"
            if name not in cache:
                cache[name], _ = librosa.load(notes / name, sr=16000)
            sound = cache[name][: round(4 * (note.end - note.start) * 16000)].copy()
            n_release = len(sound) // 10
            if n_release:
                sound[-n_release:] *= np.exp(-np.arange(n_release) / 3000)
            start = round(note.start * 16000)
            sound = sound[: len(mix) - start]
            mix[start : start + len(sound)] += sound
        audio = librosa.resample(mix, orig_sr=16000, target_sr=44100)
        soundfile.write(audios / f"{path.stem}.wav", audio * 32000 / 32768 / np.abs(audio).max(), 44100)


def convert(source: str, weights_path: str, destination: str, gpu: int = -1) -> None:
    """A recording slice by slice through the Keras network, all of it in memory."""
    cli.start_tensorflow(gpu)
    import model

    generator = model.load_generator(weights_path)
    magnitude, phase = data.forward_transform(read_audio(source))
    slices = data.to_network(data.slice_frames(data.amplitude_to_db(magnitude)))
    outputs = np.concatenate([generator(one[np.newaxis], training=False).numpy() for one in slices])
    level = data.join_slices(data.from_network(outputs), magnitude.shape[1])
    audio = data.inverse_transform(data.db_to_amplitude(level), phase)
    write_audio(destination, audio / np.abs(audio).max())
