/* The work of the page, in a Web Worker, so that the page stays responsive.
 *
 * The page keeps the recordings and sends samples when it is asked for them; so this worker holds only a few seconds at
 * a time. Tasks run one after the other.
 *
 * From the page:                                          To the page:
 *   {type: "spectrogram", task, source, nSamples}           {type: "loading", task, share}, {type: "loaded", task}
 *   {type: "convert", task, model, settings, ...}           {type: "warning", task, text}
 *   {type: "resample", task, source, nSamples, ...}         {type: "read", task, source, start, n}
 *   {type: "samples", channels}                             {type: "made", task, channel, start, samples}
 *   {type: "cancel", task}                                  {type: "done" | "cancelled" | "failed", task, ...}
 */

import {chooseStyle, convert, spectrogram} from "./conversion.js";
import {convertHum, makeHumRepresentation} from "./hum.js";
import {download, loadNetwork} from "./network.js";
import {collect, resample} from "./resample.js";
import {makeRepresentation} from "./signal.js";

const BLOCK = 2 ** 16; // samples that are asked for at a time
const N_COLUMNS = 1600; // of a picture: no screen shows more

class Cancelled extends Error {}

let network = null;
let humTools = null; // what hum2guitar needs besides: {pitch: Network, representation, model}
let queue = Promise.resolve(); // ends with the last task
let answer = null; // resolves the promise of the samples asked for
const cancelled = new Set(); // tasks that have not ended yet

self.addEventListener("message", ({data}) => {
  if (data.type === "samples") answer(data.channels);
  else if (data.type === "cancel") cancelled.add(data.task);
  else queue = queue.then(() => run(data));
});

async function run(order) {
  const {task} = order;
  try {
    await check(task);
    const work = {resample: resampleRecording, spectrogram: drawSpectrogram, convert: convertRecording}[order.type];
    post({type: "done", ...(await work(order)), task});
  } catch (error) {
    if (error instanceof Cancelled) post({type: "cancelled", task});
    else post({type: "failed", task, message: error.message || String(error)});
  }
  cancelled.delete(task);
}

const post = (message, transfer = []) => self.postMessage(message, transfer);

/** Stop here if the task was cancelled. Messages are only received between two turns of the event loop. */
async function check(task) {
  await new Promise((resolve) => setTimeout(resolve));
  if (cancelled.has(task)) throw new Cancelled();
}

/** The samples of all channels of one of the page's recordings, block by block. */
async function* readBlocks(task, source, nSamples) {
  for (let start = 0; start < nSamples; start += BLOCK) {
    const channels = await new Promise((resolve) => {
      answer = resolve;
      post({type: "read", task, source, start, n: Math.min(BLOCK, nSamples - start)});
    });
    if (cancelled.has(task)) throw new Cancelled();
    yield channels;
  }
}

async function* map(stream, change) {
  for await (const value of stream) yield change(value);
}

/** The mean of all channels as a stream of one channel. */
function mixDown(stream) {
  return map(stream, (channels) => {
    return [channels[0].map((_, i) => channels.reduce((sum, samples) => sum + samples[i], 0) / channels.length)];
  });
}

/** Send the samples of channels to the page. */
async function send(task, pieces, firstChannel = 0) {
  let start = 0;
  for await (const channels of pieces) {
    await check(task);
    channels.forEach((samples, i) => {
      const copy = samples.slice(); // of its own buffer, which is handed over
      post({type: "made", task, channel: firstChannel + i, start, samples: copy}, [copy.buffer]);
    });
    start += channels[0].length;
  }
}

async function resampleRecording({task, source, nSamples, nChannels, fromRate, toRate}) {
  for (let channel = 0; channel < nChannels; channel++) {
    const blocks = map(readBlocks(task, source, nSamples), (channels) => channels[channel]);
    await send(task, map(resample(blocks, fromRate, toRate), (samples) => [samples]), channel);
  }
}

async function drawSpectrogram({task, source, nSamples, settings}) {
  const blocks = mixDown(readBlocks(task, source, nSamples));
  return spectrogram(blocks, nSamples, N_COLUMNS, makeRepresentation(settings));
}

/** Convert the recording; `inputGain` brings it to the network's level, and the output is divided by it. */
async function convertRecording(order) {
  const {task, model, nSamples, nStyleSamples, inputGain, nProcessors} = order;
  if (network?.model.file !== model.file) {
    await network?.release();
    network = null;
    network = await loadNetwork(model, nProcessors, (share) => post({type: "loading", task, share}));
  }
  await check(task);
  if (model.system === "hum2guitar") {
    await convertHums(order);
    return;
  }
  post({type: "loaded", task});
  const representation = makeRepresentation(model.representation);
  let style = null;
  if (model.in_channels === 2) {
    style = await chooseStyle(mixDown(readBlocks(task, "style", nStyleSamples)), representation);
    if (!style) throw new Error("The style recording is silent.");
  }
  const runNetwork = async (slice) => {
    await check(task);
    return network.run(slice, style);
  };
  const scale = (stream, gain) => map(stream, (channels) => channels.map((samples) => samples.map((x) => gain * x)));
  const scaled = scale(readBlocks(task, "input", nSamples), inputGain);
  await send(task, scale(convert(scaled, runNetwork, representation), 1 / inputGain));
}

/** Convert a hum, which is one melody: all channels get the guitar of their mean. */
async function convertHums({task, model, nSamples, nChannels, nProcessors, sampleRate}) {
  if (humTools?.model.file !== model.file) {
    const inverse = await download(new URL(model.inverse.file, import.meta.url), model.inverse.bytes);
    humTools = {
      model, pitch: await loadNetwork(model.pitch, nProcessors),
      representation: makeHumRepresentation(model, new Float32Array(inverse.buffer)),
    };
  }
  const {pitch, representation} = humTools;
  post({type: "loaded", task});
  const networks = {
    guitar: async (...input) => {
      await check(task);
      return network.runHum(...input);
    },
    pitch: (...input) => pitch.runPitch(...input),
  };
  const rate = representation.sampleRate;
  const blocks = map(mixDown(readBlocks(task, "input", nSamples)), ([samples]) => samples);
  const audio = await collect(resample(blocks, sampleRate, rate), Math.round((nSamples * rate) / sampleRate));
  const say = (text) => post({type: "warning", task, text});
  const made = resample(convertHum(audio, networks, representation, say), rate, sampleRate);
  await send(task, map(made, (samples) => Array(nChannels).fill(samples))); // of a sample too many, the page takes none
}
