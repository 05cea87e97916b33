"""Recordings of any length and format, in and out block by block, so that memory does not grow with their length.

Blocks are float32 ``(n, n_channels)`` here; a recording is looked through once before any work, so that what is wrong
with it is said at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from common.audio import BLOCK, open_audio, sound_blocks, soundfile_name, to_pcm, warn_if_cut
from common.errors import InputError
from common.files import replacing

# Extension to libsndfile's format; the subtypes are the names of --subtype.
FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aif": "AIFF", ".aiff": "AIFF", ".w64": "W64",
    ".rf64": "RF64", ".caf": "CAF", ".au": "AU",
}  # fmt: skip
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
WAV_LIMIT = 4 * 10**9  # bytes; a longer wav is written as RF64, its 64-bit form under the same extension


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording that has been looked through.

    Attributes:
        path: what libsndfile opens: the recording itself, or what ffmpeg made of it.
        source: the file that the user named.
        sample_rate: in Hz.
        n_channels, n_samples: its size, counted.
        peak: greatest absolute sample, full scale 1.
        power: mean square over all samples and channels.
    """

    path: pathlib.Path
    source: pathlib.Path
    sample_rate: int
    n_channels: int
    n_samples: int
    peak: float
    power: float


# --- in ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Recording]:
    """The recording at `path`, read once: size, peak and power.

    Raises:
        InputError: as `data.open_audio` and `data.sound_blocks`.
    """
    n_samples, peak, square = 0, 0.0, 0.0
    with open_audio(path) as file:  # open until the end: what ffmpeg made of the recording lasts as long
        warn_if_cut(file, path)
        for block in sound_blocks(file, path):
            n_samples += len(block)
            peak = max(peak, float(np.abs(block).max()))
            square += float(np.sum(np.square(block, dtype=np.float64)))
        readable, power = pathlib.Path(os.fsdecode(file.name)), square / (n_samples * file.channels)
        yield Recording(readable, pathlib.Path(path), file.samplerate, file.channels, n_samples, peak, power)


def read(recording: Recording) -> Iterator[np.ndarray]:
    """The samples of a recording as blocks ``(n, n_channels)``."""
    with open_audio(recording.path) as file:
        yield from sound_blocks(file, recording.source)


def of_length(blocks: Iterable[np.ndarray], n_samples: int, n_channels: int) -> Iterator[np.ndarray]:
    """`blocks` cut, or filled up with zeros, to `n_samples` in all; empty blocks are left out."""
    for block in blocks:
        taken = block[:n_samples]
        n_samples -= len(taken)
        if len(taken):
            yield taken
    if n_samples > 0:
        yield np.zeros((n_samples, n_channels), np.float32)


def added(first: Iterable[np.ndarray], second: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The sum of two streams of the same total length whose blocks may differ, in the blocks of `first`."""
    second = iter(second)
    waiting = np.zeros(0, np.float32)
    for block in first:
        while len(waiting) < len(block):
            following = next(second)
            waiting = np.concatenate([waiting, following]) if len(waiting) else following
        yield block + waiting[: len(block)]
        waiting = waiting[len(block) :]


# --- out --------------------------------------------------------------------------------------------------------------


def check_writable(path: str | os.PathLike, sample_rate: int, n_channels: int, subtype: str | None) -> str:
    """libsndfile's name of the format that the extension of `path` stands for.

    Raises:
        InputError: an unknown extension, or a subtype, sample rate or number of channels that the format has not.
    """
    import soundfile

    extension = pathlib.Path(path).suffix.lower()
    if extension not in FORMATS:
        raise InputError(f"{path}: expected an extension of {' '.join(FORMATS)}, found {extension or 'none'}")
    form, code = FORMATS[extension], SUBTYPES.get(subtype or "")
    if code and not soundfile.check_format(form, code):
        has = [name for name, code in SUBTYPES.items() if soundfile.check_format(form, code)]
        raise InputError(f"--subtype: expected {' or '.join(has) or 'none'} for {extension}, found {subtype}")
    try:
        soundfile.SoundFile(io.BytesIO(), "w", sample_rate, n_channels, code, format=form).close()
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{path}: expected a sample rate and channels that {extension} can hold, found {sample_rate} Hz and "
            f"{n_channels} channels ({error.error_string.strip().rstrip('.')})"
        ) from None
    return form


@dataclasses.dataclass
class Rendering:
    """Audio on its way to a file: float32 samples on disk, and what is known of them once all are there."""

    file: io.IOBase
    n_channels: int
    n_samples: int = 0
    peak: float = 0.0
    power: float = 0.0

    def blocks(self, gain: float) -> Iterator[np.ndarray]:
        """The samples times `gain` as blocks ``(n, n_channels)``."""
        self.file.seek(0)
        while chunk := self.file.read(4 * BLOCK * self.n_channels):
            yield np.frombuffer(chunk, np.float32).reshape(-1, self.n_channels) * np.float32(gain)


@contextlib.contextmanager
def rendered(blocks: Iterable[np.ndarray], n_channels: int, path: pathlib.Path) -> Iterator[Rendering]:
    """All `blocks` in a nameless temporary file beside `path`, which is gone afterwards even if the process is killed.

    The level of a recording is only known at its end; this is where it waits for that, outside of memory.

    Raises:
        OSError: the disk is full or not to be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered: what does not fit on the disk is noticed here, not when the file is closed.
    with contextlib.ExitStack() as stack:
        with _named_in_errors(path):
            file = stack.enter_context(tempfile.TemporaryFile(dir=path.parent, buffering=0))
        rendering = Rendering(file, n_channels)
        square = 0.0
        for block in blocks:
            _write_all(file, np.ascontiguousarray(block, np.float32), path)
            rendering.n_samples += len(block)
            rendering.peak = max(rendering.peak, float(np.abs(block).max()))
            square += float(np.sum(np.square(block, dtype=np.float64)))
        rendering.power = square / max(1, rendering.n_samples * n_channels)
        yield rendering


def _write_all(file: io.IOBase, block: np.ndarray, path: pathlib.Path) -> None:
    """Write a block; a full disk is told with the name of the file that it was for."""
    remaining = memoryview(block).cast("B")
    with _named_in_errors(path):
        while remaining:  # one write may take less than all
            remaining = remaining[file.write(remaining) :]


@contextlib.contextmanager
def _named_in_errors(path: pathlib.Path) -> Iterator[None]:
    """The system's errors inside the block name `path` instead of what stands in for it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _quantised(block: np.ndarray, code: str) -> np.ndarray:
    """`block` in the nearest steps of an integer format; libsndfile itself rounds down, half a step off on average."""
    bits = {"PCM_16": 16, "PCM_24": 24}.get(code)
    return to_pcm(block, bits) if bits else block


def write(
    path: str | os.PathLike, rendering: Rendering, gain: float, sample_rate: int, subtype: str | None = None
) -> None:
    """Write a rendering times `gain` to `path`, whole or not at all, in the format of its extension.

    Raises:
        InputError: as `check_writable`.
        OSError: the disk is full.
    """
    import soundfile

    form, code = check_writable(path, sample_rate, rendering.n_channels, subtype), SUBTYPES.get(subtype or "")
    if form == "WAV" and 4 * rendering.n_samples * rendering.n_channels > WAV_LIMIT:
        form = "RF64"
    n_written = 0
    with replacing(path) as beside:
        name = soundfile_name(beside)
        try:
            with soundfile.SoundFile(name, "w", sample_rate, rendering.n_channels, code, format=form) as file:
                for block in rendering.blocks(gain):
                    file.write(_quantised(block, file.subtype))
            n_written = soundfile.info(name).frames
        except (soundfile.LibsndfileError, AssertionError):  # soundfile asserts that it could write all
            pass
        # mp3 rounds up to whole frames; less was cut off by the system, whose own words libsndfile does not pass on.
        if n_written < rendering.n_samples:
            raise OSError(errno.ENOSPC, "could not write all of it; is the disk full?", str(path))
