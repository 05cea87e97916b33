/* A recording to a new recording: a port of sound/blocks.py and of conversion/.
 *
 * Everything is a stream: each function takes an asynchronous iterable of pieces and yields pieces, so that memory does
 * not grow with the length of the recording. A piece is an array with one element for each channel: samples, or a
 * spectrum of signal.js.
 */

import {amplitudeToLevel, fadeIn, levelToAmplitude, magnitudes, normalizeOverlap, overlapAdd, stft} from "./signal.js";

const BATCH_SIZE = 2; // slices that are predicted before audio is made of them
const OVERLAP = 0.25; // share of a slice that is blended with the next one, the default of predict.py

/** Convert channels to channels of the same length, at the sample rate of the representation.
 *
 * The network hears the root mean square of the channels' magnitudes, and each channel gets the share of the prediction
 * that it has of the input.
 *
 * @param {AsyncIterable<Float32Array[]>} blocks audio of all channels.
 * @param {(slice: Float32Array) => Promise<Float32Array>} network log levels [0, 1] of a slice to those of the target;
 *     both are nBins * nFrames values, all frames of the lowest bin first, as the network has them.
 * @param {object} representation from `makeRepresentation`.
 * @yields {Float32Array[]} the converted channels.
 */
export async function* convert(blocks, network, representation) {
  let nSamples = 0;
  async function* count() {
    for await (const block of blocks) {
      nSamples += block[0].length;
      yield block;
    }
  }
  const predicted = predict(stftBlocks(count(), representation), network, representation);
  let nGiven = 0;
  for await (const made of istftBlocks(predicted, representation)) {
    const kept = made.map((audio) => audio.subarray(0, nSamples - nGiven));
    nGiven += kept[0].length;
    if (kept[0].length) yield kept;
  }
}

// --- STFT and inverse ------------------------------------------------------------------------------------------------

/** The centred STFT of a stream of audio, in pieces. One more frame is made if the last sample lies where the last
 * window is almost zero, because the inverse divides by the window. */
export async function* stftBlocks(blocks, representation, nBins = representation.nBins) {
  const {nFft, hopLength, window} = representation;
  let pending = null;
  let nSamples = 0;
  let nMade = 0;
  for await (const block of blocks) {
    pending ??= block.map(() => new Float64Array(nFft / 2));
    nSamples += block[0].length;
    pending = pending.map((samples, i) => concatenate([samples, block[i]], Float64Array));
    const spectra = pending.map((samples) => stft(samples, representation, nBins));
    if (spectra[0].n) {
      yield spectra;
      pending = pending.map((samples) => samples.slice(spectra[0].n * hopLength));
      nMade += spectra[0].n;
    }
  }
  if (!nSamples) return;
  let nFrames = 1 + Math.floor(nSamples / hopLength);
  // The window's values at the last sample, in the last frame and in those before it.
  let weight = 0;
  for (let i = nFft / 2 + nSamples - 1 - (nFrames - 1) * hopLength; i < nFft; i += hopLength) weight += window[i] ** 2;
  if (weight < 1 / 16) nFrames += 1;
  if (nFrames > nMade) {
    const length = (nFrames - nMade - 1) * hopLength + nFft;
    yield pending.map((samples) => {
      const padded = new Float64Array(length);
      padded.set(samples.subarray(0, length));
      return stft(padded, representation, nBins);
    });
  }
}

/** The inverse of the centred STFT of a stream: audio from sample 0 on. */
export async function* istftBlocks(pieces, representation) {
  const {nFft, hopLength} = representation;
  let tails = null; // {audio, weight} of each channel, to which the next frames add
  let nSkipped = nFft / 2; // before sample 0
  for await (const spectra of pieces) {
    const nReady = spectra[0].n * hopLength;
    const skipped = Math.min(nSkipped, nReady);
    nSkipped -= skipped;
    const made = spectra.map((spectrum) => overlapAdd(spectrum, representation));
    made.forEach(({audio, weight}, channel) => {
      for (let i = 0; tails && i < nFft - hopLength; i++) {
        audio[i] += tails[channel].audio[i];
        weight[i] += tails[channel].weight[i];
      }
    });
    tails = made.map(({audio, weight}) => ({audio: audio.slice(nReady), weight: weight.slice(nReady)}));
    yield made.map(({audio, weight}) => {
      return normalizeOverlap(audio.subarray(skipped, nReady), weight.subarray(skipped, nReady));
    });
  }
  if (tails) yield tails.map(({audio, weight}) => normalizeOverlap(audio, weight).subarray(nSkipped));
}

/** Regroup a stream of frames into overlapping pieces of `advance + nShared` frames; the last one may be shorter.
 *
 * @yields {[object[], boolean]} the spectra, and whether they are the last piece.
 */
async function* regroupFrames(pieces, advance, nShared) {
  let waiting = null;
  for await (const spectra of pieces) {
    waiting = waiting ? waiting.map((spectrum, i) => joinFrames(spectrum, spectra[i])) : spectra;
    while (waiting[0].n > advance + nShared) { // more frames than one piece, so this is not the last piece
      yield [waiting.map((spectrum) => cutFrames(spectrum, 0, advance + nShared)), false];
      waiting = waiting.map((spectrum) => cutFrames(spectrum, advance, spectrum.n));
    }
  }
  if (waiting) yield [waiting, true];
}

/** Frames `start` to `end` of a spectrum, not copied. */
function cutFrames({nBins, re, im}, start, end) {
  const [from, to] = [start * nBins, end * nBins];
  return {n: end - start, nBins, re: re.subarray(from, to), im: im.subarray(from, to)};
}

function joinFrames(a, b) {
  const join = (part) => concatenate([a[part], b[part]], Float32Array);
  return {n: a.n + b.n, nBins: a.nBins, re: join("re"), im: join("im")};
}

function concatenate(arrays, Type) {
  const joined = new Type(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    joined.set(array, at);
    at += array.length;
  }
  return joined;
}

// --- the network -----------------------------------------------------------------------------------------------------

/** Predict the spectra of the target in overlapping slices, whose log levels are blended; the phase is the input's. */
async function* predict(pieces, network, representation) {
  const {nBins, nFrames, amin, magnitudeScale} = representation;
  const nOverlap = OVERLAP * nFrames;
  const hop = nFrames - nOverlap;
  const rising = fadeIn(nOverlap);
  let carried = null; // weighted end of the last slice; the next one adds to it
  for await (const [spectra, isLast] of regroupFrames(pieces, BATCH_SIZE * hop, nOverlap)) {
    const {n} = spectra[0];
    const heard = rootMeanSquare(spectra.map((spectrum) => magnitudes(spectrum, magnitudeScale)));
    const level = amplitudeToLevel(heard, amin);
    const nSlices = Math.max(1, Math.ceil((n - nOverlap) / hop));
    const blended = new Float32Array(((nSlices - 1) * hop + nFrames) * nBins);
    if (carried) blended.set(carried);
    for (let i = 0; i < nSlices; i++) {
      const output = await runSlice(level, i * hop, network, representation);
      const fadesIn = carried || i > 0;
      const fadesOut = !isLast || i < nSlices - 1;
      for (let t = 0; t < nFrames; t++) {
        let weight = 1;
        if (fadesIn && t < nOverlap) weight *= rising[t];
        if (fadesOut && t >= hop) weight *= rising[nFrames - 1 - t];
        const at = (i * hop + t) * nBins;
        for (let k = 0; k < nBins; k++) blended[at + k] += weight * output[k * nFrames + t];
      }
    }
    const nFinal = isLast ? n : nSlices * hop;
    const magnitude = levelToAmplitude(blended.subarray(0, nFinal * nBins), amin);
    yield spectra.map(({re, im}) => ({
      n: nFinal, nBins,
      re: magnitude.map((value, i) => (heard[i] > 0 ? (re[i] * value) / heard[i] : value / magnitudeScale)),
      im: magnitude.map((value, i) => (heard[i] > 0 ? (im[i] * value) / heard[i] : 0)),
    }));
    carried = blended.slice(nFinal * nBins, (nFinal + nOverlap) * nBins);
  }
}

/** The root mean square over the channels. */
function rootMeanSquare(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, i) => Math.sqrt(channels.reduce((sum, own) => sum + own[i] ** 2, 0) / channels.length));
}

/** The network's output for the slice that starts at frame `start`; digital silence is not given to the network. */
async function runSlice(level, start, network, representation) {
  const {nBins, nFrames} = representation;
  const slice = new Float32Array(nBins * nFrames);
  const part = level.subarray(start * nBins, (start + nFrames) * nBins);
  if (!part.some((value) => value)) return slice;
  part.forEach((value, i) => {
    slice[(i % nBins) * nFrames + Math.floor(i / nBins)] = value;
  });
  return network(slice);
}

// --- style and pictures ----------------------------------------------------------------------------------------------

/** The style slice of a recording for a multitarget network: its slice of the greatest mean log level.
 *
 * Only whole slices count, unless the recording is shorter than one: then it is repeated. The slice has nBins *
 * nFrames values, all frames of the lowest bin first; null if the recording is silent.
 */
export async function chooseStyle(blocks, representation) {
  const {nBins, nFrames, amin, magnitudeScale} = representation;
  let loudest = 0;
  let style = null;
  let nSlices = 0;
  for await (const [[spectrum]] of regroupFrames(stftBlocks(blocks, representation), nFrames, 0)) {
    if (spectrum.n < nFrames && nSlices) break;
    nSlices += 1;
    const level = amplitudeToLevel(magnitudes(spectrum, magnitudeScale), amin);
    const slice = new Float32Array(nBins * nFrames);
    for (let t = 0; t < nFrames; t++) {
      for (let k = 0; k < nBins; k++) slice[k * nFrames + t] = level[(t % spectrum.n) * nBins + k];
    }
    const sum = slice.reduce((total, value) => total + value, 0);
    if (sum > loudest) [loudest, style] = [sum, slice];
  }
  return style;
}

/** Spectrogram of one channel of any length, reduced to about `nColumns` columns.
 *
 * Each column is the maximum of neighbouring frames, so that short onsets stay visible.
 *
 * @param {number} nSamples of all blocks.
 * @returns {Promise<{decibels: Float32Array, nColumns: number, nBins: number, secondsPerColumn: number,
 *     hertzPerBin: number}>} column after column, in dB of a full-scale sine, all n_fft / 2 + 1 bins.
 */
export async function spectrogram(blocks, nSamples, nColumns, representation) {
  const {nFft, hopLength, sampleRate, magnitudeScale} = representation;
  const nBins = nFft / 2 + 1;
  const step = Math.max(1, Math.round(nSamples / hopLength / nColumns));
  const columns = [];
  for await (const [[spectrum]] of regroupFrames(stftBlocks(blocks, representation, nBins), step, 0)) {
    const magnitude = magnitudes(spectrum, magnitudeScale);
    const column = new Float32Array(nBins);
    magnitude.forEach((value, i) => {
      column[i % nBins] = Math.max(column[i % nBins], value);
    });
    columns.push(column.map((value) => 20 * Math.log10(value + 1e-10)));
  }
  return {
    decibels: concatenate(columns, Float32Array), nColumns: columns.length, nBins,
    secondsPerColumn: (step * hopLength) / sampleRate, hertzPerBin: sampleRate / nFft,
  };
}
