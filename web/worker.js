/* The work of the page, in a Web Worker, so that the page stays responsive.
 *
 * The page keeps the recordings and sends samples when it is asked for them; so this worker holds only a few seconds at
 * a time. Tasks run one after the other.
 *
 * From the page:                                          To the page:
 *   {type: "spectrogram", task, source, nSamples}           {type: "spectrogram", task, ...}
 *   {type: "convert", task, model, settings, ...}           {type: "loading", task, share}, {type: "loaded", task}
 *   {type: "decode", task, file, header, ...}
 *   {type: "samples", task, samples}                        {type: "read", task, source, channel, start, n}
 *   {type: "cancel", task}                                  {type: "made", task, channel, start, samples}
 *                                                           {type: "done" | "cancelled" | "failed", task, message}
 */

import {chooseStyle, convert, spectrogram} from "./conversion.js";
import {collect, convertHum, makeHumRepresentation} from "./hum.js";
import {download, loadNetwork} from "./network.js";
import {resample} from "./resample.js";
import {makeRepresentation} from "./signal.js";
import {readChannel} from "./wav.js";

const BLOCK = 2 ** 16; // samples that are asked for at a time
const N_COLUMNS = 1600; // of a picture: no screen shows more

class Cancelled extends Error {}

let network = null;
let humTools = null; // what hum2guitar needs besides: {pitch: Network, representation, model}
let queue = Promise.resolve(); // ends with the last task
let answer = null; // resolves the promise of the samples asked for
const cancelled = new Set(); // tasks that have not ended yet

self.addEventListener("message", ({data}) => {
  if (data.type === "samples") {
    answer(data.samples);
  } else if (data.type === "cancel") {
    cancelled.add(data.task);
  } else {
    queue = queue.then(() => run(data));
  }
});

async function run(order) {
  const {task} = order;
  try {
    await check(task);
    const work = {decode: decodeWav, spectrogram: drawSpectrogram, convert: convertRecording}[order.type];
    const result = await work(order);
    post({...result, task});
  } catch (error) {
    if (error instanceof Cancelled) post({type: "cancelled", task});
    else post({type: "failed", task, message: error.message || String(error)});
  }
  cancelled.delete(task);
}

function post(message, transfer = []) {
  self.postMessage(message, transfer);
}

/** Stop here if the task was cancelled. Messages are only received between two turns of the event loop. */
async function check(task) {
  await new Promise((resolve) => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
  if (cancelled.has(task)) throw new Cancelled();
}

/** The samples of one of the page's recordings, block by block; channel null is the mean of the channels. */
async function* readBlocks(task, source, channel, nSamples) {
  for (let start = 0; start < nSamples; start += BLOCK) {
    const samples = await new Promise((resolve) => {
      answer = resolve;
      post({type: "read", task, source, channel, start, n: Math.min(BLOCK, nSamples - start)});
    });
    if (cancelled.has(task)) throw new Cancelled();
    yield samples;
  }
}

async function* scale(blocks, factor) {
  for await (const block of blocks) yield block.map((value) => value * factor);
}

/** Send the samples of channels, times `gain`, to the page. */
async function send(task, pieces, {gain = 1, firstChannel = 0}) {
  let start = 0;
  for await (const channels of pieces) {
    await check(task);
    channels.forEach((samples, i) => {
      const copy = samples.map((value) => gain * value); // of its own buffer, which is handed over
      post({type: "made", task, channel: firstChannel + i, start, samples: copy}, [copy.buffer]);
    });
    start += channels[0].length;
  }
}

async function* alone(blocks) {
  for await (const block of blocks) yield [block];
}

/** Read a wav file, at the page's sample rate; more than two channels become their mean. */
async function decodeWav({task, file, header, nChannels, sampleRate}) {
  for (let channel = 0; channel < nChannels; channel++) {
    const blocks = readChannel(file, header, header.nChannels === nChannels ? channel : null);
    await send(task, alone(resample(blocks, header.sampleRate, sampleRate)), {firstChannel: channel});
  }
  return {type: "done"};
}

async function drawSpectrogram({task, source, nSamples, settings}) {
  const representation = makeRepresentation(settings);
  const picture = await spectrogram(readBlocks(task, source, null, nSamples), nSamples, N_COLUMNS, representation);
  return {type: "spectrogram", ...picture};
}

/** Convert the recording; `inputGain` brings it to the network's level, and the output is divided by it. */
async function convertRecording({task, model, nSamples, nChannels, nStyleSamples, inputGain, nProcessors, sampleRate}) {
  if (network?.model.file !== model.file) {
    await network?.release();
    network = null;
    network = await loadNetwork(model, nProcessors, (share) => post({type: "loading", task, share}));
  }
  await check(task);
  if (model.system === "hum2guitar") {
    return convertHums({task, model, nSamples, nChannels, nProcessors, sampleRate});
  }
  post({type: "loaded", task});
  const representation = makeRepresentation(model.representation);
  let style = null;
  if (model.in_channels === 2) {
    style = await chooseStyle(readBlocks(task, "style", null, nStyleSamples), representation);
    if (!style) throw new Error("The style recording is silent.");
  }
  const runNetwork = async (slice) => {
    await check(task);
    return network.run(slice, style);
  };
  const channels = Array.from({length: nChannels}, (_, channel) => {
    return scale(readBlocks(task, "input", channel, nSamples), inputGain);
  });
  await send(task, convert(channels, runNetwork, representation), {gain: 1 / inputGain});
  return {type: "done"};
}

/** Convert a hum, each channel by itself. */
async function convertHums({task, model, nSamples, nChannels, nProcessors, sampleRate}) {
  if (humTools?.model.file !== model.file) {
    const inverse = await download(new URL(model.inverse.file, import.meta.url), model.inverse.bytes);
    humTools = {
      model, pitch: await loadNetwork(model.pitch, nProcessors),
      representation: makeHumRepresentation(model.representation, new Float32Array(inverse.buffer), model.plucks),
    };
  }
  const {pitch, representation} = humTools;
  post({type: "loaded", task});
  const checked = async (run) => {
    await check(task);
    return run();
  };
  const networks = {
    guitar: (...input) => checked(() => network.runHum(...input)),
    pitch: (...input) => checked(() => pitch.runPitch(...input)),
  };
  const rate = representation.sampleRate;
  for (let channel = 0; channel < nChannels; channel++) {
    const blocks = resample(readBlocks(task, "input", channel, nSamples), sampleRate, rate);
    const audio = await collect(blocks, Math.round((nSamples * rate) / sampleRate));
    const say = (text) => post({type: "warning", task, text});
    const made = resample(convertHum(audio, networks, representation, say), rate, sampleRate);
    await send(task, alone(limit(made, nSamples)), {firstChannel: channel});
  }
  return {type: "done"};
}

async function* limit(blocks, nSamples) {
  let n = 0;
  for await (const block of blocks) {
    yield block.subarray(0, nSamples - n);
    n += block.length;
  }
}
