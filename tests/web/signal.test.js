/* The page's scripts against arrays that tests/web/test_signal.py wrote with the Python functions. */

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";

import {chooseStyle, convert, istftBlocks, spectrogram, stftBlocks} from "../../web/conversion.js";
import {encodeWav} from "../../web/encoders.js";
import {resample} from "../../web/resample.js";
import {
  RealFft, amplitudeToLevel, fadeIn, levelToAmplitude, magnitudes, makeRepresentation, truePeak,
} from "../../web/signal.js";

const FOLDER = process.env.FIXTURES;
const fixtures = JSON.parse(fs.readFileSync(path.join(FOLDER, "fixtures.json")));
const representation = makeRepresentation(fixtures.representation);

function read(name) {
  const bytes = fs.readFileSync(path.join(FOLDER, fixtures.arrays[name].file));
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** The difference of two arrays relative to the second one, by their RMS, has to be below `limit` dB. */
function assertNear(found, expected, limit) {
  assert.equal(found.length, expected.length);
  let error = 0;
  let power = 0;
  expected.forEach((value, i) => {
    error += (found[i] - value) ** 2;
    power += value ** 2;
  });
  const level = 10 * Math.log10(error / power + 1e-30);
  assert.ok(level < limit, `expected a difference below ${limit} dB, found ${level.toFixed(1)} dB`);
}

/** Channels as a stream of blocks of uneven lengths. */
async function* blocksOf(channels, lengths = [1000, 3, 40_000]) {
  for (let start = 0, i = 0; start < channels[0].length; i++) {
    const n = lengths[i % lengths.length];
    yield channels.map((audio) => audio.subarray(start, start + n));
    start += n;
  }
}

async function join(stream, index) {
  const pieces = [];
  for await (const piece of stream) pieces.push(Array.from(index === undefined ? piece : piece[index]));
  return Float32Array.from(pieces.flat());
}

test("the Fourier transform of an impulse, and back", () => {
  const fft = new RealFft(16);
  const impulse = new Float64Array(16);
  impulse[1] = 1;
  fft.forward(impulse);
  for (let k = 0; k <= 8; k++) {
    assert.ok(Math.abs(fft.re[k] - Math.cos((2 * Math.PI * k) / 16)) < 1e-12);
    assert.ok(Math.abs(fft.im[k] + Math.sin((2 * Math.PI * k) / 16)) < 1e-12);
  }
  const back = new Float64Array(16);
  fft.inverse(back);
  impulse.forEach((value, i) => assert.ok(Math.abs(back[i] - value) < 1e-12));
});

test("STFT, log level and inverse", async () => {
  const pieces = [];
  for await (const piece of stftBlocks(blocksOf([read("music")]), representation)) pieces.push(piece);
  const all = (part) => Float32Array.from(pieces.flatMap(([spectrum]) => Array.from(spectrum[part])));
  assertNear(all("re"), read("stft, real"), -120);
  assertNear(all("im"), read("stft, imaginary"), -120);
  const magnitude = magnitudes({re: all("re"), im: all("im")}, representation.magnitudeScale);
  assertNear(amplitudeToLevel(magnitude, representation.amin), read("level"), -100);
  assertNear(levelToAmplitude(read("level"), representation.amin), read("magnitude"), -100);
  assertNear(await join(istftBlocks(pieces, representation), 0), read("istft"), -80);
  assertNear(fadeIn(64), read("fade_in"), -120);
});

/** The network of test_signal.py. */
async function bend(slice) {
  const n = representation.nFrames;
  return slice.map((level, i) => level ** 2 * (0.5 + (0.5 * (i % n)) / n));
}

for (const [name, {start, shape, index}] of Object.entries(fixtures.arrays)) {
  if (!name.startsWith("converted")) continue;
  test(name, async () => {
    const music = read("music").subarray(start, start + shape[0]);
    const channels = index === undefined ? [music] : [music, read("second")];
    assertNear(await join(convert(blocksOf(channels), bend, representation), index || 0), read(name), -80);
  });
}

test("the style is the loudest slice; a silent recording has none", async () => {
  for (const name of ["long", "short"]) {
    const style = await chooseStyle(blocksOf([read(`style, ${name}`)]), representation);
    assertNear(style, read(`style slice, ${name}`), -90);
  }
  assert.equal(await chooseStyle(blocksOf([new Float32Array(50_000)]), representation), null);
});

test("spectrogram", async () => {
  const {shape: [nColumns, nBins], seconds} = fixtures.arrays.spectrogram;
  const audio = read("style, long");
  const picture = await spectrogram(blocksOf([audio]), audio.length, 200, representation);
  assert.deepEqual([picture.nColumns, picture.secondsPerColumn], [nColumns, seconds]);
  const expected = read("spectrogram");
  for (let t = 0; t < nColumns; t++) {
    for (let k = 0; k < nBins; k++) {
      const found = Math.max(-100, picture.decibels[t * picture.nBins + k]);
      assert.ok(Math.abs(found - expected[t * nBins + k]) < 0.01);
    }
  }
});

test("a wav file of two channels, rounded and clipped", async () => {
  const file = encodeWav([Float32Array.of(0, 0.5, 2, -2), Float32Array.of(0.25, 1e-5, -0.25, 1)], 44100, 0.5);
  const expected = fs.readFileSync(path.join(FOLDER, "two.wav")); // as soundfile writes it
  assert.deepEqual(Buffer.from(await file.arrayBuffer()), expected);
});

for (const [name, {peak}] of Object.entries(fixtures.arrays)) {
  if (!name.startsWith("true peak")) continue;
  test(name, () => {
    const half = read(name).map((value) => value / 2);
    assert.ok(Math.abs(truePeak([half, read(name)]) / peak - 1) < 1e-5);
  });
}

for (const [name, {rate}] of Object.entries(fixtures.arrays)) {
  if (!name.startsWith("at ")) continue;
  test(`sample rate ${rate}`, async () => {
    const expected = read(name.replace("at", "from"));
    async function* mono() {
      for await (const [block] of blocksOf([read(name)])) yield block;
    }
    assertNear(await join(resample(mono(), rate, 44100)), expected, -60);
  });
}

test("what lies above the lower rate's band does not come back as another tone", async () => {
  const [fromRate, seconds] = [96_000, 0.5];
  const sine = (hertz, rate) =>
    Float32Array.from({length: seconds * rate}, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));
  const high = await join(resample([sine(24_000, fromRate)], fromRate, 44100));
  assert.ok(Math.max(...high.subarray(500, -500)) < 1e-4);
  const low = await join(resample([sine(15_000, fromRate)], fromRate, 44100));
  assertNear(low.subarray(500, -500), sine(15_000, 44100).subarray(500, -500), -80);
});
