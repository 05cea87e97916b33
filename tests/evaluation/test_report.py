"""The results of an evaluation: the table, the files, and the page as a browser shows it."""

import base64
import csv
import functools
import io
import json
import pathlib
import types

import numpy as np
import pytest
import soundfile
from conftest import needs_browser
from made_sounds import tone
from PIL import Image

from common import plots
from evaluation import comparison, metrics, report

NASTY = 'a "quoted" </script><b>&'


@pytest.fixture
def no_pictures(monkeypatch):
    """Spectrograms are single dots, which are faster to draw."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    monkeypatch.setattr(plots, "spectrogram_png", lambda *_: file.getvalue())


def made_result(name, seconds=0.5, voice="", **columns):
    """A result with known MAEs of copying and models, and its sounds, which are tones."""
    audios = {"origin": tone(60, seconds), "target": tone(64, seconds)}
    audios |= {model: tone(67, seconds, level=0.02) for model in columns}
    maes = dict.fromkeys(comparison.REFERENCES, 0.5) | columns
    best = {m.name: m.best for m in metrics.METRICS}
    result = {"name": f"{voice}/{name}" if voice else name, "voice": voice, "piece": name, "seconds": seconds}
    result |= {"notes": [f"a <note> on {name}"], "target_itself": {"attack": 10.0, "flutter": np.nan}}
    return {**result, "values": {c: best | {"mae": mae, "lsd_65": 10 * mae} for c, mae in maes.items()}}, audios


def made_report(maes=(0.25, 0.375), models=("model one",), names=None, voices=None, seconds=0.5, **options):
    """A report of pairs whose `maes` are those of all models."""
    described = {name: types.SimpleNamespace(path=pathlib.Path("m.h5"), summary="a model") for name in models}
    made = report.Report("piano to <guitar>", described, ["one line"], **options)
    for i, mae in enumerate(maes):
        of_models = dict(zip(models, mae if isinstance(mae, tuple) else (mae,) * len(models), strict=True))
        made.add(*made_result(names[i] if names else f"piece {i}", seconds, voices[i] if voices else "", **of_models))
    return made


def decode(url):
    return io.BytesIO(base64.b64decode(url.partition(";base64,")[2]))


def write(made, folder):
    return report.write(made, report.as_json(made), folder)


def test_sounds_have_one_loudness_do_not_clip_and_are_excerpts(monkeypatch):
    monkeypatch.setattr(report, "EXCERPT", 3.0)
    _, audios = made_result("p", seconds=4, model=0.1)
    audios["silent"] = 0 * audios["model"]
    levels = []
    for sound in report.make_sounds(audios, {name: name for name in audios}):
        audio, rate = soundfile.read(decode(sound["audio"]))
        assert len(audio) / rate == pytest.approx(report.EXCERPT, abs=0.1)
        assert np.abs(audio).max() <= 1
        with Image.open(decode(sound["picture"])) as picture:
            assert picture.size == (259, 420)  # 3 s have 259 frames
        levels.append(20 * np.log10(np.sqrt(np.mean(audio**2)) + 1e-9))
    assert np.ptp(levels[:-1]) < 0.5
    assert max(levels) > -30
    assert levels[-1] < -60


def test_the_table_holds_means_intervals_and_the_worst(no_pictures, monkeypatch):
    monkeypatch.setattr(report, "PAGE_PAIRS", 1)
    made = made_report((0.25, 0.375))
    assert list(made.page) == ["piece 1"]  # whose sounds are kept
    lines = report.as_text(report.as_json(made)).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("MAE"))
    assert lines[at].split()[-5:] == [*["0.500"] * 4, "0.312"]
    assert lines[at + 1].split() == [*["0.500..0.500"] * 4, "0.250..0.375"]
    assert "Greatest MAE of model one: piece 1, piece 0" in lines
    assert ".." not in report.as_text(report.as_json(made_report((0.25,))))  # a single pair has no interval


def test_the_seeds_of_one_model_have_a_mean_and_a_standard_deviation(no_pictures):
    content = report.as_json(made_report([(0.2, 0.3, 0.9), (0.4, 0.5, 0.9)], ("a", "b", "other"), seeds=["a", "b"]))
    assert content["seeds"]["mae"] == pytest.approx({"mean": 0.35, "sd": 0.1 / 2**0.5})  # of 0.3 and 0.4
    assert "0.350 +- 0.071" in report.as_text(content)


def test_json_and_csv_hold_every_value_and_voices_have_means_of_their_own(tmp_path, no_pictures):
    """Names that a spreadsheet takes for formulas, or that are no text, are harmless."""
    maes, names, voices = (0.2, 0.4, 0.6), ["\uff1d1", "caf\udce9", "-a"], ["piano@grand", "piano@grand", "piano@<up>"]
    made = made_report(maes, names=names, voices=voices)
    made.left_out.append(("x.wav", "no audio"))
    paths = write(made, tmp_path / "new" / "folder")
    content = json.loads(paths[0].read_text())
    assert content["worst"] == {"model one": ["piano@<up>/-a", "piano@grand/caf\udce9", "piano@grand/\uff1d1"]}
    assert content["left_out"] == [{"name": "x.wav", "reason": "no audio"}]
    assert content["target"] == {"attack": 10, "flutter": None}
    assert [pair["values"]["model one"]["mae"] for pair in content["pairs"]] == list(maes)
    assert {v: of_voice["pairs"] for v, of_voice in content["voices"].items()} == {"piano@grand": 2, "piano@<up>": 1}
    grand = content["voices"]["piano@grand"]["summary"]["model one"]["mae"]
    assert grand == {"mean": pytest.approx(0.3), "median": pytest.approx(0.3), "low": 0.2, "high": 0.4}
    with open(paths[1], newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["column"] == "model one"]
    assert [row["pair"] for row in rows] == ["'\uff1d1", "caf\\udce9", "'-a"]
    assert [(row["voice"], float(row["mae"])) for row in rows] == list(zip(voices, maes, strict=True))


def test_the_verdict_says_what_a_musician_would(no_pictures):
    made = made_report((0.25, 0.25), instruments=("piano_acoustic@upright", "guitar_acoustic"))
    for result in made.results:
        result["values"]["model one"] |= {"attack": 9.0, "brightness": -3.0}
    content = report.as_json(made)
    sentence = content["verdict"]
    assert content["is_good"]
    assert "attacks 9 ms softer than the guitar's, spectrum twice as near as the piano's" in sentence
    assert "3 dB duller" in sentence
    assert "waver" not in sentence  # nothing to hear there
    assert not report.as_json(made_report((0.6,)))["is_good"]
    assert report.as_json(made_report([(0.6, 0.4)], ("bad", "better")))["verdict"].startswith("better")


# Records when sources start, and with which offset, and the gains that they go through.
RECORD_STARTS = """
window.starts = []; window.gains = [];
const source = AudioBufferSourceNode.prototype, start = source.start;
const context = AudioContext.prototype, createGain = context.createGain;
source.start = function (...when) { window.starts.push(when); return start.apply(this, when); };
context.createGain = function () { const node = createGain.call(this); window.gains.push(node); return node; };
"""


@needs_browser
def test_in_chromium_sounds_switch_at_one_instant_and_votes_are_downloaded(start_browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    *_, page = write(made_report(names=[NASTY, "b"], models=("model, one",), seconds=6), tmp_path / "a folder #1")
    browser = start_browser(1200, 900)
    find, until = functools.partial(browser.find_element, "css selector"), WebDriverWait(browser, 20).until
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    )
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORD_STARTS})
    browser.get(page.as_uri())

    # The three sounds of a pair start together; switching starts nothing anew and does not move the position.
    buttons = browser.find_elements("css selector", ".pair .choices button")[:3]
    assert [button.text for button in buttons] == ["input", "output", "target"]
    assert find(".pair .note").text == "a <note> on b"  # the pair with the greater MAE
    find(".pair .play").click()
    until(lambda _: browser.execute_script("return window.starts.length") == 3)
    assert len({tuple(start) for start in browser.execute_script("return window.starts")}) == 1
    position = float(find(".pair .time input").get_property("value"))
    for button in (buttons[2], buttons[1]):
        button.click()
        assert button.get_attribute("aria-checked") == "true"
        until(lambda _, before=position: float(find(".pair .time input").get_property("value")) > before)
        position = float(find(".pair .time input").get_property("value"))
    assert browser.execute_script("return window.starts.length") == 3
    assert browser.execute_script("return window.gains.map((node) => Math.round(node.gain.value))") == [0, 1, 0]
    find(".pair .play").click()

    # A click enlarges a picture; keys switch between the pictures.
    small = find(".pair .picture img")
    small.click()
    until(lambda _: find("#zoom img").size["height"] > 2 * small.size["height"])
    ActionChains(browser).send_keys("3").perform()
    assert find("#zoom img").get_attribute("alt") == "spectrogram: target"
    find("#zoom-close").click()

    # Vote A twice, like B.
    for number in (1, 2):
        assert find("#blind-trial").text == f"Comparison {number} of 2"
        assert not find("#blind-next").is_enabled()
        for id in ("vote-a", "prefer-b", "blind-next"):
            find(f"#{id}").click()
    answers = browser.find_elements("css selector", "#blind-answers tr td:nth-child(2)")
    right = [cell.text for cell in answers].count("A")  # which of the two was the target is shown at the end
    chance = {0: 100, 1: 75, 2: 25}[right]
    assert f"target found in {right} of 2 (chance of that many by guessing: {chance} %)" in find("#blind-result").text
    find("#blind-csv").click()
    until(lambda _: (tmp_path / "downloads" / "votes.csv").is_file())
    with open(tmp_path / "downloads" / "votes.csv", newline="") as file:
        votes = list(csv.DictReader(file))
    assert sorted((vote["pair"], vote["vote"]) for vote in votes) == [(NASTY, "A"), ("b", "A")]
    assert sum(vote["correct"] == "true" for vote in votes) == right
    assert all((vote["correct"] == "true") == (vote["a"] == "target") for vote in votes)
    assert all(vote["preferred"] == vote["b"] for vote in votes)

    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    requests = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in requests if not name.startswith("data:")] == []


@needs_browser
def test_the_page_marks_models_against_copying_and_fits_on_a_phone(start_browser, tmp_path):
    """Two models, of two pairs: one is better than copying on average and equal to it once, the other one is worse."""
    names = ["a_piece_with_a_long_name_" * 4, NASTY]
    made = made_report([(0.5, 0.75), (0.25, 0.75)], ("good", "a_bad_model_" * 6), names=names)
    made.remarks = ["/a/very/long/path/without/any/space" * 4]
    *_, page = write(made, tmp_path)
    assert "http" not in page.read_text().partition("<body>")[2]
    browser = start_browser(500, 800)
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(page.as_uri())
    assert browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]") == [360, 360]

    def marked(table, mark):
        return [cell.get_attribute("textContent") for cell in table.find_elements("css selector", f"td.{mark}")]

    *of_pairs, means = browser.find_elements("css selector", "details table, #summary table")
    assert (marked(means, "best"), marked(means, "worse")) == (["0.375", "3.750"], ["0.750", "7.500"])
    assert [marked(table, "best") for table in of_pairs] == [[], ["0.250", "2.500"]]
    # Buttons are large enough for a thumb.
    shown = [e for e in browser.find_elements("css selector", "input, img, button") if e.is_displayed()]
    assert len(shown) > 20
    assert all(element.rect["x"] + element.rect["width"] <= 360 for element in shown)
    assert all(element.rect["height"] >= 44 for element in shown if element.tag_name == "button")
    # The first model's numbers are seen without scrolling, beside the names of the metrics.
    first = means.find_element("css selector", "tbody tr:nth-child(2) td")
    assert first.rect["x"] + first.rect["width"] <= 360

    *_, page = write(made_report((0.1,), models=()), tmp_path)  # nothing to vote on
    browser.get(page.as_uri())
    assert not browser.find_element("css selector", "#trials").is_displayed()
    assert browser.get_log("browser") == []
