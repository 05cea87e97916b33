/* Files for the download: wav, and AAC where the browser encodes it (Safari, and Chromium but for Linux). */

const BLOCK = 2 ** 14; // samples of each channel that are written at a time
const AAC = {codec: "mp4a.40.2", bitrate: 192_000, aac: {format: "adts"}}; // ADTS needs no container

/** A wav file of 16 bits, rounded and clipped at full scale.
 *
 * @param {Float32Array[]} channels of the same length, full scale 1.
 * @param {number} gain factor for all samples.
 */
export function encodeWav(channels, sampleRate, gain = 1) {
  const nSamples = channels[0].length;
  const frame = 2 * channels.length; // bytes
  const header = Uint32Array.of( // which all machines that run browsers write as wav files have it
    0x46464952, 36 + frame * nSamples, 0x45564157, // RIFF, bytes that follow, WAVE
    0x20746d66, 16, 1 | (channels.length << 16), sampleRate, frame * sampleRate, frame | (16 << 16), // fmt
    0x61746164, frame * nSamples, // data
  );
  const parts = [header];
  for (let start = 0; start < nSamples; start += BLOCK) {
    const n = Math.min(BLOCK, nSamples - start);
    const samples = new Int16Array(n * channels.length);
    for (let i = 0; i < samples.length; i++) {
      const value = channels[i % channels.length][start + Math.floor(i / channels.length)];
      samples[i] = Math.max(-32768, Math.min(32767, Math.round(gain * value * 32768)));
    }
    parts.push(samples);
  }
  return new Blob(parts, {type: "audio/wav"});
}

/** Whether this browser encodes AAC. */
export async function canEncodeAac() {
  try {
    const settings = {...AAC, sampleRate: 44100, numberOfChannels: 2};
    return (await AudioEncoder.isConfigSupported(settings)).supported;
  } catch {
    return false;
  }
}

/** An .aac file of channels of the same length, full scale 1, all multiplied by `gain`. */
export async function encodeAac(channels, sampleRate, gain = 1) {
  const parts = [];
  const encoder = new AudioEncoder({
    output: (chunk) => {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      parts.push(bytes);
    },
    error: () => {}, // flush() is rejected, too
  });
  const numberOfChannels = channels.length;
  encoder.configure({...AAC, sampleRate, numberOfChannels});
  for (let start = 0; start < channels[0].length; start += BLOCK) {
    const blocks = channels.map((channel) => channel.subarray(start, start + BLOCK));
    const numberOfFrames = blocks[0].length;
    const data = new Float32Array(numberOfFrames * numberOfChannels);
    blocks.forEach((block, i) => data.set(block.map((value) => gain * value), i * numberOfFrames));
    const timestamp = Math.round((1e6 * start) / sampleRate);
    const audio = new AudioData({format: "f32-planar", sampleRate, numberOfFrames, numberOfChannels, timestamp, data});
    encoder.encode(audio);
    audio.close();
  }
  await encoder.flush();
  encoder.close();
  return new Blob(parts, {type: "audio/aac"});
}
