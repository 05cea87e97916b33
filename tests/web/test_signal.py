"""The page's signal processing in Node.js against data.py and conversion/ on the same arrays."""

import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, make_converter, make_music, make_sine

from conversion.models import read_style
from conversion.recordings import convert_audio, spectrogram
from data import PUBLISHED, amplitude_to_db, db_to_amplitude, fade_in
from sound.blocks import istft_blocks, resample, stft_blocks, true_peak

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="no Node.js (Debian: nodejs)")


class Fixtures:
    """Arrays in raw files, with a list of them that the tests in JavaScript read; spectra in frames by bins."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.list = folder, {}

    def add(self, name: str, array: np.ndarray, **values) -> None:
        array = np.ascontiguousarray(array, np.float32)
        file = f"{len(self.list)}.f32"
        array.tofile(self.folder / file)
        self.list[name] = {"file": file, "shape": array.shape, **values}

    def write(self) -> None:
        content = {"representation": PUBLISHED.to_dict(), "arrays": self.list}
        (self.folder / "fixtures.json").write_text(json.dumps(content))


def bend(slices: np.ndarray) -> np.ndarray:
    """A network whose output depends on the frame within the slice, so that wrong blending shows: level squared, and
    fading in over the slice. The test in JavaScript has the same."""
    level = (slices[..., :1] + 1) / 2
    ramp = 0.5 + 0.5 * np.arange(slices.shape[2], dtype=np.float32)[:, np.newaxis] / slices.shape[2]
    return (2 * level**2 * ramp - 1).astype(np.float32)


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    made = Fixtures(tmp_path_factory.mktemp("fixtures"))
    music = make_music(5)
    music[70_000:220_000] = 0  # more than one slice of digital silence
    made.add("music", music)
    (spectrum,) = [np.concatenate(list(stft_blocks([music], PUBLISHED)), axis=1)]
    bins = spectrum[: PUBLISHED.n_bins]
    made.add("stft, real", bins.real.T)
    made.add("stft, imaginary", bins.imag.T)
    level = amplitude_to_db(np.abs(bins) * PUBLISHED.magnitude_scale)
    made.add("level", level.T)
    made.add("magnitude", db_to_amplitude(level).T)
    made.add("istft", np.concatenate(list(istft_blocks([bins], PUBLISHED))))
    made.add("fade_in", fade_in(64))
    # All of it, and around the lengths at which another frame or slice begins.
    for start, length in ((0, len(music)), (20_000, 700), (20_000, 1), (0, 512 * 192), (0, 512 * 255 + 40)):
        converted = convert_audio(music[start : start + length], make_converter(bend))
        made.add(f"converted, {length} samples", converted, start=start)
    second = 0.3 * music[::-1] + 0.1 * music
    made.add("second", second)
    blocks = make_converter(bend).convert([np.stack([music, second], axis=1)])
    for index, channel in enumerate(np.concatenate(list(blocks)).T):
        made.add(f"converted, channel {index} of two", channel, start=0, index=index)
    for name, seconds in {"long": 7, "short": 1}.items():
        audio, path = make_music(seconds, seed=1), made.folder / f"{name}.wav"
        audio[: len(audio) // 2] *= 0.1
        soundfile.write(path, audio, RATE, subtype="FLOAT")
        made.add(f"style, {name}", audio)
        made.add(f"style slice, {name}", read_style(path))
    level, seconds = spectrogram(made.folder / "long.wav", 200)
    magnitude = np.maximum(db_to_amplitude(level.T), 1e-5)
    made.add("spectrogram", 20 * np.log10(magnitude), seconds=seconds)
    for name, audio in {"music": music, "sine": make_sine(RATE / 4 + 1, 1), "few": music[20_000:20_010]}.items():
        made.add(f"true peak, {name}", audio, peak=true_peak([audio[:, np.newaxis]]))
    for rate in (96_000, 22_050, 44_056):
        audio = make_music(1, seed=2, rate=rate)
        made.add(f"at {rate} Hz", audio, rate=rate)
        made.add(f"from {rate} Hz", resample(audio, rate, RATE))
    channels = np.array([[0, 0.125], [0.25, 5e-6], [1, -0.125], [-1, 0.5]])
    soundfile.write(made.folder / "two.wav", np.int16(np.clip(np.round(channels * 32768), -32768, 32767)), RATE)
    made.write()
    return made.folder


@needs_node
def test_the_page_computes_what_python_computes(fixtures):
    done = subprocess.run(
        [shutil.which("node"), "--test", pathlib.Path(__file__).with_name("signal.test.js")],
        env={**os.environ, "FIXTURES": str(fixtures)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split("# pass ")[1].split()[0]) > 15  # each array is a test of its own
