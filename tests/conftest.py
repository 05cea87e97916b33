"""What several test files share: a quiet TensorFlow, made data, the commands as a user runs them."""

import functools
import importlib.util
import os
import pathlib
import shutil
import signal
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")

import made_weights
import numpy as np
import pytest

import data
from common import weights
from data import PUBLISHED
from hum2guitar import harmonics

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background would ignore Ctrl-C

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = sorted(path.stem for path in ROOT.glob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8"))
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
has_browser = BROWSER and shutil.which("chromedriver") and importlib.util.find_spec("selenium")
needs_browser = pytest.mark.skipif(not has_browser, reason="needs selenium, Chromium and its driver")


@pytest.fixture(scope="module")
def start_browser():
    """A function that starts headless Chromium with a window of some size; all are closed in the end."""
    from selenium import webdriver

    started = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def start(width, height):
            options = webdriver.ChromeOptions()
            options.binary_location = BROWSER
            flags = (
                "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
                f"--disable-component-update --disable-sync --disable-dev-shm-usage --window-size={width},{height}"
            )
            for flag in [*flags.split(), f"--user-data-dir={profile}/{len(started)}"]:
                options.add_argument(flag)
            options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
            service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
            started.append(webdriver.Chrome(options=options, service=service))
            return started[-1]

        yield start
        for browser in started:
            browser.quit()


@pytest.fixture(scope="session")
def noise_features():
    """Write a data set of random levels: ``noise_features(folder, {"piano": {"piece": 3}})``, slices by piece."""

    def write(folder, slices, dtype=np.float16, seed=0):
        rng = np.random.default_rng(seed)
        for instrument, pieces in slices.items():
            (folder / instrument).mkdir(parents=True, exist_ok=True)
            for piece, n_slices in pieces.items():
                for number in range(n_slices):
                    level = rng.random((256, 256, 1)).astype(dtype)
                    np.save(folder / instrument / f"{piece}_{number:03d}.npy", level)
        return folder

    return write


@pytest.fixture(scope="session")
def note_features():
    """Write features of the same random notes on several instruments, as compute_features.py would.

    An instrument is how fast its overtones fall and how fast it dies away: ``{"piano": (1.0, 4.0), ...}``, exponent of
    the overtone's number and decay per second.
    """

    rate = PUBLISHED.sample_rate

    @functools.cache
    def make_note(pitch, fall, decay):
        hz, seconds = 440 * 2 ** ((pitch - 69) / 12), np.arange(rate) / rate
        overtones = range(1, int(8000 // hz) + 1)
        return sum(k**-fall * np.sin(2 * np.pi * k * hz * seconds) for k in overtones) * np.exp(-decay * seconds)

    def write(folder, instruments, n_slices, piece="piece", seed=0):
        rng = np.random.default_rng(seed)
        n = n_slices * PUBLISHED.n_frames * PUBLISHED.hop_length
        onsets = np.arange(0, n, rate // 3)
        pitches = rng.integers(48, 84, (len(onsets), 2))
        for instrument, (fall, decay) in instruments.items():
            audio = np.zeros(n + 2 * rate, np.float32)
            for onset, chord in zip(onsets, pitches, strict=True):
                for pitch in chord:
                    audio[onset : onset + rate] += 0.1 * make_note(pitch, fall, decay)
            (folder / instrument).mkdir(parents=True, exist_ok=True)
            features = data.compute_features(audio[: n - 1])  # one frame less than full slices: none is nearly empty
            for number, level in enumerate(features[:n_slices]):
                np.save(folder / instrument / f"{piece}_{number:03d}.npy", level)
        return folder

    return write


@pytest.fixture(scope="session")
def write_hum2guitar():
    """Write the weights of a hum2guitar generator drawn at random: ``write_hum2guitar(path, network, base_filters)``;
    gives the path."""

    def write(path, network=weights.LOCAL_ENHANCER, base_filters=2, seed=0, **settings):
        rng = np.random.default_rng(seed)

        def draw(name, shape):
            return rng.normal(0, np.sqrt(2 / np.prod(shape[:3])) if "kernel" in name else 0.3, shape)

        described = {"system": "hum2guitar", "network": network, "base_filters": base_filters, "in_channels": 1}
        described |= {"representation": harmonics.PUBLISHED.to_dict(), "f0": "pyin"}
        layers = made_weights.fill(made_weights.hum2guitar_table(network, base_filters), draw)
        weights.write(path, layers, {**described, **settings})
        return path

    return write


@pytest.fixture(scope="session")
def write_generator():
    return made_weights.write_generator


@pytest.fixture(scope="module")
def instrument_features(tmp_path_factory, noise_features):
    pieces = {"bach": 3, "satie": 1}
    slices = {"keyboard_acoustic": pieces, "guitar_acoustic": pieces, "string_acoustic": pieces}
    return noise_features(tmp_path_factory.mktemp("features"), slices)


@pytest.fixture
def refused(tmp_path, instrument_features, capsys, monkeypatch):
    """Run a train script with faulty arguments: it answers with one line and status 2 and leaves nothing; the line."""

    monkeypatch.setattr("training.loop.fit", lambda _: pytest.fail("it would train"))

    def run(script, **options):
        pair = {"origin": "keyboard_acoustic", "target": "guitar_acoustic"}
        given = {"dataset_path": instrument_features, **pair, **options}
        argv = [f"--models_path={tmp_path / 'models'}"]
        for flag, value in given.items():
            argv += [f"--{flag}", *(map(str, value) if isinstance(value, (list, tuple)) else [str(value)])]
        try:
            status = importlib.import_module(script).main(argv)
        except SystemExit as stopped:
            status = stopped.code
        said = capsys.readouterr()
        assert status == 2
        assert said.err.count("\n") == 1
        assert not (tmp_path / "models").exists()
        return said.err

    return run
