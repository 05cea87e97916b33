"""The page that converts in the browser, in headless Chromium, against predict.py."""

import pathlib
import shutil
import threading

import numpy as np
import pytest
import soundfile
from conftest import ROOT, needs_browser
from made_conversions import RATE, decibels, make_music

import predict
import predict_multitarget
from data import stft
from hum2guitar.harmonics import PUBLISHED as HUMS
from models.results import synthesize_voice
from sound.blocks import resample
from web import serve

EXAMPLES = ROOT / "docs" / "examples" / "audio"
EXAMPLE, STYLE = (EXAMPLES / name / "bach_prelude_c_major.wav" for name in ("keyboard_acoustic", "string_acoustic"))
PAIR, MULTITARGET = "keyboard_acoustic_2_bells", "keyboard_acoustic_2_zither"  # of made weights
HUM = ROOT / "docs" / "examples" / "hum" / "hum.ogg"
SHIPPED = [path.parent.name for path in sorted((ROOT / "models").glob("*_2_*/generator.h5"))]

pytestmark = [
    needs_browser,
    pytest.mark.skipif(not (serve.RUNTIME / serve.RUNTIME_FILES[0]).is_file(), reason="needs npm ci --prefix web"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_generator):
    """A folder with two models of made weights, and the shipped ones where there are some."""
    folder = tmp_path_factory.mktemp("models")
    recommended = {PAIR: {}, MULTITARGET: {"input_level": "peak"}}
    for in_channels, (name, settings) in enumerate(recommended.items(), start=1):
        (folder / name).mkdir()
        write_generator(folder / name / "generator.h5", in_channels, base_filters=2, **settings)
    for name in [*SHIPPED, "hum2guitar"]:
        (folder / name).mkdir()
        shutil.copyfile(ROOT / "models" / name / "generator.h5", folder / name / "generator.h5")
    return folder


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    folder = serve.build(models, tmp_path_factory.mktemp("page"))
    with serve.make_server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Page:
    """The page in the browser, as a user sees and operates it."""

    def __init__(self, browser, address: str, downloads: pathlib.Path) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser, self.address, self.downloads = browser, address, downloads
        downloads.mkdir(exist_ok=True)
        self.until = WebDriverWait(browser, 120, poll_frequency=0.1).until
        allowed = {"behavior": "allow", "downloadPath": str(downloads)}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)

    def find(self, name: str):
        return self.browser.find_element("id", name)

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    def open(self) -> None:
        self.browser.get_log("browser")
        self.browser.get(self.address)
        self.until(lambda _: self.find("main").is_displayed() or self.browser.find_elements("css selector", ".fatal"))

    def load(self, path: pathlib.Path, field: str = "input-file") -> None:
        """Choose a file and wait until it is there or refused."""
        self.find(field).send_keys(str(path))
        card = field.removesuffix("-file")
        self.until(lambda _: self.find(f"{card}-facts").text != "Reading …")

    def error(self, card: str = "input") -> str:
        return self.find(f"{card}-error").text.removesuffix("Close").strip()

    def choose(self, model: str) -> None:
        index = self.run("return fetch('models.json').then((r) => r.json())")["models"]
        number = [entry["name"] for entry in index].index(model)
        self.run("document.querySelectorAll('[name=target]')[arguments[0]].click()", number)

    def convert(self) -> None:
        self.until(lambda _: self.find("convert").is_enabled())
        self.find("convert").click()
        self.until(lambda _: not self.find("work").is_displayed())

    def download(self) -> np.ndarray:
        """The samples of the result's file."""
        for path in self.downloads.iterdir():
            path.unlink()
        self.find("download").click()
        self.until(lambda _: list(self.downloads.glob("*.wav")))
        audio, rate = soundfile.read(next(self.downloads.glob("*.wav")))
        assert rate == RATE
        return audio


@pytest.fixture(scope="module")
def browser_page(server, start_browser, tmp_path_factory):
    browser = start_browser(1280, 900)
    return Page(browser, f"http://127.0.0.1:{server.server_address[1]}/", tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def page(browser_page):
    """The page just opened. In the end nothing may have been logged or asked of another origin."""
    browser_page.open()
    yield browser_page
    assert browser_page.browser.get_log("browser") == []
    requests = browser_page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [url for url in requests if not url.startswith((browser_page.address, "blob:"))] == []


def write_music(path: pathlib.Path, seconds: float, rate: int = RATE, n_channels: int = 1) -> pathlib.Path:
    """Two seconds of music for each channel, over and over."""
    channels = [make_music(2, seed, rate) for seed in range(n_channels)]
    music = np.resize(np.stack(channels, axis=1), (round(seconds * rate), n_channels))
    soundfile.write(path, music, rate, "FLOAT")  # 16 bits are read by Chromium as 1 / 32767, if they are positive
    return path


def predict_with(command, model: pathlib.Path, source: pathlib.Path, output: pathlib.Path, *flags) -> np.ndarray:
    """What a predict command makes of a recording."""
    argv = ["--model", model, "--input", source, "--output", output, "--gpu", "-1", *flags]
    assert command.main([str(word) for word in argv]) == 0
    return soundfile.read(output)[0]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_download_is_what_the_predict_commands_write(page, models, name, tmp_path):
    page.find("example").click()
    page.choose(name)
    command, flags = predict, []
    if name.endswith("_any"):
        page.until(lambda _: page.find("input-facts").text.startswith("0:10"))
        assert not page.find("convert").is_enabled()
        page.load(STYLE, "style-file")
        command, flags = predict_multitarget, ["--style", STYLE]
    page.convert()
    expected = predict_with(command, models / name, EXAMPLE, tmp_path / "out.wav", *flags)
    assert decibels(page.download() - expected, expected) < -50


def melodies() -> dict[str, np.ndarray]:
    """Four seconds at `RATE` of a hum, a low voice, a whistle in noise, a guitar and a piece for the piano."""
    time = np.arange(4 * RATE) / RATE
    steps = 2 ** (np.array([0, 4, 7, 0, 5, 9, 7, 4])[(2 * time).astype(int)] / 12)
    noise = np.random.default_rng(0).normal(0, 3e-4, len(time))
    guitar, piano = (
        soundfile.read(EXAMPLES / name / EXAMPLE.name)[0] for name in ("guitar_acoustic", EXAMPLE.parent.name)
    )
    return {
        "hum": resample(soundfile.read(HUM, dtype="float32")[0], 22050, RATE),
        "low": resample(synthesize_voice(55 * steps[::2], closed=False, breath=0.02), 22050, RATE),
        "whistle": 0.1 * np.sin(2 * np.pi * np.cumsum(1200 * steps) / RATE) + noise,
        "guitar": guitar,
        "piano": piano,
    }


@pytest.mark.slow
def test_melodies_become_the_guitar_of_predict_with_its_warnings(page, models, tmp_path, capsys):
    page.choose("hum2guitar")
    said = []
    for name, melody in melodies().items():
        source, audio = tmp_path / f"{name}.wav", melody[: 4 * RATE]
        soundfile.write(source, np.stack([audio, audio / 2], axis=1) if name == "low" else audio, RATE, "FLOAT")
        page.load(source)
        page.convert()
        capsys.readouterr()
        expected = predict_with(predict, models / "hum2guitar", source, tmp_path / "out.wav")
        warnings = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()]
        note = page.find("convert-note").text
        assert [line for line in warnings if f"{line[0].upper()}{line[1:]}." not in note] == []
        said += warnings
        ours, theirs = (np.abs(stft(made.T, HUMS)) for made in (page.download(), expected))
        assert decibels(ours - theirs, theirs) < -40, name
    assert "moved up" in str(said)
    assert "chords" in str(said)


def test_mix_and_level_are_those_of_predict(page, models, tmp_path):
    source = write_music(tmp_path / "music.wav", 4)
    page.load(source)
    page.choose(PAIR)
    page.convert()
    page.run("const m = document.getElementById('mix'); m.value = 30; m.dispatchEvent(new Event('change'))")
    for level, choice in (("peak", "greatest"), ("match", "as loud as the recording")):
        page.find("level").send_keys(choice)  # takes effect without another conversion
        flags = ["--mix", "0.3", "--level", level]
        expected = predict_with(predict, models / PAIR, source, tmp_path / f"{level}.wav", *flags)
        assert decibels(page.download() - expected, expected) < -50


def test_several_recordings_are_converted_and_downloaded_one_after_the_other(page, tmp_path):
    names = ["first.wav", "notes.wav", "last#1.wav"]
    for name in names:
        write_music(tmp_path / name, 1)
    (tmp_path / "notes.wav").write_text("no sound")
    for path in page.downloads.iterdir():
        path.unlink()
    page.find("input-file").send_keys("\n".join(str(tmp_path / name) for name in names))
    page.until(lambda _: "3 recordings" in page.find("convert").text)
    page.convert()
    page.until(lambda _: len(list(page.downloads.glob("*.wav"))) == 2)
    assert page.find("input-name").get_attribute("textContent") == "last#1.wav"
    assert "notes.wav" in page.find("convert-note").text


def test_the_download_is_aac_where_the_browser_encodes_it(page, tmp_path):
    """Chromium for Linux does not, so its encoder for Opus stands in."""
    page.load(write_music(tmp_path / "music.wav", 2))
    seconds, n_bytes = page.browser.execute_async_script(
        """
        const done = arguments[0];
        const Encoder = AudioEncoder;
        window.seconds = 0;
        window.AudioEncoder = class extends Encoder {
          constructor(init) {
            super({...init, output: (chunk) => { seconds += chunk.duration / 1e6; init.output(chunk); }});
          }
          configure(config) { super.configure({codec: "opus", sampleRate: config.sampleRate, numberOfChannels: 2}); }
        };
        const {encodeAac} = await import("./encoders.js");
        const blob = await encodeAac([new Float32Array(88200), new Float32Array(88200)], 44100);
        done([seconds, blob.size]);
        """.replace("const done", "(async () => { const done")
        + "})()"
    )
    assert seconds == pytest.approx(2, abs=0.1)
    assert n_bytes > 100


def test_both_sounds_play_at_one_loudness_and_stop_at_the_end(page, tmp_path):
    page.load(write_music(tmp_path / "music.wav", 2))
    assert page.find("play").is_enabled()
    assert not page.find("hear-output").is_enabled()
    page.convert()
    assert page.find("hear-output").is_selected()
    page.run(
        "window.sounds = [];"
        "const connect = AudioBufferSourceNode.prototype.connect;"
        "AudioBufferSourceNode.prototype.connect = function (to) {"
        "  sounds.push([this.buffer.getChannelData(0), to.gain]); return connect.call(this, to); };"
    )
    page.find("play").click()
    page.until(lambda _: page.find("play").get_attribute("aria-label") == "Pause")
    gains = "return sounds.map(([, gain]) => gain.value)"
    off, gain_of_result = page.run(gains)
    assert off == 0
    page.run("document.getElementById('hear-input').click()")
    page.until(lambda _: page.run(gains)[1] == 0)
    gain_of_input, _ = page.run(gains)
    measures = "[Math.hypot(...samples), samples.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0)]"
    measured = np.array(page.run(f"return sounds.map(([samples]) => {measures})"))
    rms, peaks = measured.T * [gain_of_input, gain_of_result]
    assert rms[0] == pytest.approx(rms[1], rel=1e-3)
    assert max(peaks) == pytest.approx(0.9, rel=1e-3)
    page.until(lambda _: page.find("play").get_attribute("aria-label") == "Play")
    assert page.find("time").text == "0:02 / 0:02"
    page.run("document.getElementById('position').value = 1;")
    page.run("document.getElementById('position').dispatchEvent(new Event('input'))")
    assert page.find("time").text == "0:01 / 0:02"
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = page.browser.find_element("css selector", "#plot-input canvas")
    ActionChains(page.browser).move_to_element_with_offset(canvas, -canvas.size["width"] // 2 + 47, 0).click().perform()
    assert page.find("time").text == "0:00 / 0:02"
    # Loud pixels in the picture of the input and of the output.
    for plot in ("plot-input", "plot-output"):
        brightest = page.run(
            f"const c = document.querySelector('#{plot} canvas'); const {{width, height}} = c;"
            "return Math.max(...c.getContext('2d').getImageData(60, 20, width - 100, height - 60).data.filter("
            "(_, i) => i % 4 === 0))"
        )
        assert brightest > 200


def test_a_conversion_can_be_cancelled_and_the_next_recording_converted(page, models, tmp_path):
    assert page.run("return crossOriginIsolated")  # without it, the network has one thread
    page.load(write_music(tmp_path / "long.wav", 120))
    page.choose(PAIR)
    page.find("convert").click()
    page.until(lambda _: page.find("work-text").text.endswith("of 120 s"))
    page.find("cancel").click()
    page.until(lambda _: page.find("convert").is_displayed())
    assert page.find("convert-note").text == "Cancelled."
    assert not page.find("download").is_enabled()
    second = write_music(tmp_path / "second.wav", 3, n_channels=2)
    page.load(second)
    assert page.find("input-name").text == "second.wav"
    assert page.find("input-facts").text == "0:03 · stereo"
    page.convert()
    expected = predict_with(predict, models / PAIR, second, tmp_path / "out.wav")
    assert decibels(page.download() - expected, expected) < -50


def test_what_cannot_be_converted_is_refused_in_words(page, tmp_path):
    good = write_music(tmp_path / "good.wav", 1)
    page.load(good)
    text, empty = tmp_path / "notes.txt", tmp_path / "empty.wav"
    text.write_text("no sound")
    empty.touch()
    silent, long = tmp_path / "silent.wav", tmp_path / "long.wav"
    soundfile.write(silent, np.zeros(RATE), RATE)
    soundfile.write(long, np.zeros(601 * 8000, np.int16), 8000, subtype="PCM_U8")
    for path, word in ((text, "flac, mp3"), (empty, "empty"), (long, "10:01")):
        page.load(path)
        assert word in page.error()
        assert page.find("input-name").get_attribute("textContent") == "good.wav"  # still there
        assert page.find("convert").is_enabled()
    page.load(silent)
    assert "silent" in page.error()
    page.load(good)
    assert page.error() == ""


def test_files_can_be_dropped_on_the_page(page, tmp_path):
    drop = (
        "const data = new DataTransfer(); data.items.add(new File([new Uint8Array(arguments[1])], 'dropped.wav'));"
        "const event = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});"
        "document.getElementById(arguments[0]).dispatchEvent(event); return event.defaultPrevented"
    )
    content = list(write_music(tmp_path / "music.wav", 0.5, 8000).read_bytes())
    page.choose(MULTITARGET)
    assert page.run(drop, "style", content)  # otherwise the browser would leave the page and show the file
    page.until(lambda _: page.find("style-facts").text == "0:00 · mono")
    assert page.find("input-name").text != "dropped.wav"
    assert page.run(drop, "plots", content)
    page.until(lambda _: page.find("input-facts").text == "0:00 · mono")
    assert page.find("convert").is_enabled()


def test_the_microphone_is_recorded_until_the_button_is_pressed_again(page):
    page.run(
        "navigator.mediaDevices.getUserMedia = async () => {"
        "  const context = new AudioContext(); await context.resume();"
        "  const end = context.createMediaStreamDestination();"
        "  const tone = new OscillatorNode(context, {frequency: 1000}); tone.connect(end); tone.start();"
        "  window.tracks = end.stream.getTracks(); return end.stream; };"
    )
    page.find("record").click()
    page.until(lambda _: page.find("record").text >= "Stop 0:01")
    page.find("record").click()
    page.until(lambda _: "0:01" <= page.find("input-facts").text < "0:10")
    assert page.find("convert").text == "Convert to guitar from a hum"  # offered to whoever records
    assert page.find("convert").is_enabled()
    assert page.run("return tracks.map((track) => track.readyState)") == ["ended"]
    page.run("navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); };")
    page.find("record").click()
    page.until(lambda _: page.error())
    assert "microphone" in page.error()
    assert page.find("record").get_attribute("textContent") == "Record"


def test_everything_can_be_done_with_the_keyboard(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key):
        ActionChains(page.browser).send_keys(key).perform()

    def go_to(name):
        for _ in range(20):
            press(Keys.TAB)
            if page.browser.switch_to.active_element.get_attribute("id") == name:
                return
        raise AssertionError(f"#{name} was not reached")

    go_to("example")
    press(Keys.ENTER)
    page.until(lambda _: page.find("convert").is_enabled())
    go_to("convert")
    press(Keys.ENTER)
    page.until(lambda _: page.find("download").is_enabled())
    go_to("play")
    press(Keys.SPACE)
    page.until(lambda _: page.find("play").get_attribute("aria-label") == "Pause")
    go_to("hear-output")
    press(Keys.ARROW_LEFT)
    assert page.find("hear-input").is_selected()
    assert "heard" in page.find("plot-input").get_attribute("class")
    go_to("position")
    press(Keys.HOME)
    go_to("download")
    assert page.find("convert-note").text.startswith("Done")
    unnamed = page.run(
        "return [...document.querySelectorAll('button, input, select, canvas[role]')].filter((e) => e.tabIndex >= 0 &&"
        "!e.ariaLabel && !e.textContent.trim() && !(e.labels && e.labels.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_the_screen(page, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.run("return [document.documentElement.scrollWidth, window.innerWidth]") == [width, width]
    if width == 390:
        assert page.run("return document.getElementById('convert').getBoundingClientRect().bottom") < 844
    small = page.run(
        "return [...document.querySelectorAll('button, select, .targets label, .switch label')]"
        ".filter((e) => e.offsetParent && e.offsetHeight < 44).map((e) => e.outerHTML)"
    )
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert small == []


@pytest.mark.slow
def test_once_loaded_it_works_without_the_server(models, start_browser, tmp_path):
    folder = serve.build(models, tmp_path / "page")
    browser = start_browser(1280, 900)
    with serve.make_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        page = Page(browser, f"http://127.0.0.1:{server.server_address[1]}/", tmp_path / "downloads")
        page.open()
        page.find("example").click()
        page.convert()
        page.run("return navigator.serviceWorker.ready.then(() => true)")
        page.until(lambda _: page.run("return caches.match(arguments[0]).then(Boolean)", f"models/{PAIR}.onnx"))
        server.shutdown()
        thread.join()
    page.open()
    page.find("example").click()
    page.convert()
    assert page.find("convert-note").text.startswith("Done")
    assert len(page.download()) == 10 * RATE
