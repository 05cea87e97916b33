/* signal.js, conversion.js and wav.js against arrays that tests/web/test_signal.py wrote with the Python functions. */

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";

import {chooseStyle, convert, istftBlocks, spectrogram, stftBlocks} from "../../web/conversion.js";
import {resample} from "../../web/resample.js";
import {
  RealFft, amplitudeToLevel, fadeIn, levelToAmplitude, magnitudes, makeRepresentation, truePeak,
} from "../../web/signal.js";
import {encodeWav, readChannel, readHeader} from "../../web/wav.js";

const FOLDER = process.env.FIXTURES;
const fixtures = JSON.parse(fs.readFileSync(path.join(FOLDER, "fixtures.json")));
const representation = makeRepresentation(fixtures.representation);

function read(name) {
  const bytes = fs.readFileSync(path.join(FOLDER, fixtures.arrays[name].file));
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** Level of the difference of two arrays relative to the second one, in dB, by their RMS. */
function decibels(found, expected) {
  assert.equal(found.length, expected.length);
  let error = 0;
  let power = 0;
  expected.forEach((value, i) => {
    error += (found[i] - value) ** 2;
    power += value ** 2;
  });
  return 10 * Math.log10(error / power + 1e-30);
}

function assertNear(found, expected, limit) {
  const level = decibels(found, expected);
  assert.ok(level < limit, `expected a difference below ${limit} dB, found ${level.toFixed(1)} dB`);
}

/** An array as a stream of blocks of uneven lengths. */
async function* blocksOf(audio, lengths = [1000, 3, 40_000]) {
  for (let start = 0, i = 0; start < audio.length; i++) {
    const n = lengths[i % lengths.length];
    yield audio.subarray(start, start + n);
    start += n;
  }
}

async function* channel(stream, index) {
  for await (const channels of stream) yield channels[index];
}

async function join(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(Array.from(piece));
  return Float32Array.from(pieces.flat());
}

async function joinFrames(stream) {
  const [re, im] = [[], []];
  for await (const spectrum of stream) {
    re.push(Array.from(spectrum.re));
    im.push(Array.from(spectrum.im));
  }
  return {re: Float32Array.from(re.flat()), im: Float32Array.from(im.flat())};
}

test("the Fourier transform of an impulse and of a cosine, and back", () => {
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
  fft.forward(Float64Array.from({length: 16}, (_, i) => Math.cos((2 * Math.PI * 3 * i) / 16)));
  fft.re.forEach((value, k) => assert.ok(Math.abs(value - (k === 3 ? 8 : 0)) < 1e-12));
});

test("a window that is no power of two is refused", () => {
  assert.throws(() => makeRepresentation({...fixtures.representation, n_fft: 1000, hop_length: 500}), /1000/);
});

test("STFT", async () => {
  const spectrum = await joinFrames(stftBlocks(blocksOf(read("music")), representation));
  assertNear(spectrum.re, read("stft, real"), -120);
  assertNear(spectrum.im, read("stft, imaginary"), -120);
  const level = amplitudeToLevel(magnitudes(spectrum, representation.magnitudeScale), representation.amin);
  assertNear(level, read("level"), -100);
});

test("log level to magnitude", () => {
  assertNear(levelToAmplitude(read("level"), representation.amin), read("magnitude"), -100);
});

test("inverse STFT", async () => {
  const [re, im] = [read("stft, real"), read("stft, imaginary")];
  const nBins = representation.nBins;
  async function* pieces() {
    for (const [start, end] of [[0, 10], [10, 11], [11, re.length / nBins]]) {
      const cut = (array) => array.subarray(start * nBins, end * nBins);
      yield {n: end - start, nBins, re: cut(re), im: cut(im)};
    }
  }
  assertNear(await join(istftBlocks(pieces(), representation)), read("istft"), -80);
});

test("fade", () => {
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
    const channels = [blocksOf(music), ...(index === undefined ? [] : [blocksOf(read("second"))])];
    const converted = await join(channel(convert(channels, bend, representation), index || 0));
    assertNear(converted, read(name), -80);
  });
}

for (const name of ["long", "short"]) {
  test(`style of a ${name} recording`, async () => {
    assertNear(await chooseStyle(blocksOf(read(`style, ${name}`)), representation), read(`style slice, ${name}`), -90);
  });
}

test("a silent style is none", async () => {
  assert.equal(await chooseStyle(blocksOf(new Float32Array(50_000)), representation), null);
});

test("spectrogram", async () => {
  const {shape: [nColumns, nBins], seconds} = fixtures.arrays.spectrogram;
  const audio = read("style, long");
  const picture = await spectrogram(blocksOf(audio), audio.length, 200, representation);
  assert.equal(picture.nColumns, nColumns);
  assert.equal(picture.secondsPerColumn, seconds);
  assert.equal(picture.nBins, representation.nFft / 2 + 1);
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
  const view = new DataView(await file.arrayBuffer());
  assert.equal(view.byteLength, 44 + 16);
  assert.equal(view.getUint32(4, true), 36 + 16);
  assert.equal(view.getUint16(22, true), 2);
  assert.equal(view.getUint32(24, true), 44100);
  assert.equal(view.getUint32(28, true), 4 * 44100);
  assert.equal(view.getUint32(40, true), 16);
  const samples = Array.from({length: 8}, (_, i) => view.getInt16(44 + 2 * i, true));
  assert.deepEqual(samples, [0, 4096, 8192, 0, 32767, -4096, -32768, 16384]);
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
    assertNear(await join(resample(blocksOf(read(name)), rate, 44100)), expected, -60);
  });
}

test("what lies above the lower rate's band does not come back as another tone", async () => {
  const [fromRate, seconds] = [96_000, 0.5];
  const sine = (hertz, rate) =>
    Float32Array.from({length: seconds * rate}, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));
  const high = await join(resample(blocksOf(sine(24_000, fromRate)), fromRate, 44100));
  assert.ok(Math.max(...high.subarray(500, -500)) < 1e-4);
  const low = await join(resample(blocksOf(sine(15_000, fromRate)), fromRate, 44100));
  assertNear(low.subarray(500, -500), sine(15_000, 44100).subarray(500, -500), -80);
});

for (const [name, {wav, shape}] of Object.entries(fixtures.arrays)) {
  if (!wav) continue;
  test(name, async () => {
    const file = new Blob([fs.readFileSync(path.join(FOLDER, wav))]);
    const header = await readHeader(file);
    assert.deepEqual([header.nChannels, header.nSamples, header.sampleRate], [...shape, 8000]);
    const expected = read(name);
    const mean = new Float32Array(shape[1]);
    for (let channel = 0; channel < shape[0]; channel++) {
      const samples = expected.subarray(channel * shape[1], (channel + 1) * shape[1]);
      assertNear(await join(readChannel(file, header, channel)), samples, -140);
      samples.forEach((value, i) => (mean[i] += value / shape[0]));
    }
    assertNear(await join(readChannel(file, header, null)), mean, -120);
  });
}

test("wav files that were cut off, and other files", async () => {
  const whole = await encodeWav([new Float32Array(100)], 44100).arrayBuffer();
  assert.equal((await readHeader(new Blob([whole.slice(0, 44 + 61)]))).nSamples, 30);
  assert.equal((await readHeader(new Blob([whole.slice(0, 44)]))).nSamples, 0);
  const unfinished = whole.slice(0);
  new DataView(unfinished).setUint32(40, 0, true);
  assert.equal((await readHeader(new Blob([unfinished]))).nSamples, 100);
  for (const length of [0, 5, 12, 30, 43]) assert.equal(await readHeader(new Blob([whole.slice(0, length)])), null);
  assert.equal(await readHeader(new Blob(["RIFF, but not a wave file at all, only a text"])), null);
  const adpcm = whole.slice(0);
  new DataView(adpcm).setUint16(20, 2, true);
  assert.equal(await readHeader(new Blob([adpcm])), null);
});
