"""Recordings of any format, read and written whole or in blocks.

Blocks are float32 ``(n, n_channels)``, so that memory does not grow with the length of a recording.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import InputError
from common.files import existing_folder, find_files, open_regular, replacing, silence_stderr
from data import PUBLISHED
from sound.blocks import TruePeak, mean_of_channels, resample_blocks, to_pcm

# Files that count as recordings in a folder: first what libsndfile reads, then what ffmpeg decodes.
AUDIO_EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", ".snd",
    ".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".amr", ".ac3",
)  # fmt: skip
# What ffmpeg may read: files and formats of single recordings. Others (playlists, lists of pictures, stream
# descriptions) would lead it to other files and to the network.
_ONLY_THIS_FILE = (
    "-protocol_whitelist", "file",
    "-format_whitelist", "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,"
    "loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,shn,tak,truehd,tta,voc,w64,"
    "wav,wv",
)  # fmt: skip
MAX_DECODER_BYTES = 2**29  # of one piece of memory
BLOCK = 2**16  # samples read at a time
MIN_RATE, MAX_RATE = 100, 10**7  # Hz, of a recording
MAX_BLOCK = 2**23  # values of all channels that are read at a time
MAX_AUDIO = 2**28  # values of a recording that is read whole: 1 GB, or 101 minutes at 44.1 kHz


def find_audio(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All recordings in `folder` and below, by their extension, sorted.

    Raises:
        InputError: the folder is missing or holds no recording; names `flag`.
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
        path: any file that libsndfile opens or ffmpeg decodes.
        sample_rate: in Hz, to resample to (soxr, HQ); None keeps that of the file.
        mono: give the mean of the channels, ``(n_samples,)``; otherwise ``(n_channels, n_samples)``.

    Raises:
        InputError: no such file, not audio, no samples, samples that are NaN or infinite, or more than `MAX_AUDIO`.
    """
    with open_audio(path) as file:
        warn_if_truncated(file, path)
        blocks = iterate_blocks(file, path, MAX_BLOCK)
        blocks = map(mean_of_channels, blocks) if mono else blocks
        n_channels = None if mono else file.channels
        blocks = resample_blocks(blocks, file.samplerate, sample_rate or file.samplerate, n_channels)
        audio = list(_bounded(blocks, path))
    return (audio[0] if len(audio) == 1 else np.concatenate(audio)).T


def _bounded(blocks: Iterable[np.ndarray], path: str | os.PathLike) -> Iterator[np.ndarray]:
    """`blocks` unchanged, up to `MAX_AUDIO` values in total."""
    n_values = 0
    for block in blocks:
        n_values += block.size
        if n_values > MAX_AUDIO:
            raise InputError(
                f"{path}: expected a recording of up to {MAX_AUDIO} samples at this sample rate, found more"
            )
        yield block


def read_blocks(
    path: str | os.PathLike, sample_rate: int = PUBLISHED.sample_rate, block_seconds: float = 30
) -> Iterator[np.ndarray]:
    """The recording at `path` in blocks, mono float32 ``(n,)`` each: `read_audio` in bounded memory.

    Args:
        path: as in `read_audio`.
        sample_rate: in Hz, to resample to (soxr, HQ).
        block_seconds: length of the blocks that are read.

    Raises:
        InputError: as `read_audio`, possibly only after the first blocks.
    """
    with open_audio(path) as file:
        warn_if_truncated(file, path)
        blocks = iterate_blocks(file, path, max(1, round(block_seconds * file.samplerate)))
        yield from resample_blocks(map(mean_of_channels, blocks), file.samplerate, sample_rate)


@contextlib.contextmanager
def open_audio(path: str | os.PathLike) -> Iterator:
    """An open ``soundfile.SoundFile`` of the recording at `path`.

    Where libsndfile does not read the format, ffmpeg decodes the recording to a temporary file, which is opened instead
    and removed when the block ends. The ``name`` of the ``SoundFile`` is the file that was opened.

    Raises:
        InputError: no such file, not audio, a sample rate out of range, or found to be damaged while it is read.
    """
    import soundfile

    with open_regular(
        path, "a recording"
    ):  # says what is wrong, which libsndfile would not, and does not wait for pipes
        pass
    with contextlib.ExitStack() as stack:
        try:
            with silence_stderr():  # libmpg123 writes warnings there
                file = soundfile.SoundFile(soundfile_name(path))
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw, which has no header
            decoded = _decode(path, _reason(error), stack.enter_context(tempfile.TemporaryDirectory()))
            file = soundfile.SoundFile(soundfile_name(decoded))
        stack.enter_context(file)
        if not MIN_RATE <= file.samplerate <= MAX_RATE:
            raise InputError(
                f"{path}: expected a sample rate of {MIN_RATE} to {MAX_RATE} Hz, found {file.samplerate} Hz"
            )
        try:
            yield file
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path}: expected audio, found it damaged: {_reason(error)}") from None


def warn_if_truncated(file, path: str | os.PathLike) -> None:
    """Warn on stderr if the header of a wav, aiff or au announces more samples than the file holds.

    libsndfile then has a line such as ``data : 705600 (should be 352800)`` in its log. Programs that write to a pipe do
    not know the length and announce 2 GB or more: that is no reason to warn.
    """
    sizes = re.search(r"^ *(?:data|SSND|Data Size) +: (\d+) \(should be ([1-9]\d*)\)", file.extra_info, re.MULTILINE)
    if sizes is None:
        return
    announced, present = int(sizes[1]), int(sizes[2])
    seconds = file.frames / file.samplerate
    expected = seconds * announced / present
    if expected - seconds > 0.1 and announced < 2**31 - 2**16:
        print(f"{path}: found {seconds:.1f} of {expected:.1f} s: was it cut off?", file=sys.stderr)


def soundfile_name(path: str | os.PathLike) -> str | bytes:
    """`path` in the form that soundfile accepts: as bytes, because it refuses text that is not Unicode."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def _reason(error: Exception) -> str:
    """What libsndfile found wrong with a file."""
    if getattr(error, "code", None) == 7:  # "File does not exist", which it also says of an mp3 without a frame
        return "not readable as mp3"
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def find_ffmpeg() -> str | None:
    """The path of ffmpeg: on the PATH, or that of the package imageio-ffmpeg; None if there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # RuntimeError: the package has no ffmpeg for this system
        return None


def _decode(path: str | os.PathLike, reason: str, folder: str) -> str:
    """Decode a recording with ffmpeg to a file in `folder`, all channels, float32; the path of that file.

    Args:
        reason: why libsndfile did not open it, for the error where there is no ffmpeg.
    """
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise InputError(
            f"{path}: expected audio (wav, flac, ogg, mp3, aiff): {reason}; other formats need ffmpeg, and found none: "
            "pip install imageio-ffmpeg"
        )
    # caf has no limit of 4 GB. libsndfile would read the float samples of ffmpeg's w64 as integers.
    decoded = os.path.join(folder, "decoded.caf")
    # Without the file: in front, text before a colon would be taken as a protocol. Where there is /dev/stdin, ffmpeg
    # does not even learn the file's name and folder. A pipe would not do: m4a may have its index at the end.
    source = "file:/dev/stdin" if os.path.exists("/dev/stdin") else f"file:{os.fspath(path)}"
    command = [ffmpeg, "-v", "error", "-nostdin", "-max_alloc", str(MAX_DECODER_BYTES), *_ONLY_THIS_FILE]
    command += ["-i", source, "-vn", "-c:a", "pcm_f32le", decoded]
    with open_regular(path, "a recording") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise InputError(f"{path}: expected audio, and ffmpeg found none: {lines[-1].replace(source, 'the file')}")
    return decoded


def iterate_blocks(file, path: str | os.PathLike, n_samples: int = BLOCK) -> Iterator[np.ndarray]:
    """All samples of an open file, which may be more than the header of an mp3 says.

    Args:
        file: the open ``SoundFile`` of `open_audio`.
        path: of the recording, for the errors.
        n_samples: read at a time; fewer of a recording with very many channels.

    Yields:
        float32 ``(n, n_channels)``.

    Raises:
        InputError: no samples, or a sample that is NaN or infinite, with its position.
    """
    n_read, n_samples = 0, max(1, min(n_samples, MAX_BLOCK // file.channels))
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
    with silence_stderr():  # libmpg123 writes warnings there
        return file.read(n_samples, dtype="float32", always_2d=True)


def write_audio(
    path: str | os.PathLike, audio: np.ndarray, sample_rate: int = PUBLISHED.sample_rate, subtype: str | None = None
) -> None:
    """Write `audio`, ``(n_samples,)`` or ``(n_channels, n_samples)``, whole or not at all.

    The extension determines the format. Integer subtypes (wav's default is PCM_16) clip at full scale 1. Samples of 16
    bits are rounded here, because libsndfile truncates them, which is slower and adds an offset of half a step.

    Raises:
        InputError: libsndfile does not write this extension or subtype, or the disk is full.
    """
    import soundfile

    if np.issubdtype(np.asarray(audio).dtype, np.integer):
        raise TypeError("audio is floating point with full scale 1")
    if subtype == "PCM_16" or (subtype is None and str(path).lower().endswith((".wav", ".flac", ".aif", ".aiff"))):
        subtype, audio = "PCM_16", to_pcm(audio, 16)
    with replacing(path) as beside:
        beside.touch()  # tells why there can be no such file, which libsndfile would not
        try:
            soundfile.write(soundfile_name(beside), audio.T, sample_rate, subtype=subtype)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: expected an extension like .wav, .flac, .ogg or .mp3 ({error})") from None
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path}: could not be written ({error.error_string}) Is the disk full?") from None


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
        checksum: CRC-32 of all samples, by which `read_recording` knows that they are still the same.
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
        InputError: as `open_audio` and `iterate_blocks`.
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


def read_recording(recording: Recording) -> Iterator[np.ndarray]:
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
        true_peak: greatest absolute value between samples, too, as `blocks.TruePeak` finds it.
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


def write_rendering(
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
