/* Sample rates: a windowed sinc, with all the weights for each of the positions between two samples. */

const ZERO_CROSSINGS = 80; // of the sinc on each side, at the lower of the two rates
const KAISER_BETA = 10; // aliases are 100 dB down
const CUTOFF = 0.957; // of half the lower rate: the band above is the transition of the filter

const greatestDivisor = (a, b) => (b ? greatestDivisor(b, a % b) : a);

/** Audio at another sample rate, in blocks; sample n of the output is at the time of n / toRate.
 *
 * @param {AsyncIterable<Float32Array>} blocks audio at `fromRate`, a whole number of Hz.
 * @yields {Float32Array} round(n * toRate / fromRate) samples in all.
 */
export async function* resample(blocks, fromRate, toRate) {
  if (fromRate === toRate) {
    yield* blocks;
    return;
  }
  const divisor = greatestDivisor(fromRate, toRate);
  const [up, down] = [toRate / divisor, fromRate / divisor]; // output n is at n * down / up of the input's samples
  const scale = CUTOFF * Math.min(1, up / down);
  const half = Math.ceil(ZERO_CROSSINGS / scale);
  const kernels = new Map(); // by phase, made when they are first needed
  let held = new Float32Array(half); // the input's last samples; before the first one it is silent
  let start = -half; // index of the first sample held
  let nRead = 0;
  let n = 0;

  const make = (limit) => {
    const end = start + held.length - half; // the first index that needs samples that are not there
    const made = new Float32Array(Math.max(0, Math.min(limit, Math.ceil((end * up) / down)) - n));
    for (let i = 0; i < made.length; i++, n++) {
      const phase = (n * down) % up;
      const first = (n * down - phase) / up - half + 1 - start;
      if (!kernels.has(phase)) kernels.set(phase, makeKernel(phase / up, half, scale));
      const kernel = kernels.get(phase);
      let sum = 0;
      for (let k = 0; k < kernel.length; k++) sum += kernel[k] * held[first + k];
      made[i] = sum;
    }
    const unused = Math.max(0, Math.floor((n * down) / up) - half + 1 - start);
    held = held.slice(unused);
    start += unused;
    return made;
  };
  const hold = (block) => {
    const joined = new Float32Array(held.length + block.length);
    joined.set(held);
    joined.set(block, held.length);
    held = joined;
  };

  for await (const block of blocks) {
    nRead += block.length;
    hold(block);
    yield make(Infinity);
  }
  hold(new Float32Array(2 * half));
  yield make(Math.round((nRead * up) / down));
}

/** The samples of a stream in one array of `length`, cut off or followed by silence. */
export async function collect(blocks, length) {
  const joined = new Float32Array(length);
  let at = 0;
  for await (const block of blocks) {
    joined.set(block.subarray(0, Math.max(0, length - at)), Math.min(at, length));
    at += block.length;
  }
  return joined;
}

/** Weights of the samples from `half - 1` before to `half` after a place that is `share` of a sample after one. */
function makeKernel(share, half, scale) {
  const kernel = Float64Array.from({length: 2 * half}, (_, k) => {
    const distance = k - half + 1 - share;
    const x = Math.PI * scale * distance;
    const window = bessel(KAISER_BETA * Math.sqrt(Math.max(0, 1 - (distance / half) ** 2)));
    return (x === 0 ? 1 : Math.sin(x) / x) * window;
  });
  const sum = kernel.reduce((total, value) => total + value, 0);
  return Float32Array.from(kernel, (value) => value / sum);
}

/** The modified Bessel function of order 0. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
