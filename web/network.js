/* The networks, run by ONNX Runtime's WebAssembly build. */

import * as ort from "./ort/ort.wasm.min.mjs";

const MAX_THREADS = 4; // more are hardly faster for slices of 256 x 256

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.logLevel = "error";

/** A network that is ready to run: `run` takes log levels [0, 1] of a slice and gives those of the target. */
export class Network {
  constructor(session, model) {
    this.session = session;
    this.model = model;
  }

  /**
   * @param {Float32Array} slice log levels, all frames of the lowest bin first.
   * @param {Float32Array | null} style the same of the style's slice, for a network with two input channels.
   */
  async run(slice, style = null) {
    const {n_bins: nBins, n_frames: nFrames} = this.model.representation;
    const nChannels = this.model.in_channels;
    const input = new Float32Array(slice.length * nChannels);
    for (let i = 0; i < slice.length; i++) {
      input[i * nChannels] = 2 * slice[i] - 1;
      if (nChannels === 2) input[i * nChannels + 1] = 2 * style[i] - 1;
    }
    const tensor = new ort.Tensor("float32", input, [1, nBins, nFrames, nChannels]);
    const {output} = await this.session.run({input: tensor});
    const level = output.data.map((value) => (value + 1) / 2);
    output.dispose();
    return level;
  }

  /** hum2guitar's network: the level of harmonics to the mel level, both nBands * nFrames values. */
  async runHum(input, nBands, nFrames) {
    const {output} = await this.session.run({input: new ort.Tensor("float32", input, [1, nBands, nFrames, 1])});
    return output.data;
  }

  /** SwiftF0: pitch in Hz and confidence of each of its frames. */
  async runPitch(audio, lowest, highest) {
    const hertz = (value) => new ort.Tensor("float32", Float32Array.of(value), []);
    const feeds = {audio: new ort.Tensor("float32", audio, [1, audio.length]), fmin: hertz(lowest), fmax: hertz(highest)};
    const {pitch, confidence} = await this.session.run(feeds);
    return {pitch: pitch.data, confidence: confidence.data};
  }

  release() {
    return this.session.release();
  }
}

/** Load a network.
 *
 * @param {object} model an entry of models.json.
 * @param {number} nProcessors how many threads could run at once; the first network decides for all.
 * @param {(share: number) => void} onProgress told how much of the file is there, 0 to 1.
 */
export async function loadNetwork(model, nProcessors, onProgress = () => {}) {
  // Browsers allow threads only on pages that are isolated from other origins (docs/web.md).
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MAX_THREADS, nProcessors) : 1;
  const bytes = await download(new URL(model.file, import.meta.url), model.bytes, onProgress);
  const session = await ort.InferenceSession.create(bytes, {
    executionProviders: ["wasm"],
    enableMemPattern: false, // which would keep a second block of memory
    interOpNumThreads: 1,
    logSeverityLevel: 3, // errors only
  });
  return new Network(session, model);
}

/** The bytes of a file of known size. */
export async function download(url, nBytes, onProgress = () => {}) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server answered ${response.status} for ${url.pathname}`);
  const bytes = new Uint8Array(nBytes);
  let nRead = 0;
  for (const reader = response.body.getReader();;) {
    const {done, value} = await reader.read();
    if (done) break;
    if (nRead + value.length > nBytes) throw new Error(`${url.pathname} is longer than its list entry says`);
    bytes.set(value, nRead);
    nRead += value.length;
    onProgress(nRead / nBytes);
  }
  if (nRead < nBytes) throw new Error(`${url.pathname} was cut off`);
  return bytes;
}
