/* The short-time Fourier transform, the log scale and windows: arrays in, new arrays out. A port of data.py.
 *
 * - audio: Float32Array or Float64Array, full scale 1
 * - spectrum: {n, nBins, re, im}: `n` frames one after the other, each of the lowest `nBins` bins; re and im are
 *   Float32Array of n * nBins values
 * - level: log level [0, 1], Float32Array of n * nBins values in the same order
 */

const TINY = 2 ** -126; // the smallest normal float32: what the inverse STFT divides by at least

/** The settings of a network's spectrogram with what is computed from them.
 *
 * @param {object} settings sample_rate, n_fft, hop_length, n_bins, n_frames and amin, as data.Representation has them.
 */
export function makeRepresentation(settings) {
  const {sample_rate: sampleRate, n_fft: nFft, hop_length: hopLength} = settings;
  const {n_bins: nBins, n_frames: nFrames, amin} = settings;
  if (!Number.isInteger(Math.log2(nFft)) || nFft % hopLength) {
    throw new Error(`expected a window of a power of two and a multiple of the hop, found ${nFft} and ${hopLength}`);
  }
  const window64 = hanning(nFft, settings.window === "hann" ? nFft : nFft - 1);
  const window = Float32Array.from(window64);
  const magnitudeScale = Math.fround(2 / window.reduce((sum, value) => sum + value, 0));
  const fft = new RealFft(nFft);
  return {sampleRate, nFft, hopLength, nBins, nFrames, amin, window64, window, magnitudeScale, fft};
}

/** The Hann window of this period: with n - 1 the symmetric one, np.hanning(n). */
function hanning(n, period) {
  return Float64Array.from({length: n}, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / period));
}

/** The Fourier transform of `n` real samples, a power of two, in double precision.
 *
 * Even samples are the real and odd samples the imaginary part of a complex transform of half the length.
 */
export class RealFft {
  constructor(n) {
    this.n = n;
    const half = n / 2;
    this.cos = Float64Array.from({length: half}, (_, k) => Math.cos((2 * Math.PI * k) / n));
    this.sin = Float64Array.from({length: half}, (_, k) => Math.sin((2 * Math.PI * k) / n));
    this.reversed = new Uint32Array(half);
    for (let i = 1; i < half; i++) this.reversed[i] = (this.reversed[i >> 1] >> 1) | (i & 1 ? half >> 1 : 0);
    this.re = new Float64Array(half + 1);
    this.im = new Float64Array(half + 1);
    this.workRe = new Float64Array(half);
    this.workIm = new Float64Array(half);
  }

  /** Transform frame[0..n); the n / 2 + 1 bins are then in `this.re` and `this.im`. */
  forward(frame) {
    const {n, re, im, workRe, workIm, cos, sin, reversed} = this;
    const half = n / 2;
    for (let i = 0; i < half; i++) {
      workRe[reversed[i]] = frame[2 * i];
      workIm[reversed[i]] = frame[2 * i + 1];
    }
    this.transform();
    for (let k = 0; k <= half; k++) {
      const a = k % half;
      const b = (half - k) % half;
      const evenRe = (workRe[a] + workRe[b]) / 2;
      const evenIm = (workIm[a] - workIm[b]) / 2;
      const oddRe = (workIm[a] + workIm[b]) / 2;
      const oddIm = (workRe[b] - workRe[a]) / 2;
      const c = k < half ? cos[k] : -1;
      const s = k < half ? sin[k] : 0;
      re[k] = evenRe + c * oddRe + s * oddIm;
      im[k] = evenIm + c * oddIm - s * oddRe;
    }
  }

  /** The inverse: samples into frame[0..n) from the bins in `this.re` and `this.im`. */
  inverse(frame) {
    const {n, re, im, workRe, workIm, cos, sin, reversed} = this;
    const half = n / 2;
    for (let k = 0; k < half; k++) {
      const j = half - k;
      const imK = k ? im[k] : 0; // the first and the last bin of a real signal have no imaginary part
      const imJ = k ? im[j] : 0;
      const evenRe = (re[k] + re[j]) / 2;
      const evenIm = (imK - imJ) / 2;
      const differenceRe = (re[k] - re[j]) / 2;
      const differenceIm = (imK + imJ) / 2;
      const oddRe = cos[k] * differenceRe - sin[k] * differenceIm;
      const oddIm = cos[k] * differenceIm + sin[k] * differenceRe;
      // Conjugated, because the inverse transform is the conjugate of the forward transform of the conjugate.
      workRe[reversed[k]] = evenRe - oddIm;
      workIm[reversed[k]] = -(evenIm + oddRe);
    }
    this.transform();
    for (let i = 0; i < half; i++) {
      frame[2 * i] = workRe[i] / half;
      frame[2 * i + 1] = -workIm[i] / half;
    }
  }

  /** The complex transform of n / 2 values in bit-reversed order, in place. */
  transform() {
    const {n, workRe, workIm, cos, sin} = this;
    const half = n / 2;
    for (let size = 1; size < half; size *= 2) {
      const step = half / size; // of the table, which has n / 2 entries for half a turn
      for (let start = 0; start < half; start += 2 * size) {
        for (let k = 0; k < size; k++) {
          const a = start + k;
          const b = a + size;
          const c = cos[k * step];
          const s = sin[k * step];
          const re = c * workRe[b] + s * workIm[b];
          const im = c * workIm[b] - s * workRe[b];
          workRe[b] = workRe[a] - re;
          workIm[b] = workIm[a] - im;
          workRe[a] += re;
          workIm[a] += im;
        }
      }
    }
  }
}

/** A spectrum of `n` frames of zeros. */
export function emptySpectrum(n, nBins) {
  return {n, nBins, re: new Float32Array(n * nBins), im: new Float32Array(n * nBins)};
}

/** Short-time Fourier transform without padding: frame t starts at sample t * hopLength; only whole frames.
 *
 * @param {number} nBins how many of the lowest bins to keep.
 */
export function stft(audio, representation, nBins = representation.nBins) {
  const {nFft, hopLength, window64, fft} = representation;
  const n = audio.length < nFft ? 0 : Math.floor((audio.length - nFft) / hopLength) + 1;
  const spectrum = emptySpectrum(n, nBins);
  const frame = new Float64Array(nFft);
  for (let t = 0; t < n; t++) {
    for (let i = 0; i < nFft; i++) frame[i] = audio[t * hopLength + i] * window64[i];
    fft.forward(frame);
    spectrum.re.set(fft.re.subarray(0, nBins), t * nBins);
    spectrum.im.set(fft.im.subarray(0, nBins), t * nBins);
  }
  return spectrum;
}

/** Sum of the windowed inverse frames, and the sum of squared windows to divide by.
 *
 * Both are Float32Array of nFft + hopLength * (n - 1) samples; frame t starts at sample t * hopLength.
 */
export function overlapAdd(spectrum, representation) {
  const {nFft, hopLength, window, fft} = representation;
  const {n, nBins, re, im} = spectrum;
  const length = n ? nFft + hopLength * (n - 1) : 0;
  const audio = new Float32Array(length);
  const weight = new Float32Array(length);
  const frame = new Float64Array(nFft);
  for (let t = 0; t < n; t++) {
    fft.re.fill(0);
    fft.im.fill(0);
    fft.re.set(re.subarray(t * nBins, (t + 1) * nBins));
    fft.im.set(im.subarray(t * nBins, (t + 1) * nBins));
    fft.inverse(frame);
    const start = t * hopLength;
    for (let i = 0; i < nFft; i++) {
      audio[start + i] += frame[i] * window[i];
      weight[start + i] += window[i] * window[i];
    }
  }
  return {audio, weight};
}

/** audio / weight, in place, where the weight is not zero: the last step of the inverse STFT. */
export function normalizeOverlap(audio, weight) {
  for (let i = 0; i < audio.length; i++) audio[i] /= Math.max(weight[i], TINY);
  return audio;
}

/** Absolute values of a spectrum times `scale`; with magnitudeScale, a full-scale sine peaks near 1. */
export function magnitudes(spectrum, scale = 1) {
  const {re, im} = spectrum;
  const magnitude = new Float32Array(re.length);
  for (let i = 0; i < re.length; i++) magnitude[i] = scale * Math.sqrt(re[i] * re[i] + im[i] * im[i]);
  return magnitude;
}

/** Log level of magnitudes, [0, 1] for [0, 1]: log1p(m / amin) / log1p(1 / amin). */
export function amplitudeToLevel(magnitude, amin) {
  const whole = Math.log1p(1 / amin);
  return magnitude.map((value) => Math.log1p(value / amin) / whole);
}

/** Magnitudes of log levels: the inverse of `amplitudeToLevel`. */
export function levelToAmplitude(level, amin) {
  const whole = Math.log1p(1 / amin);
  return level.map((value) => amin * Math.expm1(value * whole));
}

/** Weights rising from 0 to 1 as sin²: they and their mirror image sum to 1. */
export function fadeIn(n) {
  return Float32Array.from({length: n}, (_, i) => Math.sin(((Math.PI / 2) * (i + 0.5)) / n) ** 2);
}

const NEAR = 0.6; // of the peak so far: only near samples above it can there be a greater value between samples
const HALF = 12; // samples on each side that an interpolated value depends on
const TAPS = [0.25, 0.5, 0.75].map((place) => Float64Array.from({length: 2 * HALF}, (_, i) => {
  const x = Math.PI * (i + 1 - HALF - place);
  return (Math.sin(x) / x) * Math.cos(x / (2 * HALF + 1)) ** 2;
}));

/** The true peak of channels: the greatest absolute value of the waveform between the samples, too, with four values
 * for each sample as in ITU-R BS.1770-4, annex 2. */
export function truePeak(channels) {
  let peak = 0;
  for (const channel of channels) peak = channel.reduce((greatest, value) => Math.max(greatest, Math.abs(value)), peak);
  for (const channel of channels) {
    for (let start = 0; start + 2 * HALF <= channel.length; start++) {
      const [left, right] = [channel[start + HALF - 1], channel[start + HALF]];
      if (Math.abs(left) <= NEAR * peak && Math.abs(right) <= NEAR * peak) continue;
      for (const taps of TAPS) {
        let value = 0;
        for (let i = 0; i < 2 * HALF; i++) value += taps[i] * channel[start + i];
        peak = Math.max(peak, Math.abs(value));
      }
    }
  }
  return peak;
}
