"""Build the page that converts recordings in the browser, and serve it on this machine.

The page, ONNX Runtime, the example and the models of --models_path, exported to ONNX, are put into one folder, which
any static host can serve. docs/web.md describes the page.
"""

from __future__ import annotations

import common.environment

import argparse
import functools
import http.server
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

from common import cli, weights
from common.errors import InputError
from common.files import existing_folder, replacing, writable_folder, write_json

WEB = pathlib.Path(__file__).parent
ROOT = WEB.parent
PAGE = (
    "index.html", "style.css", "icon.svg", "app.js", "player.js", "picture.js", "wav.js", "worker.js", "conversion.js",
    "network.js", "signal.js", "resample.js", "offline.js",
)  # fmt: skip
RUNTIME = WEB / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
EXAMPLES = {  # entry of models.json: title and recording
    "example": ("Bach: Prelude in C major", "keyboard_acoustic"),
    "style_example": ("the example of strings", "string_acoustic"),
}
TITLES = {
    "keyboard_acoustic": "piano", "guitar_acoustic": "acoustic guitar", "string_acoustic": "strings",
    "synth_lead_synthetic": "synth lead",
}  # fmt: skip
# What the page needs: its own files, WebAssembly, its own workers, and to look at a recording's length (blob:).
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    # These two isolate the page from other origins, which browsers ask for before they let WebAssembly use threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # ask whether a file has changed
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--models_path", default="models", help="folder with one folder for each model, each with a generator.h5")
    add("--folder", default=str(WEB / "dist"), help="where the page is built")
    add("--port", type=cli.number(int, minimum=0, maximum=65535), default=8000, help="on 127.0.0.1; 0 for any free one")
    add("--build_only", action="store_true", help="do not serve the folder")
    return cli.run(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Build the folder and serve it until Ctrl-C; the exit status."""
    folder = build(arguments.models_path, arguments.folder)
    if arguments.build_only:
        print(folder)
        return 0
    with make_server(folder, arguments.port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C stops)", flush=True)
        server.serve_forever()
    return 0


# --- the folder -------------------------------------------------------------------------------------------------------


def build(models_path: str | os.PathLike, folder: str | os.PathLike) -> pathlib.Path:
    """Put the page, ONNX Runtime, the examples and the models of `models_path` into `folder`; the folder.

    Models whose weights have not changed are not exported again. Files of models that are gone are removed.

    Raises:
        InputError: there is no model that the page can use, or ONNX Runtime is not installed, or `folder` holds
            something else.
    """
    models = find_models(models_path)
    folder = writable_folder(folder, "--folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "models.json").is_file():
        raise InputError(f"--folder: expected an empty folder or one with the page, found other files in {folder}")
    missing = [name for name in RUNTIME_FILES if not (RUNTIME / name).is_file()]
    if missing:
        raise InputError(f"{RUNTIME}: expected {missing[0]}, found no such file: npm ci --prefix web")
    files = [*PAGE, *(f"ort/{name}" for name in RUNTIME_FILES)]
    for name in PAGE:
        _copy(WEB / name, folder / name)
    for name in RUNTIME_FILES:
        _copy(RUNTIME / name, folder / "ort" / name)
    entries = [_export(name, description, folder) for name, description in models.items()]
    manifest: dict = {"models": sorted(entries, key=lambda entry: entry["in_channels"])}  # multitarget last
    for entry, (title, instrument) in EXAMPLES.items():
        name = f"examples/{instrument}.wav"
        _copy(ROOT / "docs" / "examples" / "audio" / instrument / "bach_prelude_c_major.wav", folder / name)
        manifest[entry] = {"title": title, "file": name}
    for path in (folder / "models").glob("*.onnx"):
        if path.stem not in models:
            path.unlink()
    manifest["files"] = ["./", "models.json", manifest["example"]["file"], *files]  # needed to start offline
    write_json(folder / "models.json", manifest)
    return folder


def find_models(models_path: str | os.PathLike) -> dict[str, weights.Description]:
    """The model of each folder in `models_path` that the page can use, by the name of its folder, sorted.

    Says on stderr which models are left out: those of hum2guitar.

    Raises:
        InputError: there is none, or one is damaged.
    """
    from conversion.models import describe_generator

    models = {}
    for folder in sorted({path.parent for path in existing_folder(models_path, "--models_path").glob("*/*.h5")}):
        description = describe_generator(folder)
        if description.network == weights.UNET:
            models[folder.name] = description
        else:
            print(f"{description.path}: left out, because the page does not run {description.system}", file=sys.stderr)
    if not models:
        raise InputError(f"--models_path: expected <origin>_2_<target>/generator.h5, found none in {models_path}")
    return models


def _copy(source: pathlib.Path, destination: pathlib.Path) -> None:
    """Copy a file with its date, whole or not at all, unless it is there already."""
    if _is_current(destination, source):
        return
    with replacing(destination) as beside:
        shutil.copyfile(source, beside)
        _copy_date(source, beside)


def _copy_date(source: pathlib.Path, made: pathlib.Path) -> None:
    """Give `made` the date of `source`, by which `_is_current` knows it."""
    os.utime(made, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))


def _is_current(made: pathlib.Path, source: pathlib.Path) -> bool:
    return made.is_file() and made.stat().st_mtime_ns == source.stat().st_mtime_ns


def _export(name: str, description: weights.Description, folder: pathlib.Path) -> dict:
    """Write the .onnx file of a model as export.py does; the model's entry in models.json.

    With ``--float16`` if the model keeps the input's phase. A refined phase amplifies the rounding.
    """
    from conversion.converter import Settings
    from conversion.network import build_graph

    exported = folder / "models" / f"{name}.onnx"
    recommended = Settings().for_model(description)
    if not _is_current(exported, description.path):
        content = build_graph(description.path, float16=recommended.phase == "input").SerializeToString()
        with replacing(exported) as beside:
            beside.write_bytes(content)
            _copy_date(description.path, beside)
    origin, _, target = name.partition("_2_")
    is_multitarget = description.in_channels == 2
    return {
        "name": name,
        "origin": make_title(description.settings.get("origin") or origin),
        "title": "any instrument" if is_multitarget else make_title(target or name),
        "file": f"models/{name}.onnx",
        "bytes": exported.stat().st_size,
        "in_channels": description.in_channels,
        "phase": recommended.phase,
        "input_level": recommended.input_level,
        "representation": description.representation.to_dict(),
    }


def make_title(instrument: str) -> str:
    """The name of an instrument as the page shows it: "acoustic guitar" for "guitar_acoustic"."""
    return TITLES.get(instrument) or instrument.replace("_", " ")


# --- the server -------------------------------------------------------------------------------------------------------


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder with `HEADERS`, without listing folders."""

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 (the base class has it as a plain dict, too)
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".wav": "audio/wav",
        "": "application/octet-stream",
    }

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: str | os.PathLike) -> None:
        self.send_error(404)

    def log_message(self, *arguments) -> None:
        """Requests are not logged."""


def make_server(folder: str | os.PathLike, port: int) -> http.server.ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1, listening but not yet answering; port 0 takes any free one.

    Raises:
        InputError: the port is taken or not allowed.
    """
    handler = functools.partial(_Handler, directory=os.fspath(folder))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise InputError(f"--port: expected a free port, found {port}: {error.strerror}") from None


if __name__ == "__main__":
    raise SystemExit(main())
