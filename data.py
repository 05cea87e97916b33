"""Audio files, the short-time Fourier transform, the log scale and slices: NumPy arrays in, new arrays out.

The ground floor of the project; it imports nothing of ours and no TensorFlow. Shapes and ranges used everywhere:

* audio: float32, ``(n_samples,)`` or ``(n_channels, n_samples)``, full scale 1
* magnitude: float32, ``(n_bins, n_frames)``, >= 0; a full-scale sine peaks near 1
* log level: in files [0, 1], in the network [-1, 1]
* slices: ``(n_slices, n_bins, n_frames, 1)``
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

# What is taken for a recording in a folder: what libsndfile reads, and behind it what ffmpeg decodes.
AUDIO_EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", ".snd",
    ".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".amr", ".ac3",
)  # fmt: skip
BLOCK = 2**16  # samples read at a time


class InputError(ValueError):
    """Something the user can put right: the text says what was expected, what was found and where."""


@dataclasses.dataclass(frozen=True)
class Representation:
    """How audio becomes what a pix2pix network sees; the defaults are the published settings.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length in samples; the window is the symmetric Hann window ``np.hanning(n_fft)``.
        hop_length: samples from one frame to the next.
        n_bins: how many of the lowest ``n_fft // 2 + 1`` bins are used; the rest is zero on synthesis.
        n_frames: frames of one slice.
        amin: the magnitude at which the log scale turns from linear to logarithmic.

    Raises:
        ValueError: nothing can be transformed with such settings.
    """

    sample_rate: int = 44100
    n_fft: int = 1024
    hop_length: int = 512
    n_bins: int = 256
    n_frames: int = 256
    amin: float = 2.0**-16

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.n_bins > self.n_fft // 2 + 1:
            raise ValueError(f"expected n_bins of at most {self.n_fft // 2 + 1}, found {self.n_bins}")
        if self.amin <= 0:
            raise ValueError(f"expected amin above 0, found {self.amin}")

    @property
    def window(self) -> np.ndarray:
        """The analysis and synthesis window, float32 ``(n_fft,)``."""
        return np.hanning(self.n_fft).astype(np.float32)

    @property
    def bin_hz(self) -> float:
        """Distance of two neighbouring bins in Hz."""
        return self.sample_rate / self.n_fft

    @property
    def slice_seconds(self) -> float:
        """Length of one slice in seconds (2.97 s for the published settings)."""
        return self.n_frames * self.hop_length / self.sample_rate

    def to_dict(self) -> dict:
        """The settings as they are kept in ``features.json`` and in the weights file."""
        return {"kind": "log_magnitude", "window": "hanning", "scale": "log1p", **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, settings: dict, where: str = "settings") -> Representation:
        """The representation that `to_dict` described; `where` names the file in the error.

        Raises:
            InputError: the settings belong to another kind of representation or are damaged.
        """
        return from_settings(cls, {"kind": "log_magnitude", "window": "hanning", "scale": "log1p"}, settings, where)


def check_sizes(representation) -> None:
    """Refuse settings of any kind of representation that nothing could be transformed with.

    Raises:
        ValueError: a whole number that is not above 0, or windows that the hop does not divide.
    """
    for name, value in dataclasses.asdict(representation).items():
        if isinstance(value, int) and value <= 0:
            raise ValueError(f"expected {name} above 0, found {value}")
    n_fft, hop = representation.n_fft, representation.hop_length
    if n_fft % hop:
        raise ValueError(f"expected n_fft to be a multiple of hop_length, found {n_fft} and {hop}")


def from_settings(cls: type, fixed: dict, settings: dict, where: str):
    """A `cls`, a dataclass of numbers, from the fields in `settings`, whose other entries have to be those of `fixed`.

    Raises:
        InputError: naming `where`, if another kind of representation or a damaged one is described.
    """
    for key, value in fixed.items():
        if settings.get(key, value) != value:
            raise InputError(f"{where}: expected {key} {value!r}, found {settings[key]!r}")
    try:
        values = {f.name: type(f.default)(settings[f.name]) for f in dataclasses.fields(cls)}
        changed = [f"{name} {settings[name]!r}" for name, value in values.items() if value != settings[name]]
        if changed:  # half a hertz, NaN, a number in quotes
            raise ValueError(f"found {', '.join(changed)}")
        return cls(**values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise InputError(f"{where}: damaged description of the representation ({reason})") from None


PUBLISHED = Representation()


# --- files ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well and vanishes otherwise.

    The folder is made if missing. The temporary name is hidden, keeps the extension and is nobody else's, so that
    threads, processes and machines may write the same file at the same time.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{secrets.token_hex(3)}.part{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        error.filename = str(path) if error.filename in (None, str(beside), beside) else error.filename
        raise
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def write_json(path: str | os.PathLike, content: dict) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict:
    """The object in a JSON file.

    Raises:
        InputError: the file holds no JSON object.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: expected a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write `array` as .npy, whole or not at all."""
    buffer = io.BytesIO()  # NumPy's own writing to a file does not say that the disk is full
    np.save(buffer, array)
    with replacing(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def existing_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """`path` if it is a folder.

    Raises:
        InputError: naming `flag`, if there is no such folder.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise InputError(f"{flag}: expected a folder, found {'a file' if folder.exists() else 'nothing'} at {folder}")
    return folder


def writable_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """`path` if it is a folder to write in or can be made one: asked before long work, not after it.

    Raises:
        InputError: naming `flag`, if a file is in the way or writing is not allowed there.
    """
    folder = pathlib.Path(path)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"{flag}: expected a folder to write in, found a file at {existing}")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{flag}: expected a folder to write in, found {existing}, which cannot be written to")
    return folder


def find_files(folder: str | os.PathLike, extensions: tuple[str, ...]) -> list[pathlib.Path]:
    """All files in `folder` and below with one of the `extensions` (lower case), sorted; hidden ones are left out.

    Links to folders are followed, except back into a folder that the link lies in.
    """
    found = []
    above = {str(folder): {os.path.realpath(folder)}}  # the folders that each one lies in, itself included
    for root, folders, names in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(os.path.join(root, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, path in real.items() if path not in above[root]]
        above |= {os.path.join(root, name): {*above[root], real[name]} for name in folders}
        visible = [name for name in names if name.lower().endswith(extensions) and not name.startswith(".")]
        found += [pathlib.Path(root, name) for name in visible]
    return sorted(found)


def find_audio(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All recordings in `folder`, by their extension, as `find_files`.

    Raises:
        InputError: naming `flag`, if the folder is missing or holds none.
    """
    found = find_files(existing_folder(folder, flag), AUDIO_EXTENSIONS)
    if not found:
        raise InputError(f"{flag}: expected recordings ({' '.join(AUDIO_EXTENSIONS)}), found none in {folder}")
    return found


def piece_names(
    paths: Iterable[pathlib.Path], folder: str | os.PathLike
) -> tuple[dict[str, pathlib.Path], list[tuple[str, str]]]:
    """A flat name for each file: its path below `folder` without extension, the parts joined with an underscore.

    What is no text in a file's name becomes an underscore too.

    Returns:
        names: from piece name to file, in the order of `paths`.
        left_out: (file, reason) of those that would share a name with an earlier one (upper and lower case count as
            the same, because they do on some disks).
    """
    names: dict[str, pathlib.Path] = {}
    left_out, taken = [], {}
    for path in paths:
        name = re.sub("[\ud800-\udfff]", "_", "_".join(path.relative_to(folder).with_suffix("").parts))
        other = taken.setdefault(name.casefold(), path)
        if other == path:
            names[name] = path
        else:
            reason = f"{path}: expected a piece name of its own, found {name!r} taken by {other}"
            left_out.append((str(path), reason))
    return names, left_out


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


# --- transform --------------------------------------------------------------------------------------------------------


def stft(audio: np.ndarray, representation: Representation = PUBLISHED, center: bool = True) -> np.ndarray:
    """Short-time Fourier transform: complex64 ``(n_fft // 2 + 1, n_frames)`` of audio ``(n_samples,)``.

    The values are those of ``librosa.stft(audio, n_fft=..., hop_length=..., window=np.hanning(n_fft))``: with
    `center`, frame t is centred on sample ``t * hop_length`` and zeros stand beyond the ends, so that there are
    ``1 + n_samples // hop_length`` frames. Without, frame t starts at that sample and only whole frames are made.

    float64 audio is transformed in double precision, at twice the time: then the phase is right also in bins 100 dB
    below the loudest one.
    """
    from scipy import fft

    n_fft, hop = representation.n_fft, representation.hop_length
    audio = np.asarray(audio)
    audio = audio if audio.dtype == np.float64 else audio.astype(np.float32, copy=False)
    if center:
        audio = np.pad(audio, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(audio, n_fft)[::hop]
    window = np.hanning(n_fft) if audio.dtype == np.float64 else representation.window
    return fft.rfft(frames * window, axis=1).T.astype(np.complex64, copy=False)


def istft(spectrum: np.ndarray, length: int, representation: Representation = PUBLISHED) -> np.ndarray:
    """Inverse of the centred `stft`: float32 ``(length,)``, weighted overlap-add (Griffin & Lim, 1984, eq. 6)."""
    half = representation.n_fft // 2
    audio, weight = overlap_add(spectrum, representation)
    audio, weight = audio[half : half + length], weight[half : half + length]
    audio = np.pad(audio / np.maximum(weight, np.finfo(np.float32).tiny), (0, max(0, length - len(audio))))
    return audio


def overlap_add(spectrum: np.ndarray, representation: Representation = PUBLISHED) -> tuple[np.ndarray, np.ndarray]:
    """Windowed inverse frames added up, and the sum of squared windows to divide by: two float32 ``(n_samples,)``.

    ``n_samples = n_fft + hop_length * (n_frames - 1)``; frame t starts at sample ``t * hop_length``.
    """
    from scipy import fft

    n_fft, hop, window = representation.n_fft, representation.hop_length, representation.window
    frames = fft.irfft(np.asarray(spectrum, np.complex64).T, n_fft, axis=1) * window  # (n_frames, n_fft)
    n_frames, n_parts = len(frames), n_fft // hop
    audio = np.zeros((n_frames + n_parts - 1, hop), np.float32)
    weight = np.zeros((n_frames + n_parts - 1, hop), np.float32)
    for part in range(n_parts):
        columns = slice(part * hop, (part + 1) * hop)
        audio[part : part + n_frames] += frames[:, columns]
        weight[part : part + n_frames] += window[columns] ** 2
    return audio.reshape(-1), weight.reshape(-1)


def forward_transform(audio: np.ndarray, representation: Representation = PUBLISHED) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude of the lowest bins and the phase of all bins of audio ``(n_samples,)``.

    Returns:
        magnitude: float32 ``(n_bins, n_frames)``, ``2 * abs(S) / sum(window)``: a full-scale sine peaks near 1.
        phase: complex64 ``(n_fft // 2 + 1, n_frames)`` of absolute value 1 (1 where the magnitude is 0).
    """
    spectrum = stft(audio, representation)
    magnitude = np.abs(spectrum[: representation.n_bins]) * (2 / representation.window.sum())
    return magnitude, unit(spectrum)


def unit(spectrum: np.ndarray) -> np.ndarray:
    """The phase of a spectrum as complex numbers of absolute value 1; 1 where the spectrum is 0."""
    absolute = np.abs(spectrum)
    phase = np.ones_like(spectrum)
    return np.divide(spectrum, absolute, out=phase, where=absolute > 0)


def inverse_transform(
    magnitude: np.ndarray, phase: np.ndarray, length: int | None = None, representation: Representation = PUBLISHED
) -> np.ndarray:
    """Audio ``(length,)`` of a magnitude ``(n_bins, n_frames)`` and a phase as `forward_transform` gives them.

    Bins above the magnitude's are zero. `length` is in samples, by default ``hop_length * (n_frames - 1)``.
    """
    n_bins, n_frames = magnitude.shape
    spectrum = np.zeros((representation.n_fft // 2 + 1, n_frames), np.complex64)
    spectrum[:n_bins] = magnitude * phase[:n_bins, :n_frames] * (representation.window.sum() / 2)
    return istft(spectrum, representation.hop_length * (n_frames - 1) if length is None else length, representation)


def amplitude_to_db(magnitude: np.ndarray, amin: float = PUBLISHED.amin) -> np.ndarray:
    """Log level in [0, 1] of a magnitude in [0, 1]: ``log1p(m / amin) / log1p(1 / amin)``, the published scale."""
    return np.log1p(magnitude / amin) / np.log1p(1 / amin).astype(np.result_type(magnitude, np.float32))


def db_to_amplitude(level: np.ndarray, amin: float = PUBLISHED.amin) -> np.ndarray:
    """Magnitude of a log level: the inverse of `amplitude_to_db`."""
    return amin * np.expm1(level * np.log1p(1 / amin).astype(np.result_type(level, np.float32)))


def to_network(level: np.ndarray) -> np.ndarray:
    """Log level [0, 1] of the files to the network's [-1, 1], float32."""
    return np.asarray(level, np.float32) * 2 - 1


def from_network(output: np.ndarray) -> np.ndarray:
    """The network's [-1, 1] to the log level [0, 1] of the files, float32."""
    return (np.asarray(output, np.float32) + 1) / 2


# --- slices -----------------------------------------------------------------------------------------------------------


def slice_frames(level: np.ndarray, n_frames: int = PUBLISHED.n_frames) -> np.ndarray:
    """Cut ``(n_bins, n)`` into slices ``(n_slices, n_bins, n_frames, 1)``; the last one is filled up with zeros."""
    n_bins, n = level.shape
    n_slices = -(-n // n_frames)
    padded = np.pad(level, ((0, 0), (0, n_slices * n_frames - n)))
    return padded.reshape(n_bins, n_slices, n_frames).transpose(1, 0, 2)[..., np.newaxis].copy()


def join_slices(slices: np.ndarray, n: int | None = None) -> np.ndarray:
    """Inverse of `slice_frames`: ``(n_bins, n)``; without `n` the filled-up frames stay."""
    n_slices, n_bins, n_frames = slices.shape[:3]
    return slices.reshape(n_slices, n_bins, n_frames).transpose(1, 0, 2).reshape(n_bins, -1)[:, :n].copy()


def compute_features(audio: np.ndarray, representation: Representation = PUBLISHED, center: bool = True) -> np.ndarray:
    """Feature slices of audio ``(n_samples,)``: log level [0, 1], float16 ``(n_slices, n_bins, n_frames, 1)``.

    `center` as in `stft`: without it, frames start where the audio starts and only whole frames are made.

    float16 keeps the level to within 0.05 dB over the whole range and a quarter of float64's space.
    """
    spectrum = stft(audio, representation, center)[: representation.n_bins]
    magnitude = np.abs(spectrum) * (2 / representation.window.sum())
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    return slice_frames(level, representation.n_frames).astype(np.float16)
