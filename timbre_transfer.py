"""The toolkit from Python: load a model, convert arrays and files, evaluate, play a piece (docs/python.md).

Audio is float32, full scale 1, ``(n_samples,)`` or ``(n_channels, n_samples)``, at any sample rate in Hz. What is wrong
with a file or an argument raises `InputError` with one line of text.
"""

from __future__ import annotations

import common.environment

import functools
import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np

from common import InputError
from conversion import models, recordings
from conversion.converter import Converter, Settings, load_converter
from data import PUBLISHED
from sound.blocks import resample

__all__ = ["InputError", "Model", "evaluate", "load_model", "render"]


class Model:
    """A generator, ready to convert; made by `load_model`.

    Attributes:
        description: of its weights file: path, network, origin, targets, ...
    """

    def __init__(self, model: models.Model, settings: Settings, gpu: int | None) -> None:
        self.description = model.description
        self._model, self._settings, self._gpu = model, settings, gpu
        self._converter: Callable = functools.cache(self._load)

    def convert(self, audio: np.ndarray, sample_rate: int, style: str | os.PathLike | None = None) -> np.ndarray:
        """Converted audio of the same shape and sample rate; the level is left as the network makes it.

        Args:
            audio: the recording.
            sample_rate: of `audio`, in Hz.
            style: recording of the target instrument, for a multitarget model.

        Raises:
            InputError: a style is missing or not wanted, or its recording cannot be used.
        """
        return recordings.convert_audio(audio, self._converter(style), sample_rate, self._settings.mix)

    def convert_file(
        self, source: str | os.PathLike, destination: str | os.PathLike, style: str | os.PathLike | None = None
    ) -> None:
        """Convert a recording of any length in bounded memory, as predict.py does.

        Args:
            source: a recording in any format.
            destination: the output; its extension decides the format.
            style: as for `convert`.

        Raises:
            InputError: as `convert`, or the recording or the output is not what is expected.
        """
        recordings.convert_file(source, destination, self._converter(style), self._settings)

    def _load(self, style: str | os.PathLike | None) -> Converter:
        n_inputs = self.description.in_channels
        if style is not None and n_inputs == 1:
            raise InputError(f"style: only a multitarget model takes one, not {self.description.path}")
        level = models.read_style(style, self.description.representation) if style else self._model.load_style()
        if level is None and n_inputs == 2:
            raise InputError("style: a multitarget model needs a recording of the target instrument")
        return load_converter(self.description, self._settings, self._gpu, level)


def load_model(model: str | os.PathLike, gpu: int | None = None, **settings) -> Model:
    """A model by its weights file (.h5), its folder, or the name of one that comes with the project.

    Args:
        model: ``"guitar"``, ``"models/keyboard_acoustic_2_any"``, ``"generator.h5"``, ...
        gpu: number of the CUDA device, -1 for the CPU, None for device 0 if there is one.
        settings: fields of `conversion.converter.Settings`, such as ``overlap=0`` or ``level="match"``.

    Raises:
        InputError: there is no such model, or it is damaged.
    """
    # A folder without weights may have the name of a model, as this project's hum2guitar/ does.
    is_path = os.path.isfile(model) or any(pathlib.Path(model).glob("*.h5"))
    found = models.Model(models.describe_generator(model)) if is_path else models.find_by_name(os.fspath(model))
    return Model(found, Settings(**settings), gpu)


def evaluate(output: np.ndarray, target: np.ndarray, sample_rate: int) -> dict[str, float]:
    """How close two recordings are: the metrics of evaluate.py by name (docs/evaluation.md).

    Args:
        output, target: audio ``(n_samples,)``; the shorter one is padded with silence.
        sample_rate: of both, in Hz.
    """
    from evaluation import metrics

    audios = (resample(np.asarray(audio, np.float32), sample_rate, PUBLISHED.sample_rate) for audio in (output, target))
    return metrics.compare(*audios)


def render(
    midi: str | os.PathLike,
    instrument: str = "keyboard_acoustic",
    soundfont: str | os.PathLike | None = None,
    program: int | None = None,
    **playing,
) -> np.ndarray:
    """A MIDI file played with the notes of a SoundFont: audio ``(n_samples,)`` at 44.1 kHz.

    Args:
        midi: the file.
        instrument: one of NSynth's names, which determines the program, or any name with `program`.
        soundfont: an .sf2 file; None for TimGM6mb, which pip installs.
        program: General MIDI program from 0; None for the instrument's usual one.
        playing: fields of `synthesis.mixing.Playing`, such as ``duration_rate=1``.

    Raises:
        InputError: the file is no MIDI file with notes, or the SoundFont cannot play it.
    """
    from synthesis import mixing, voices
    from synthesis.midi import read_midi

    played = mixing.Playing(**playing)
    font = soundfont or voices.default_soundfont()
    piece = read_midi(midi, played.sustain_pedal)
    with tempfile.TemporaryDirectory() as folder:
        number = voices.program(instrument) if program is None else program
        notes = voices.soundfont_instrument(instrument, font, number, folder)
        return mixing.synthesize(piece, notes, played)[0]
