"""Recordings of any length and format, read and written in blocks, so that memory does not grow with their length.

Blocks are float32 ``(n, n_channels)``. A recording is read once before any work, so that a damaged one is refused at
once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import pathlib
import tempfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from common.audio import BLOCK, TruePeak, iterate_blocks, open_audio, soundfile_name, to_pcm, warn_if_truncated
from common.errors import InputError
from common.files import replacing

# libsndfile's name of the format of each extension, and of each subtype of --subtype.
FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aif": "AIFF", ".aiff": "AIFF", ".w64": "W64",
    ".rf64": "RF64", ".caf": "CAF", ".au": "AU",
}  # fmt: skip
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
WAV_LIMIT = 4 * 10**9  # bytes; a longer wav is written as RF64, the 64-bit form of wav, with the same extension


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording that has been read once.

    Attributes:
        path: the file that libsndfile opens: the recording itself, or its copy decoded by ffmpeg.
        source: the file that the user named.
        sample_rate: in Hz.
        n_channels: number of channels.
        n_samples: number of samples of each channel, counted while reading.
        peak: greatest absolute sample, full scale 1.
        power: mean square over all samples and channels.
        checksum: CRC-32 of all samples, by which `read` knows that they are still the same.
    """

    path: pathlib.Path
    source: pathlib.Path
    sample_rate: int
    n_channels: int
    n_samples: int
    peak: float
    power: float
    checksum: int


# --- reading ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_recording(path: str | os.PathLike) -> Iterator[Recording]:
    """The recording at `path`, after reading it once for its size, peak and power.

    Raises:
        InputError: as `audio.open_audio` and `audio.iterate_blocks`.
    """
    n_samples, peak, square, checksum = 0, 0.0, 0.0, 0
    with open_audio(path) as file:  # stays open, because closing it removes what ffmpeg decoded
        warn_if_truncated(file, path)
        for block in iterate_blocks(file, path):
            n_samples += len(block)
            peak = max(peak, float(np.abs(block).max()))
            square += float(np.sum(np.square(block, dtype=np.float64)))
            checksum = zlib.crc32(block, checksum)
        readable, power = pathlib.Path(os.fsdecode(file.name)), square / (n_samples * file.channels)
        yield Recording(readable, pathlib.Path(path), file.samplerate, file.channels, n_samples, peak, power, checksum)


def read(recording: Recording) -> Iterator[np.ndarray]:
    """The samples of a recording as blocks ``(n, n_channels)``.

    Raises:
        InputError: after the last block, if the samples are not those that `open_recording` found: another program has
            written to the file in the meantime.
    """
    changed = f"{recording.source}: expected the recording as it was at first, found it changed while it was read"
    n_samples = checksum = 0
    with open_audio(recording.path) as file:
        if (file.samplerate, file.channels) != (recording.sample_rate, recording.n_channels):
            raise InputError(changed)
        for block in iterate_blocks(file, recording.source):
            n_samples += len(block)
            checksum = zlib.crc32(block, checksum)
            yield block
    if (n_samples, checksum) != (recording.n_samples, recording.checksum):
        raise InputError(changed)


def trim_or_pad(blocks: Iterable[np.ndarray], n_samples: int, n_channels: int) -> Iterator[np.ndarray]:
    """`blocks` cut, or followed by zeros, so that they have `n_samples` in total; empty blocks are left out."""
    for block in blocks:
        taken = block[:n_samples]
        n_samples -= len(taken)
        if len(taken):
            yield taken
    if n_samples > 0:
        yield np.zeros((n_samples, n_channels), np.float32)


def add_streams(first: Iterable[np.ndarray], second: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The sum of two streams of the same total length, in blocks as long as those of `first`."""
    second = iter(second)
    waiting = np.zeros(0, np.float32)
    for block in first:
        while len(waiting) < len(block):
            following = next(second)
            waiting = np.concatenate([waiting, following]) if len(waiting) else following
        yield block + waiting[: len(block)]
        waiting = waiting[len(block) :]


# --- writing ----------------------------------------------------------------------------------------------------------


def check_writable(path: str | os.PathLike, sample_rate: int, n_channels: int, subtype: str | None) -> str:
    """libsndfile's name of the format that the extension of `path` stands for.

    Raises:
        InputError: an unknown extension, or the format does not have this subtype, sample rate or number of channels.
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
    """Audio that waits in a temporary file until its peak and power are known.

    Attributes:
        file: the temporary file of float32 samples.
        n_channels: number of channels.
        n_samples, peak, power: of all samples, as in `Recording`.
        true_peak: greatest absolute value between samples, too, as `audio.TruePeak` finds it.
    """

    file: io.IOBase
    n_channels: int
    n_samples: int = 0
    peak: float = 0.0
    true_peak: float = 0.0
    power: float = 0.0

    def blocks(self, gain: float) -> Iterator[np.ndarray]:
        """The samples times `gain` as blocks ``(n, n_channels)``."""
        self.file.seek(0)
        while chunk := self.file.read(4 * BLOCK * self.n_channels):
            yield np.frombuffer(chunk, np.float32).reshape(-1, self.n_channels) * np.float32(gain)


@contextlib.contextmanager
def render_to_disk(blocks: Iterable[np.ndarray], n_channels: int, path: pathlib.Path) -> Iterator[Rendering]:
    """All `blocks` in a temporary file in the folder of `path`, until the block ends or the process is killed.

    Samples wait on disk until the peak is known.

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered, so that a full disk is noticed here and not when the file is closed.
    with contextlib.ExitStack() as stack:
        with _name_in_errors(path):
            file = stack.enter_context(tempfile.TemporaryFile(dir=path.parent, buffering=0))
        rendering = Rendering(file, n_channels)
        square, true_peak = 0.0, TruePeak()
        for block in blocks:
            _write_all(file, np.ascontiguousarray(block, np.float32), path)
            rendering.n_samples += len(block)
            rendering.peak = max(rendering.peak, float(np.abs(block).max()))
            true_peak.add(block)
            square += float(np.sum(np.square(block, dtype=np.float64)))
        rendering.true_peak = true_peak.value
        rendering.power = square / max(1, rendering.n_samples * n_channels)
        yield rendering


def _write_all(file: io.IOBase, block: np.ndarray, path: pathlib.Path) -> None:
    """Write a block; an error names `path`, the file that the user asked for."""
    remaining = memoryview(block).cast("B")
    with _name_in_errors(path):
        while remaining:  # a write may write only a part
            remaining = remaining[file.write(remaining) :]


@contextlib.contextmanager
def _name_in_errors(path: pathlib.Path) -> Iterator[None]:
    """Let the system's errors inside the block name `path` instead of the temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _quantize(block: np.ndarray, code: str) -> np.ndarray:
    """`block` rounded to integer samples where the subtype has them, because libsndfile truncates."""
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
        beside.touch()  # tells why there can be no such file, which libsndfile would not
        try:
            with soundfile.SoundFile(name, "w", sample_rate, rendering.n_channels, code, format=form) as file:
                for block in rendering.blocks(gain):
                    file.write(_quantize(block, file.subtype))
            n_written = soundfile.info(name).frames
        except (soundfile.LibsndfileError, AssertionError):  # soundfile asserts that it could write all
            pass
        # An mp3 may hold more samples, because it has whole frames. With fewer, writing failed, and libsndfile does not
        # say why.
        if n_written < rendering.n_samples:
            raise OSError(errno.ENOSPC, "could not write all of it; is the disk full?", str(path))
