"""Audio files in and out, sample formats and sample rates."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import InputError
from common.files import existing_folder, find_files, replacing
from data import PUBLISHED

# What is taken for a recording in a folder: what libsndfile reads, and behind it what ffmpeg decodes.
AUDIO_EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", ".snd",
    ".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".amr", ".ac3",
)  # fmt: skip
BLOCK = 2**16  # samples read at a time


def find_audio(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All recordings in `folder`, by their extension, as `find_files`.

    Raises:
        InputError: naming `flag`, if the folder is missing or holds none.
    """
    found = find_files(existing_folder(folder, flag), AUDIO_EXTENSIONS)
    if not found:
        raise InputError(f"{flag}: expected recordings ({' '.join(AUDIO_EXTENSIONS)}), found none in {folder}")
    return found


def read_audio(
    path: str | os.PathLike, sample_rate: int | None = PUBLISHED.sample_rate, mono: bool = True
) -> np.ndarray:
    """The recording at `path` as float32.

    Args:
        path: anything libsndfile opens or ffmpeg decodes.
        sample_rate: resampled to this many Hz (soxr, HQ); None leaves it as it is.
        mono: mean of the channels, ``(n_samples,)``; otherwise ``(n_channels, n_samples)``.

    Raises:
        InputError: no such file, not audio, no samples, or samples that are no finite numbers.
    """
    with open_audio(path) as file:
        warn_if_cut(file, path)
        (audio,) = sound_blocks(file, path, -1)
        audio, file_rate = mean_of_channels(audio) if mono else audio.T, file.samplerate
    return resample(audio, file_rate, sample_rate or file_rate)


def read_blocks(
    path: str | os.PathLike, sample_rate: int = PUBLISHED.sample_rate, block_seconds: float = 30
) -> Iterator[np.ndarray]:
    """The recording at `path` piece by piece, mono float32 ``(n,)`` each: `read_audio` in bounded memory.

    Args:
        path: as of `read_audio`.
        sample_rate: resampled to this many Hz (soxr, HQ).
        block_seconds: how much of the recording is read at a time.

    Raises:
        InputError: as `read_audio`; a fault may show after the first blocks.
    """
    with open_audio(path) as file:
        warn_if_cut(file, path)
        blocks = sound_blocks(file, path, max(1, round(block_seconds * file.samplerate)))
        yield from resampled(map(mean_of_channels, blocks), file.samplerate, sample_rate)


@contextlib.contextmanager
def open_audio(path: str | os.PathLike) -> Iterator:
    """An open ``soundfile.SoundFile`` of the recording at `path`, or of what ffmpeg makes of it, its ``name``.

    What ffmpeg makes lies in the system's temporary folder until the block ends.

    Raises:
        InputError: no such file, not audio, or a fault that is found while the file is read.
    """
    import soundfile  # here, so that --help and argument errors answer at once

    if not os.path.isfile(path):
        raise InputError(f"{path}: expected a recording, found {'a folder' if os.path.isdir(path) else 'no such file'}")
    with contextlib.ExitStack() as stack:
        try:
            with silenced_stderr():  # what libmpg123 thinks of an mp3
                file = soundfile.SoundFile(soundfile_name(path))
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw, which has no header
            decoded = _decoded(path, _reason(error), stack.enter_context(tempfile.TemporaryDirectory()))
            file = soundfile.SoundFile(soundfile_name(decoded))
        stack.enter_context(file)
        try:
            yield file
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path}: expected audio, found it damaged: {_reason(error)}") from None


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Nothing reaches the process's stderr inside the block, not even from C++."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr to silence
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            sys.stderr.flush()
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def warn_if_cut(file, path: str | os.PathLike) -> None:
    """A line on stderr where the header of a wav, aiff or au promises more than there is, as of a broken download.

    libsndfile notes in its log ``data : 705600 (should be 352800)``. What writes into a pipe promises 2 GB or more.
    """
    sizes = re.search(r"^ *(?:data|SSND|Data Size) +: (\d+) \(should be ([1-9]\d*)\)", file.extra_info, re.MULTILINE)
    if sizes is None:
        return
    promised, there = int(sizes[1]), int(sizes[2])
    seconds = file.frames / file.samplerate
    expected = seconds * promised / there
    if expected - seconds > 0.1 and promised < 2**31 - 2**16:
        print(f"{path}: found {seconds:.1f} of {expected:.1f} s: was it cut off?", file=sys.stderr)


def soundfile_name(path: str | os.PathLike) -> str | bytes:
    """`path` as soundfile is given it: bytes where a file's name may be any, which soundfile would refuse as text."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def _reason(error: Exception) -> str:
    if getattr(error, "code", None) == 7:  # "File does not exist": what libsndfile says of an mp3 without a frame
        return "not readable as mp3"
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _decoded(path: str | os.PathLike, reason: str, folder: str) -> str:
    """What ffmpeg makes of a recording that libsndfile did not open for a `reason`: all channels, float32."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise InputError(
            f"{path}: expected audio (wav, flac, ogg, mp3, aiff): {reason}; other formats need ffmpeg, and found none "
            "on the PATH"
        )
    # A format without a limit of 4 GB; ffmpeg's float w64 would be read as integers by libsndfile.
    decoded = os.path.join(folder, "decoded.caf")
    source = f"file:{os.fspath(path)}"  # without, what stands before a colon would be a protocol
    command = [ffmpeg, "-v", "error", "-nostdin", "-i", source, "-vn", "-c:a", "pcm_f32le", decoded]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise InputError(f"{path}: expected audio, and ffmpeg found none: {lines[-1]}")
    return decoded


def sound_blocks(file, path: str | os.PathLike, n_samples: int = BLOCK) -> Iterator[np.ndarray]:
    """All that can be read of an open file, which of an mp3 may be more than its header says.

    Args:
        file: of `open_audio`.
        path: of the recording, for the errors.
        n_samples: read at a time; -1 for all at once.

    Yields:
        float32 ``(n, n_channels)``.

    Raises:
        InputError: no samples, or one that is no finite number, with its place.
    """
    n_read = 0
    while len(block := _read(file, n_samples)):
        if not np.isfinite(block).all():
            sample, channel = np.argwhere(~np.isfinite(block))[0]
            raise InputError(
                f"{path}: expected finite samples, found {block[sample, channel]} at "
                f"{(n_read + sample) / file.samplerate:.3f} s (sample {n_read + sample}, channel {channel})"
            )
        n_read += len(block)
        yield block
    if not n_read:
        raise InputError(f"{path}: expected audio, found a file without samples")


def _read(file, n_samples: int) -> np.ndarray:
    with silenced_stderr():  # as in `open_audio`
        return file.read(n_samples, dtype="float32", always_2d=True)


def mean_of_channels(audio: np.ndarray) -> np.ndarray:
    """Mean of ``(n_samples, n_channels)``, channel by channel: ten times as fast as a mean by rows."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    return sum(audio.T[1:], audio[:, 0]) / np.float32(audio.shape[1])


def write_audio(
    path: str | os.PathLike, audio: np.ndarray, sample_rate: int = PUBLISHED.sample_rate, subtype: str | None = None
) -> None:
    """Write `audio`, ``(n_samples,)`` or ``(n_channels, n_samples)``, whole or not at all.

    The extension says the format. Integer subtypes (wav's default is PCM_16) clip at full scale 1; 16-bit samples are
    rounded, which is both exacter and faster than libsndfile's own conversion (it truncates: half a step of offset).

    Raises:
        InputError: the extension or the subtype is not one that libsndfile writes, or the disk is full.
    """
    import soundfile

    if np.issubdtype(np.asarray(audio).dtype, np.integer):
        raise TypeError("audio is floating point with full scale 1")
    if subtype == "PCM_16" or (subtype is None and str(path).lower().endswith((".wav", ".flac", ".aif", ".aiff"))):
        subtype, audio = "PCM_16", to_pcm(audio, 16)
    with replacing(path) as beside:
        try:
            soundfile.write(soundfile_name(beside), audio.T, sample_rate, subtype=subtype)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: expected an extension like .wav, .flac, .ogg or .mp3 ({error})") from None
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path}: could not be written ({error.error_string}) Is the disk full?") from None


def to_pcm(audio: np.ndarray, bits: int) -> np.ndarray:
    """`audio` in the nearest steps of an integer format, clipped: int16, or for 24 bits int32 whose last 8 are zero.

    A step is ``2**(1 - bits)``, as libsndfile reads it: what was read is written unchanged. Works in blocks that stay
    in the processor's cache.
    """
    kind, shift = {16: (np.int16, 0), 24: (np.int32, 8)}[bits]
    pcm, block, top = np.empty(np.shape(audio), kind), 1 << 16, 2 ** (bits - 1)
    for start in range(0, pcm.shape[-1], block):
        part = np.s_[..., start : start + block]
        steps = audio[part] * np.float32(top)
        np.rint(steps, out=steps)
        pcm[part] = np.clip(steps, -top, top - 1, out=steps)
    return np.left_shift(pcm, shift, out=pcm)


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """`audio` at another sample rate (soxr, quality HQ), along the last axis; a new array."""
    if from_rate == to_rate:
        return np.array(audio)
    import soxr

    return np.ascontiguousarray(soxr.resample(audio.T, from_rate, to_rate).T)


def resampled(
    blocks: Iterable[np.ndarray], from_rate: float, to_rate: float, n_channels: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks ``(n,)``, or ``(n, n_channels)``, at another sample rate: what `resample` makes of them joined."""
    if from_rate == to_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, n_channels or 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.zeros((0, n_channels) if n_channels else 0, np.float32), last=True)
