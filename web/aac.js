/* AAC files, made by the browser where it has an encoder: Safari, and Chromium on Android, Windows and macOS. */

const CONFIG = {codec: "mp4a.40.2", bitrate: 192_000, aac: {format: "adts"}}; // ADTS needs no container
const BLOCK = 2 ** 14; // samples that are given to the encoder at a time

/** Whether this browser encodes AAC. */
export async function canEncodeAac() {
  try {
    const settings = {...CONFIG, sampleRate: 44100, numberOfChannels: 2};
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
  encoder.configure({...CONFIG, sampleRate, numberOfChannels});
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
