"""Recordings of any format: open, decode and write them, whole or in blocks.

Blocks are float32 ``(n, n_channels)``, so that memory does not grow with the length of a recording. FFmpeg's libraries
(PyAV) decode everything, PCM included, and libsndfile writes. The content of a file decides its format, never its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import itertools
import mmap
import os
import pathlib
import re
import sys
import tempfile
import types
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from common import InputError
from common.files import existing_folder, find_files, open_regular, replacing
from data import PUBLISHED, Representation, amplitude_to_db
from sound.blocks import mean_of_channels, regroup_frames, resample_blocks, stft_blocks, to_pcm

# Files that count as recordings in a folder.
AUDIO_EXTENSIONS = (
    ".wav", ".wave", ".bwf", ".flac", ".fla", ".ogg", ".oga", ".ogv", ".ogx", ".spx", ".opus", ".mp1", ".mp2", ".mp3",
    ".mpa", ".mpga", ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", ".snd", ".m4a", ".m4b", ".m4r", ".m4v",
    ".mp4", ".mov", ".3gp", ".3g2", ".aac", ".adts", ".wma", ".wmv", ".asf", ".avi", ".flv", ".webm", ".weba", ".mka",
    ".mkv", ".mpg", ".mpeg", ".ts", ".amr", ".awb", ".ac3", ".eac3", ".ec3", ".dts", ".thd", ".mlp", ".ape", ".wv",
    ".tta", ".tak", ".mpc", ".shn", ".dsf", ".voc", ".sph", ".ircam", ".sf",
)  # fmt: skip
# What FFmpeg may open: formats of single recordings. Others (playlists, lists of pictures, stream descriptions) would
# lead it to other files and to the network.
FORMATS_READ = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,ircam,loas,matroska,webm,mlp,mov,mp4,"
    "m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,shn,tak,truehd,tta,voc,w64,wav,wv"
)
FFMPEG_OPTIONS = {"format_whitelist": FORMATS_READ, "protocol_whitelist": "none", "max_size": "65536"}
SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
EXACT_FORMATS = {"aiff", "au", "caf", "flac", "mov", "ogg", "w64"}  # which tell the number of samples
# libsndfile's name of the format of each extension, and of each subtype of --subtype.
FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aif": "AIFF", ".aiff": "AIFF", ".w64": "W64",
    ".rf64": "RF64", ".caf": "CAF", ".au": "AU",
}  # fmt: skip
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
# Channels in Vorbis' order, by their number: libsndfile does not rearrange those of the wav standard.
VORBIS_ORDER = {
    3: [0, 2, 1], 5: [0, 2, 1, 3, 4], 6: [0, 2, 1, 4, 5, 3], 7: [0, 2, 1, 5, 6, 4, 3], 8: [0, 2, 1, 6, 7, 4, 5, 3],
}  # fmt: skip
BLOCK = 2**16  # samples read at a time
MAX_BLOCK = 2**23  # values of all channels that are read at a time
MIN_RATE, MAX_RATE = 100, 10**7  # Hz, of a recording
MAX_AUDIO = 2**28  # values of a recording that is read whole: 1 GB, or 101 minutes at 44.1 kHz
MAX_DELAY = 600  # seconds of silence before audio that begins after the picture
UNKNOWN_SIZE = 2**31 - 2**16  # bytes: programs that write to a pipe announce this or more
WAV_LIMIT = 4 * 10**9  # bytes; a longer wav is written as RF64, the 64-bit form of wav, with the same extension
Frame = tuple[int, np.ndarray, int]  # sample rate, samples ``(n, n_channels)`` and bits of each


# --- reading ----------------------------------------------------------------------------------------------------------


def find_audio(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All recordings in `folder` and below, by their extension, sorted.

    Prints how many other files were skipped, except the project's own .json files.

    Raises:
        InputError: the folder is missing or holds no recording; names `flag`.
    """
    paths = find_files(existing_folder(folder, flag), ("",))
    found = [path for path in paths if path.suffix.lower() in AUDIO_EXTENSIONS]
    if not found:
        raise InputError(f"{flag}: no recordings in {folder}")
    skipped = [path.suffix.lower() for path in paths if path.suffix.lower() not in (*AUDIO_EXTENSIONS, ".json")]
    if skipped:
        print(f"{folder}: {len(skipped)} other files skipped ({' '.join(sorted(set(skipped)))})", file=sys.stderr)
    return found


def read_audio(
    path: str | os.PathLike, sample_rate: int | None = PUBLISHED.sample_rate, mono: bool = True
) -> np.ndarray:
    """The recording at `path` as float32, ``(n_samples,)``, or ``(n_channels, n_samples)`` without `mono`.

    Raises:
        InputError: as `read_blocks`, or the recording has more than `MAX_AUDIO` values.
    """
    blocks, n_values = [], 0
    for block in read_blocks(path, sample_rate, mono):
        n_values += block.size
        if n_values > MAX_AUDIO:
            raise InputError(f"{path}: longer than {MAX_AUDIO} samples, the most that is read at once")
        blocks.append(block)
    return np.concatenate(blocks).T


def read_blocks(
    path: str | os.PathLike,
    sample_rate: int | None = PUBLISHED.sample_rate,
    mono: bool = True,
    warn: bool = True,
) -> Generator[np.ndarray, None, None]:
    """The recording at `path` in blocks, float32 ``(n,)`` or ``(n, n_channels)`` each.

    Args:
        path: any file that FFmpeg decodes.
        sample_rate: in Hz, to resample to (soxr, HQ); None keeps that of the file.
        mono: give the mean of the channels.
        warn: as in `open_audio`.

    Raises:
        InputError: as `open_audio`.
    """
    with open_audio(path, warn) as audio:
        blocks = map(mean_of_channels, audio.blocks) if mono else audio.blocks
        n_channels = None if mono else audio.n_channels
        yield from resample_blocks(blocks, audio.sample_rate, sample_rate or audio.sample_rate, n_channels)


def read_levels(
    path: str | os.PathLike, n_frames: int, representation: Representation = PUBLISHED, warn: bool = True
) -> Iterator[np.ndarray]:
    """Log levels [0, 1] of the mean of a recording's channels, float32 ``(n_bins, n_frames)`` each; the last one may
    have fewer frames. Errors as of `read_blocks`."""
    spectra = stft_blocks(read_blocks(path, representation.sample_rate, warn=warn), representation)
    for frames, _ in regroup_frames(spectra, n_frames, 0):
        magnitude = np.abs(frames[: representation.n_bins]) * representation.magnitude_scale
        yield amplitude_to_db(magnitude, representation.amin)


@dataclasses.dataclass
class Audio:
    """An open recording.

    Attributes:
        sample_rate: in Hz, of the first samples; later ones at another rate are resampled.
        n_channels: of the first samples; later ones with another number are mixed to their mean.
        n_bits: 24 if the samples are stored with more than 16 bits, else 16.
        blocks: of finite samples, ``(n, n_channels)`` each, to be read once.
    """

    sample_rate: int
    n_channels: int
    n_bits: int
    blocks: Iterator[np.ndarray]


@contextlib.contextmanager
def open_audio(path: str | os.PathLike, warn: bool = True) -> Iterator[Audio]:
    """The open recording at `path`.

    Args:
        path: any file that FFmpeg decodes; of several sounds in it, FFmpeg's choice is taken.
        warn: print a line on stderr if parts are damaged or missing.

    Raises:
        InputError: no such file, not audio, or a sample rate out of range; while the blocks are read, a sample that is
            NaN or infinite, or at their end a file that was changed meanwhile.
    """
    with open_regular(path, "a recording") as file, contextlib.closing(_decode(file, path, warn)) as decoded:
        first = next(decoded, None)
        if first is None:
            raise InputError(f"{path}: expected audio, found nothing that FFmpeg can decode")
        rate, samples, n_bits = first
        if not MIN_RATE <= rate <= MAX_RATE:
            raise InputError(f"{path}: its sample rate is {rate} Hz, not {MIN_RATE} to {MAX_RATE} Hz")
        n_channels = samples.shape[1]
        blocks = _unify(itertools.chain([first], decoded), rate, n_channels, path)
        pieces = regroup_frames((block.T for block in blocks), block_length(n_channels), 0)
        yield Audio(rate, n_channels, n_bits, (piece.T for piece, _ in pieces))


def block_length(n_channels: int) -> int:
    """Samples of each channel that are held at a time."""
    return max(1, min(BLOCK, MAX_BLOCK // n_channels))


def _decode(file: io.BufferedReader, path: str | os.PathLike, warn: bool) -> Generator[Frame, None, None]:
    """Sample rate, samples ``(n, n_channels)`` and bits of each frame. Damaged packets are skipped and counted."""
    import av

    n_damaged, found, announced, before = 0, 0.0, 0.0, os.fstat(file.fileno())
    for link in _ogg_links(file):
        try:
            container = av.open(_nameless(link), "r", options=FFMPEG_OPTIONS, metadata_errors="replace")
        except av.FFmpegError:
            continue
        with container:
            stream = container.streams.best("audio")
            if stream is None:
                continue
            # The file may begin with a picture, and its sound later.
            start = float((stream.start_time or 0) * (stream.time_base or 0))
            delay = start - (container.start_time or 0) / av.time_base
            for frame in _decode_packets(container, stream):
                if frame is None or (found and not MIN_RATE <= frame.sample_rate <= MAX_RATE):
                    n_damaged += 1
                    continue
                samples = _to_float(frame)
                is_exact = frame.format.name.startswith("s") or stream.codec_context.name.startswith("pcm_")
                n_bits = 24 if frame.format.bytes > 2 and is_exact else 16  # floats of lossy codecs are worth 16
                if 0 < delay <= MAX_DELAY:
                    samples = np.pad(samples, ((round(delay * frame.sample_rate), 0), (0, 0)))
                delay = 0
                found += len(samples) / frame.sample_rate
                yield frame.sample_rate, samples, n_bits
            announced += _announced_seconds(container, stream, file, found)
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise InputError(f"{path}: changed while it was read")
    if warn and n_damaged:
        print(f"{path}: damaged packets that were skipped: {n_damaged}", file=sys.stderr)
    if warn and announced - found > 0.1:
        print(f"{path}: found {found:.1f} of {announced:.1f} s: is it damaged or cut off?", file=sys.stderr)


def _nameless(file: io.BufferedIOBase) -> types.SimpleNamespace:
    """`file` for FFmpeg, which without a name can neither guess by the extension nor open anything beside it."""

    def seek(offset: int, whence: int = 0) -> int:
        with contextlib.suppress(OSError, ValueError, OverflowError):  # a damaged file may ask for a negative place
            return file.seek(offset, whence)
        return -1

    return types.SimpleNamespace(read=file.read, seek=seek, tell=file.tell)


def _decode_packets(container, stream) -> Iterator:
    """The frames of all packets; None for each packet that is damaged, and where the container is."""
    import av

    try:
        for packet in container.demux(stream):
            try:
                yield from [frame for frame in packet.decode() if frame.samples and frame.sample_rate > 0]
            except av.FFmpegError:
                yield None
    except av.FFmpegError:
        yield None


def _ogg_links(file: io.BufferedReader) -> Iterator[io.BufferedIOBase]:
    """The file, or the links of a chained Ogg file, of which FFmpeg reads only those like the first one."""
    starts, end = [], -1
    if file.peek(4)[:4] == b"OggS":
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for found in re.finditer(rb"OggS\0\x02.{20}(.)", content, re.DOTALL):  # the first page of a stream
                if found.start() != end:  # the first pages of several streams of one link follow each other
                    starts.append(found.start())
                sizes = content[found.end() : found.end() + found[1][0]]
                end = found.end() + len(sizes) + sum(sizes)
    if len(starts) < 2:
        yield file
        return
    for start, stop in itertools.zip_longest(starts, starts[1:]):
        file.seek(start)
        yield io.BytesIO(file.read(-1 if stop is None else stop - start))


def _to_float(frame) -> np.ndarray:
    """The samples of a frame, ``(n, n_channels)``, full scale 1."""
    kind, n_channels = np.dtype(SAMPLE_TYPES[frame.format.name.rstrip("p")]), frame.layout.nb_channels
    if frame.format.is_planar:  # not frame.to_ndarray(), which crashes on more than seven channels (PyAV 18)
        planes = [np.frombuffer(plane, kind, frame.samples) for plane in frame.planes[:n_channels]]
        samples = np.stack(planes, axis=1)
    else:
        samples = np.frombuffer(frame.planes[0], kind, frame.samples * n_channels).reshape(-1, n_channels)
    if kind.kind == "f":
        return samples.astype(np.float32)
    full_scale = np.float32(2 ** (8 * kind.itemsize - 1))
    return samples.astype(np.float32) / full_scale - (1 if kind.kind == "u" else 0)


def _unify(frames: Iterable[Frame], sample_rate: int, n_channels: int, path: str | os.PathLike) -> Iterator[np.ndarray]:
    """The samples of all frames at one rate and with one number of channels, both of which may change on the way."""
    for (rate, n), group in itertools.groupby(frames, key=lambda frame: (frame[0], frame[1].shape[1])):
        blocks = (samples for _, samples, _ in group)
        if n != n_channels:
            blocks = (np.repeat(mean_of_channels(block)[:, np.newaxis], n_channels, axis=1) for block in blocks)
        for block in resample_blocks(blocks, rate, sample_rate, n_channels):
            if not np.isfinite(block).all():
                raise InputError(f"{path}: some of its samples are NaN or infinite")
            yield block


def _announced_seconds(container, stream, file: io.BufferedReader, found: float) -> float:
    """How long a recording of `found` seconds is by its header, if that tells and was written at its end; else 0."""
    form = container.format.name.partition(",")[0]
    if form == "wav":  # of which FFmpeg takes the size of the file for that of the header
        file.seek(4)
        announced, size = int.from_bytes(file.read(4), "little") + 8, os.fstat(file.fileno()).st_size
        return found * announced / size if size < announced < UNKNOWN_SIZE else 0.0
    return float(stream.duration * stream.time_base) if form in EXACT_FORMATS and stream.duration else 0.0


# --- writing ----------------------------------------------------------------------------------------------------------


def choose_format(
    path: str | os.PathLike, sample_rate: int, n_channels: int, subtype: str | None = None, n_bits: int = 16
) -> tuple[str, str | None]:
    """libsndfile's names of the format that the extension of `path` stands for, and of the subtype.

    Without a `subtype` of `SUBTYPES`, samples of 24 bits keep these where the format has them; otherwise the subtype is
    the format's usual one, None.

    Raises:
        InputError: an unknown extension, or the format does not have this subtype, sample rate or number of channels.
    """
    import soundfile

    extension = pathlib.Path(path).suffix.lower()
    if extension not in FORMATS:
        raise InputError(f"{path}: expected an extension of {' '.join(FORMATS)}, found {extension or 'none'}")
    form = FORMATS[extension]
    has = [name for name, code in SUBTYPES.items() if soundfile.check_format(form, code)]
    if subtype and subtype not in has:
        raise InputError(f"--subtype: expected {' or '.join(has) or 'none'} for {extension}, found {subtype}")
    code = SUBTYPES.get(subtype or ("24" if n_bits == 24 and "24" in has else ""))
    try:
        soundfile.SoundFile(io.BytesIO(), "w", sample_rate, n_channels, code, format=form).close()
    except soundfile.LibsndfileError:
        raise InputError(f"{path}: {extension} cannot hold {n_channels} channels at {sample_rate} Hz") from None
    return form, code


@dataclasses.dataclass(frozen=True)
class Spooled:
    """Audio that waits in a temporary file of float32 samples; its length and level are known at its end."""

    file: io.IOBase
    shape: tuple[int, int]  # (n_samples, n_channels)
    peak: float  # greatest absolute sample
    power: float  # mean square over all samples and channels

    def blocks(self, gain: float = 1) -> Iterator[np.ndarray]:
        """The samples times `gain` as blocks ``(n, n_channels)``; several readers may take turns."""
        n_samples, n_channels = self.shape
        length = block_length(n_channels)
        for start in range(0, n_samples, length):
            self.file.seek(4 * start * n_channels)
            samples = np.frombuffer(self.file.read(4 * length * n_channels), np.float32)
            yield samples.reshape(-1, n_channels) * np.float32(gain)


@contextlib.contextmanager
def spool(blocks: Iterable[np.ndarray], n_channels: int, path: pathlib.Path) -> Iterator[Spooled]:
    """All `blocks` in a temporary file in the folder of `path`, until the block ends or the process is killed.

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered, so that a full disk is noticed here and not when the file is closed.
    with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
        n_samples, peak, square = 0, 0.0, 0.0
        for block in blocks:
            remaining = np.ascontiguousarray(block, np.float32).data.cast("B")
            while remaining:  # a write may write only a part
                remaining = remaining[file.write(remaining) :]
            n_samples += len(block)
            peak = max(peak, float(np.abs(block).max()))
            square += float(np.sum(np.square(block, dtype=np.float64)))
        yield Spooled(file, (n_samples, n_channels), peak, square / max(1, n_samples * n_channels))


def write_blocks(
    path: str | os.PathLike,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int],
    sample_rate: int,
    form: tuple[str, str | None],
) -> None:
    """Write `blocks` to `path`, whole or not at all.

    Args:
        blocks: ``(n, n_channels)`` each.
        shape: ``(n_samples, n_channels)`` of the joined blocks.
        sample_rate: in Hz.
        form: from `choose_format`.

    Raises:
        OSError: the disk is full.
    """
    import soundfile

    (n_samples, n_channels), (kind, code) = shape, form
    order = VORBIS_ORDER.get(n_channels, slice(None)) if kind == "OGG" else slice(None)
    if kind == "WAV" and 4 * n_samples * n_channels > WAV_LIMIT:
        kind = "RF64"
    n_written = 0
    with replacing(path) as beside:
        name = os.fspath(beside) if os.name == "nt" else os.fsencode(beside)  # soundfile takes only Unicode as text
        beside.touch()  # tells why there can be no such file, which libsndfile would not
        with contextlib.suppress(soundfile.LibsndfileError, AssertionError):  # soundfile asserts that it wrote all
            with soundfile.SoundFile(name, "w", sample_rate, n_channels, code, format=kind) as file:
                bits = {"PCM_16": 16, "PCM_24": 24}.get(file.subtype)
                for block in blocks:
                    file.write(to_pcm(block[:, order], bits) if bits else block[:, order])
            n_written = soundfile.info(name).frames
        # An mp3 has whole frames and may hold more. With fewer, writing failed, and libsndfile does not say why.
        if n_written < n_samples:
            raise OSError(errno.ENOSPC, "could not write all of it; is the disk full?", str(path))


def write_audio(path: str | os.PathLike, audio: np.ndarray, sample_rate: int = PUBLISHED.sample_rate) -> None:
    """Write `audio`, floating point ``(n_samples,)`` or ``(n_channels, n_samples)``, whole or not at all.

    Raises:
        InputError: as `choose_format`.
        OSError: the disk is full.
    """
    samples = np.ascontiguousarray(np.atleast_2d(audio).T, np.float32)
    blocks = np.split(samples, range(BLOCK, len(samples), BLOCK))
    write_blocks(path, blocks, samples.shape, sample_rate, choose_format(path, sample_rate, samples.shape[1]))
