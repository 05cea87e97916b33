/* A recording to a new recording: a port of sound/streaming.py and of conversion/.
 *
 * Everything is a stream: each function takes an asynchronous iterable of pieces and yields pieces, so that memory does
 * not grow with the length of the recording. Spectra and levels are those of signal.js.
 */

import {
  amplitudeToLevel, fadeIn, levelToAmplitude, magnitudes, normalizeOverlap, overlapAdd, stft, unit,
} from "./signal.js";

const BATCH_SIZE = 2; // slices that are predicted before audio is made of them
const OVERLAP = 0.25; // share of a slice that is blended with the next one, the default of predict.py

/** Convert channels to channels of the same length, at the sample rate of the representation.
 *
 * The network hears the root mean square of the channels' magnitudes, and each channel gets the share of the prediction
 * that it has of the input.
 *
 * @param {AsyncIterable<Float32Array>[]} channels audio in blocks, the same for all.
 * @param {(slice: Float32Array) => Promise<Float32Array>} network log levels [0, 1] of a slice to those of the target;
 *     both are nBins * nFrames values, all frames of the lowest bin first, as the network has them.
 * @param {object} representation from `makeRepresentation`.
 * @yields {Float32Array[]} the converted channels.
 */
export async function* convert(channels, network, representation) {
  let nSamples = 0;
  async function* count(blocks) {
    for await (const block of blocks) {
      nSamples += block.length;
      yield block;
    }
  }
  const [first, ...others] = channels;
  const spectra = [count(first), ...others].map((blocks) => stftBlocks(blocks, representation));
  const predicted = tee(predict(spectra, network, representation), channels.length);
  const outputs = predicted.map((stream, i) => istftBlocks(pick(stream, i), representation));
  let nGiven = 0;
  for await (const made of zip(outputs)) {
    const kept = made.map((audio) => audio.subarray(0, nSamples - nGiven));
    nGiven += kept[0].length;
    if (kept[0].length) yield kept;
  }
}

// --- streams ---------------------------------------------------------------------------------------------------------

/** What several streams of the same length give, side by side. */
async function* zip(streams) {
  for (;;) {
    const values = [];
    for (const stream of streams) { // one after the other, as the worker reads one block at a time
      const {value, done} = await stream.next();
      if (done) return;
      values.push(value);
    }
    yield values;
  }
}

/** `n` streams of what one gives. */
function tee(stream, n) {
  const queues = Array.from({length: n}, () => []);
  return queues.map(async function* take(queue) {
    for (;;) {
      if (!queue.length) {
        const {value, done} = await stream.next();
        if (done) return;
        for (const other of queues) other.push(value);
      }
      yield queue.shift();
    }
  });
}

async function* pick(stream, index) {
  for await (const values of stream) yield values[index];
}

// --- STFT and inverse ------------------------------------------------------------------------------------------------

/** The centred STFT of a stream of audio, in pieces. One more frame is made if the last sample lies where the last
 * window is almost zero, because the inverse divides by the window. */
export async function* stftBlocks(blocks, representation, nBins = representation.nBins) {
  const {nFft, hopLength, window} = representation;
  let pending = new Float64Array(nFft / 2);
  let nSamples = 0;
  let nMade = 0;
  for await (const block of blocks) {
    nSamples += block.length;
    pending = concatenate([pending, block], Float64Array);
    const spectrum = stft(pending, representation, nBins);
    if (spectrum.n) {
      yield spectrum;
      pending = pending.slice(spectrum.n * hopLength);
      nMade += spectrum.n;
    }
  }
  if (!nSamples) return;
  let nFrames = 1 + Math.floor(nSamples / hopLength);
  // The window's values at the last sample, in the last frame and in those before it.
  let weight = 0;
  for (let i = nFft / 2 + nSamples - 1 - (nFrames - 1) * hopLength; i < nFft; i += hopLength) weight += window[i] ** 2;
  if (weight < 1 / 16) nFrames += 1;
  if (nFrames > nMade) {
    const padded = new Float64Array((nFrames - nMade - 1) * hopLength + nFft);
    padded.set(pending.subarray(0, padded.length));
    yield stft(padded, representation, nBins);
  }
}

/** The inverse of the centred STFT of a stream: audio from sample 0 on. */
export async function* istftBlocks(spectra, representation) {
  const {nFft, hopLength} = representation;
  let audioTail = new Float32Array(nFft - hopLength);
  let weightTail = new Float32Array(nFft - hopLength);
  let nSkipped = nFft / 2; // before sample 0
  for await (const spectrum of spectra) {
    if (!spectrum.n) continue;
    const {audio, weight} = overlapAdd(spectrum, representation);
    for (let i = 0; i < nFft - hopLength; i++) {
      audio[i] += audioTail[i];
      weight[i] += weightTail[i];
    }
    const nReady = spectrum.n * hopLength;
    audioTail = audio.slice(nReady);
    weightTail = weight.slice(nReady);
    const skipped = Math.min(nSkipped, nReady);
    nSkipped -= skipped;
    yield normalizeOverlap(audio.subarray(skipped, nReady), weight.subarray(skipped, nReady));
  }
  yield normalizeOverlap(audioTail, weightTail).subarray(nSkipped);
}

/** Regroup a stream of frames into overlapping pieces of `advance + nShared` frames; the last one may be shorter.
 *
 * @yields {[object, boolean]} the spectrum, and whether it is the last piece.
 */
export async function* regroupFrames(spectra, advance, nShared) {
  let waiting = null;
  for await (const spectrum of spectra) {
    waiting = waiting ? joinFrames([waiting, spectrum]) : spectrum;
    while (waiting.n > advance + nShared) { // more frames than one piece, so this is not the last piece
      yield [cutFrames(waiting, 0, advance + nShared), false];
      waiting = cutFrames(waiting, advance, waiting.n);
    }
  }
  if (waiting) yield [waiting, true];
}

/** Frames `start` to `end` of a spectrum, not copied. */
function cutFrames(spectrum, start, end) {
  const {nBins, re, im} = spectrum;
  end = Math.min(end, spectrum.n);
  start = Math.min(Math.max(start, 0), end);
  const [from, to] = [start * nBins, end * nBins];
  return {n: end - start, nBins, re: re.subarray(from, to), im: im.subarray(from, to)};
}

function joinFrames(spectra) {
  return {
    n: spectra.reduce((n, spectrum) => n + spectrum.n, 0),
    nBins: spectra[0].nBins,
    re: concatenate(spectra.map((spectrum) => spectrum.re), Float32Array),
    im: concatenate(spectra.map((spectrum) => spectrum.im), Float32Array),
  };
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

/** Predict the spectra of the target in overlapping slices, whose log levels are blended; the phase is the input's.
 *
 * @yields {object[]} the spectrum of each channel.
 */
async function* predict(spectra, network, representation) {
  const {nBins, nFrames, amin, magnitudeScale} = representation;
  const nOverlap = OVERLAP * nFrames;
  const hop = nFrames - nOverlap;
  const rising = fadeIn(nOverlap);
  let carried = new Float32Array(nOverlap * nBins); // weighted end of the last slice; the next one adds to it
  let isFirst = true;
  for await (const pieces of zip(spectra.map((stream) => regroupFrames(stream, BATCH_SIZE * hop, nOverlap)))) {
    const isLast = pieces[0][1];
    const channels = pieces.map(([spectrum]) => spectrum);
    const {n} = channels[0];
    const own = channels.map((spectrum) => magnitudes(spectrum, magnitudeScale));
    const heard = rootMeanSquare(own);
    const level = amplitudeToLevel(heard, amin);
    const nSlices = Math.max(1, Math.ceil((n - nOverlap) / hop));
    const blended = new Float32Array(((nSlices - 1) * hop + nFrames) * nBins);
    blended.set(carried);
    for (let i = 0; i < nSlices; i++) {
      const output = await runSlice(level, i * hop, network, representation);
      const fadesIn = !(isFirst && i === 0);
      const fadesOut = !(isLast && i === nSlices - 1);
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
    yield channels.map((spectrum, channel) => {
      const {re, im} = unit(cutFrames(spectrum, 0, nFinal));
      const shares = own[channel];
      for (let i = 0; i < re.length; i++) {
        const factor = (magnitude[i] / magnitudeScale) * (heard[i] > 0 ? shares[i] / heard[i] : 1);
        re[i] *= factor;
        im[i] *= factor;
      }
      return {n: nFinal, nBins, re, im};
    });
    carried = blended.slice(nFinal * nBins, (nFinal + nOverlap) * nBins);
    isFirst = false;
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
  let isFirst = true;
  for await (const [spectrum] of regroupFrames(stftBlocks(blocks, representation), nFrames, 0)) {
    if (spectrum.n < nFrames && !isFirst) break;
    isFirst = false;
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

/** Spectrogram of audio of any length, reduced to about `nColumns` columns.
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
  for await (const [spectrum] of regroupFrames(stftBlocks(blocks, representation, nBins), step, 0)) {
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
