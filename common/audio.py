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
from common.files import existing_folder, find_files, open_regular, replacing
from data import PUBLISHED

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
MAX_RESAMPLED = 2**20  # values that are resampled to at a time
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


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what is written to stderr inside the block, also by C libraries."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
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


def mean_of_channels(audio: np.ndarray) -> np.ndarray:
    """Mean over the channels of ``(n_samples, n_channels)``: ``(n_samples,)``."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    return sum(audio.T[1:], audio[:, 0]) / np.float32(audio.shape[1])  # ten times as fast as audio.mean(axis=1)


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


def to_pcm(audio: np.ndarray, bits: int) -> np.ndarray:
    """`audio` rounded to integer samples and clipped: int16, or for 24 bits int32 whose lowest 8 bits are zero.

    One step is ``2**(1 - bits)``, as when libsndfile reads, so that samples that were read are written unchanged. Works
    in blocks that fit into the processor's cache.
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
    """`audio` at another sample rate (soxr, quality HQ), along the last axis; a new array, of one sample at least."""
    if from_rate == to_rate:
        return np.array(audio)
    import soxr

    resampled = soxr.resample(audio.T, from_rate, to_rate)
    if not len(resampled) and audio.shape[-1]:
        return np.zeros((*audio.shape[:-1], 1), audio.dtype)
    return np.ascontiguousarray(resampled.T)


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: float, to_rate: float, n_channels: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks ``(n,)``, or ``(n, n_channels)``, at another sample rate; joined, they are what `resample` gives.

    A long block is resampled in parts, so that memory is bounded whatever the rates are.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, n_channels or 1, dtype="float32", quality="HQ")
    n_part = max(1, int(MAX_RESAMPLED / (n_channels or 1) * min(1, from_rate / to_rate)))
    n_given = n_made = 0
    for block in blocks:
        for start in range(0, len(block), n_part):
            made = stream.resample_chunk(np.ascontiguousarray(block[start : start + n_part]))
            n_given, n_made = n_given + len(block), n_made + len(made)
            yield made
    made = stream.resample_chunk(np.zeros((0, n_channels) if n_channels else 0, np.float32), last=True)
    yield made if n_made or len(made) or not n_given else np.zeros((1, *made.shape[1:]), np.float32)


class CountedBlocks:
    """Iterates over blocks of samples and counts the samples: for outputs that have to be as long as their input.

    Attributes:
        n_samples: of the blocks so far.
    """

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = blocks
        self.n_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block

    def trim(self, made: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks `made` from these ones, cut to the same total length; empty ones are left out.

        Nothing may be made before the samples that it stands for were read.
        """
        n_given = 0
        for block in made:
            kept = block[: self.n_samples - n_given]
            if len(kept):
                n_given += len(kept)
                yield kept


class TruePeak:
    """The true peak of a stream: the greatest absolute value of the waveform between the samples, too.

    Four values for each sample, as in ITU-R BS.1770-4, annex 2, interpolated by a windowed sinc. To be fast, this looks
    only near samples above `NEAR` of the peak so far. At the start and the end of the stream the peak of the samples
    counts.

    Attributes:
        value: of all blocks so far, full scale 1.
    """

    NEAR = 0.6
    HALF = 12  # samples on each side that an interpolated value depends on

    def __init__(self) -> None:
        self.value = 0.0
        offsets = np.arange(1 - self.HALF, self.HALF + 1)[:, np.newaxis] - np.array([0.25, 0.5, 0.75])
        self._taps = (np.sinc(offsets) * np.cos(np.pi * offsets / (2 * self.HALF + 1)) ** 2).astype(np.float32)
        self._before: np.ndarray | None = None

    def add(self, block: np.ndarray) -> None:
        """Continue with a block ``(n, n_channels)``."""
        if not len(block):
            return
        self.value = max(self.value, float(np.abs(block).max()))
        joined = block if self._before is None else np.concatenate([self._before, block])
        self._before = joined[-2 * self.HALF :].copy()
        for channel in joined.T:
            absolute = np.abs(channel)
            greater = np.maximum(absolute[self.HALF - 1 : -self.HALF], absolute[self.HALF : 1 - self.HALF])
            near = np.flatnonzero(greater > self.NEAR * self.value)
            for some in np.array_split(near, 1 + len(near) // 2**16):
                windows = channel[some[:, np.newaxis] + np.arange(2 * self.HALF)]
                self.value = max(self.value, float(np.abs(windows @ self._taps).max(initial=0)))
