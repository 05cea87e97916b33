"""The toolkit from Python: load a model, convert arrays and files, evaluate, play a piece (docs/python.md).

Audio is float32, full scale 1, ``(n_samples,)`` or ``(n_channels, n_samples)``, at any sample rate in Hz. What is wrong
with a file or an argument raises `InputError` with one line of text.
"""

from __future__ import annotations

import common.environment

import functools
import os
import tempfile

import numpy as np

from common import weights
from common.errors import InputError
from common.files import find_files
from conversion import files, models
from conversion.settings import Settings
from data import PUBLISHED
from sound.blocks import resample

__all__ = ["InputError", "Model", "evaluate", "load_model", "render"]


class Model:
    """A generator, ready to convert; made by `load_model`.

    Attributes:
        description: of its weights file: path, network, origin, targets, ...
    """

    def __init__(self, description: weights.Description, settings: Settings, gpu: int | None) -> None:
        self.description = description
        self._settings, self._gpu = settings, gpu
        self._converter = functools.cache(self._load)

    def convert(self, audio: np.ndarray, sample_rate: int, style: str | os.PathLike | None = None) -> np.ndarray:
        """Converted audio of the same shape and sample rate; the level is left as the network makes it.

        Args:
            audio: the recording; each channel is converted separately.
            sample_rate: of `audio`, in Hz.
            style: recording of the target instrument, for a multitarget model.

        Raises:
            InputError: a style is missing or not wanted, or its recording cannot be used.
        """
        return files.convert_audio(np.asarray(audio, np.float32), self._converter(self._check(style)), sample_rate)

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
        style = self._check(style)
        files.convert_file(source, destination, lambda: self._converter(style), self._settings)

    def _check(self, style: str | os.PathLike | None) -> str | None:
        is_multitarget = self.description.in_channels == 2
        if is_multitarget and style is None:
            raise InputError("style: expected a recording of the target instrument, found nothing")
        if style is not None and not is_multitarget:
            raise InputError(f"style: expected with a multitarget model only, found {self.description.path}")
        return None if style is None else os.fspath(style)

    def _load(self, style: str | None) -> files.Converter:
        from conversion.pix2pix import read_style

        level = None if style is None else read_style(style, self.description.representation)
        return files.load_converter(self.description, self._settings, self._gpu, level)


def load_model(model: str | os.PathLike, gpu: int | None = None, **settings) -> Model:
    """A model by its weights file (.h5 or .onnx), its folder, or the name of one that comes with the project.

    Args:
        model: ``"guitar"``, ``"models/keyboard_acoustic_2_any"``, ``"generator.h5"``, ...
        gpu: number of the CUDA device, -1 for the CPU, None for device 0 if there is one.
        settings: fields of `conversion.settings.Settings`, such as ``overlap=0`` or ``level="match"``.

    Raises:
        InputError: there is no such model, or it is damaged.
    """
    # A folder without weights may have the name of a model, as this project's hum2guitar/ does.
    is_path = os.path.isfile(model) or (os.path.isdir(model) and find_files(model, models.EXTENSIONS))
    description = models.describe_generator(model) if is_path else models.find_by_name(os.fspath(model))
    return Model(description, Settings(**settings), gpu)


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
    from synthesis import mixing, soundfonts
    from synthesis.midi import read_midi
    from synthesis.notes import NoteBank
    from synthesis.voices import prepare_notes

    played = mixing.Playing(**playing)
    font = soundfonts.find_soundfont(soundfont) if soundfont else soundfonts.default_soundfont()
    programs = soundfonts.choose_programs(font, [instrument], {} if program is None else {instrument: program})
    piece = read_midi(midi, played.sustain_pedal)
    with tempfile.TemporaryDirectory() as folder:
        notes = soundfonts.soundfont_instrument(instrument, font, programs[instrument], folder)
        for pitch in sorted(mixing.pitches_needed(piece, played.transpose)):
            prepare_notes(notes, pitch)
        audio, _ = mixing.synthesize(piece, NoteBank(notes), played)
    return audio
