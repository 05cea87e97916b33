/* Wav files, in and out, block by block. Browsers decode wav, too, but need several times the memory, and Chromium
 * scales positive samples of 16 bits by 1 / 32767. */

const BLOCK = 2 ** 18; // samples of each channel that are read or written at a time
const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe]; // codes of formats

// By format and bits, how one sample is read from a DataView.
const READERS = {
  [`${PCM} 8`]: (view, at) => (view.getUint8(at) - 128) / 128,
  [`${PCM} 16`]: (view, at) => view.getInt16(at, true) / 32768,
  [`${PCM} 24`]: (view, at) => ((view.getInt8(at + 2) << 16) | view.getUint16(at, true)) / 8388608,
  [`${PCM} 32`]: (view, at) => view.getInt32(at, true) / 2147483648,
  [`${FLOAT} 32`]: (view, at) => view.getFloat32(at, true),
  [`${FLOAT} 64`]: (view, at) => view.getFloat64(at, true),
};

/** What the header of a wav file says; null for another kind of file, and for formats that are not read here.
 *
 * @param {Blob} file
 * @returns {Promise<{sampleRate: number, nChannels: number, nSamples: number, start: number, format: string} | null>}
 *     `start` is where the samples begin.
 */
export async function readHeader(file) {
  const read = async (start, n) => new DataView(await file.slice(start, start + n).arrayBuffer());
  const text = (view, at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
  const riff = await read(0, 12);
  if (riff.byteLength < 12 || text(riff, 0) !== "RIFF" || text(riff, 8) !== "WAVE") return null;
  let header = null;
  for (let at = 12; at + 8 <= file.size;) {
    const chunk = await read(at, 8 + 40);
    const [name, nBytes] = [text(chunk, 0), chunk.getUint32(4, true)];
    if (name === "fmt " && chunk.byteLength >= 24) {
      let code = chunk.getUint16(8, true);
      if (code === EXTENSIBLE && chunk.byteLength >= 34) code = chunk.getUint16(32, true);
      const [nChannels, sampleRate] = [chunk.getUint16(10, true), chunk.getUint32(12, true)];
      const [frame, bits] = [chunk.getUint16(20, true), chunk.getUint16(22, true)];
      const format = `${code} ${bits}`;
      if (!READERS[format] || !nChannels || !sampleRate || frame !== (nChannels * bits) / 8) return null;
      header = {sampleRate, nChannels, format, frame};
    } else if (name === "data") {
      if (!header) return null;
      const {frame, ...rest} = header;
      const start = at + 8;
      const nPresent = file.size - start;
      const nUsed = Math.min(nBytes || nPresent, nPresent); // 0: the recorder was stopped before it wrote the size
      return {...rest, start, nSamples: Math.floor(nUsed / frame)};
    }
    at += 8 + nBytes + (nBytes % 2);
  }
  return null;
}

/** The samples of one channel of a wav file in blocks; channel null is the mean of all channels. */
export async function* readChannel(file, {nChannels, nSamples, start, format}, channel) {
  const bytes = Number(format.split(" ")[1]) / 8;
  const frame = nChannels * bytes;
  for (let done = 0; done < nSamples; done += BLOCK) {
    const n = Math.min(BLOCK, nSamples - done);
    const from = start + done * frame;
    const view = new DataView(await file.slice(from, from + n * frame).arrayBuffer());
    const samples = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      if (channel !== null) {
        samples[i] = READERS[format](view, i * frame + channel * bytes);
      } else {
        let sum = 0;
        for (let k = 0; k < nChannels; k++) sum += READERS[format](view, i * frame + k * bytes);
        samples[i] = sum / nChannels;
      }
    }
    yield samples;
  }
}

/** A wav file of 16 bits, rounded and clipped at full scale.
 *
 * @param {Float32Array[]} channels of the same length, full scale 1.
 * @param {number} gain factor for all samples.
 */
export function encodeWav(channels, sampleRate, gain = 1) {
  const nSamples = channels[0].length;
  const nBytes = 2 * nSamples * channels.length;
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + nBytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, channels.length, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * channels.length * sampleRate, true);
  header.setUint16(32, 2 * channels.length, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, nBytes, true);
  const parts = [header.buffer];
  for (let start = 0; start < nSamples; start += BLOCK) {
    const n = Math.min(BLOCK, nSamples - start);
    const samples = new DataView(new ArrayBuffer(2 * n * channels.length));
    for (let i = 0, at = 0; i < n; i++) {
      for (const channel of channels) {
        const value = Math.round(gain * channel[start + i] * 32768);
        samples.setInt16(at, Math.max(-32768, Math.min(32767, value)), true);
        at += 2;
      }
    }
    parts.push(samples.buffer);
  }
  return new Blob(parts, {type: "audio/wav"});
}
