/* The page: recordings in, the work handed to worker.js, pictures and players out. */

import {canEncodeAac, encodeAac, encodeWav} from "./encoders.js";
import {MARGIN, draw} from "./picture.js";
import {Player} from "./player.js";
import {truePeak} from "./signal.js";

const RATE = 44100; // of everything in the page, as of the networks; other recordings are resampled by the browser
const MAX_MINUTES = 10;
const MAX_BYTES = 2.5e8; // of a file: a longer or finer recording would take more than 1 GB when it is decoded
const TRUE_PEAK = 10 ** (-1 / 20); // of a file as loud as possible: -1 dB of full scale
const MAX_INPUT_GAIN = 100; // 40 dB: more would convert the noise of an empty recording
const SILENCE = 1e-5; // peak below which a recording counts as silent

const PICTURE = {sample_rate: RATE, n_fft: 1024, hop_length: 512}; // the spectrogram that is shown

const EMPTY = { // what the cards say while there is nothing on them
  input: ["Hum, or drop a recording", `Any audio file up to ${MAX_MINUTES} minutes`],
  style: ["The sound to imitate", "A few seconds of the instrument"],
};

const FORMATS = { // that browsers decode
  wav: "audio/wav", flac: "audio/flac", mp3: "audio/mpeg", "m4a (AAC)": 'audio/mp4; codecs="mp4a.40.2"',
  "ogg (Vorbis)": 'audio/ogg; codecs="vorbis"', opus: 'audio/ogg; codecs="opus"', webm: 'audio/webm; codecs="opus"',
};

const find = (id) => document.getElementById(id);
const capitalize = (text) => text[0].toUpperCase() + text.slice(1);

/** What a user can put right; its text is shown as it is. */
class InputError extends Error {}

const state = {
  manifest: null,
  worker: null,
  task: 0, // number of the last task given to the worker
  pending: {}, // by the number of the task: {about, resolve, reject, sources, onMessage}
  input: null, // {buffer, name, peak, power, picture}
  queue: [], // files to convert after it
  style: null, // the same
  output: null, // the same without name, with model, and `made`: the buffer before the input was blended in
  hasChosen: false, // whether the user has chosen the instrument
  converting: false,
  note: {text: "", isBad: false}, // how the last conversion ended
  recorder: null,
  loading: {input: 0, style: 0}, // number of the last recording whose loading began
  frame: 0, // of the animation of the playheads
};
const player = new Player(() => showTransport());

// --- start -----------------------------------------------------------------------------------------------------------

start();

async function start() {
  const response = await fetch("models.json").catch(() => null);
  if (typeof WebAssembly !== "object" || !response?.ok) {
    find("starting").className = "fatal";
    find("starting").textContent = response?.ok ? "This browser has no WebAssembly, or it is switched off."
      : "The list of models is missing. Is the server running, and was the page built by “make web”?";
    return;
  }
  state.manifest = await response.json();
  listTargets();
  listen();
  find("format").hidden = !(await canEncodeAac());
  for (const kind of ["input", "style"]) showCard(kind);
  find("starting").hidden = true;
  find("main").hidden = false;
  showSounds();
  navigator.serviceWorker?.register("offline.js").catch(() => {}); // without it the page works, but only online
}

function listTargets() {
  state.manifest.models.forEach((model, index) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, {type: "radio", name: "target", value: String(index), checked: index === 0});
    const text = document.createElement("span");
    text.textContent = capitalize(model.title);
    label.append(input, text);
    find("targets").append(label);
  });
}

function chosenModel() {
  return state.manifest.models[Number(document.querySelector("input[name=target]:checked").value)];
}

const isHum = (model) => model.system === "hum2guitar";

/** Offer whoever records what turns a hum into a guitar, until another instrument was chosen. */
function chooseHum() {
  const index = state.manifest.models.findIndex(isHum);
  if (index < 0 || state.hasChosen) return;
  document.querySelectorAll("input[name=target]")[index].checked = true;
  showState();
}

function listen() {
  for (const kind of ["input", "style"]) {
    const field = find(`${kind}-file`);
    find(`${kind}-choose`).addEventListener("click", () => field.click());
    find(`${kind}-close`).addEventListener("click", () => {
      showError(kind);
      find(`${kind}-choose`).focus();
    });
    field.addEventListener("change", () => {
      if (field.files.length) take(kind, [...field.files]);
      field.value = "";
    });
  }
  find("example").addEventListener("click", () => {
    loadExample("input", isHum(chosenModel()) ? state.manifest.hum_example : state.manifest.example);
  });
  find("style-example").addEventListener("click", () => loadExample("style", state.manifest.style_example));
  find("record").addEventListener("click", () => (state.recorder ? state.recorder.stop() : record()));
  listenToDrops();
  find("targets").addEventListener("change", () => {
    state.hasChosen = true;
    showState();
  });
  find("level").addEventListener("change", drawPlots);
  find("mix").addEventListener("input", () => {
    find("mix-value").textContent = `${find("mix").value} %`;
  });
  find("mix").addEventListener("change", mixAgain);
  find("convert").addEventListener("click", convertAll);
  find("cancel").addEventListener("click", () => cancel("output"));
  find("play").addEventListener("click", () => (player.playing ? player.stop() : player.play()));
  for (const id of ["hear-input", "hear-output"]) {
    find(id).addEventListener("change", () => player.choose(Number(find(id).value)));
  }
  find("position").addEventListener("input", () => player.seek(Number(find("position").value)));
  for (const canvas of find("plots").querySelectorAll("canvas")) canvas.addEventListener("click", seekInPicture);
  find("download").addEventListener("click", download);
  new ResizeObserver(() => drawPlots()).observe(find("plots"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawPlots());
}

function listenToDrops() {
  const kindAt = (event) => (find("style").contains(event.target) ? "style" : "input");
  const mark = (kind) => {
    find("input").classList.toggle("over", kind === "input");
    find("style").classList.toggle("over", kind === "style");
  };
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(kindAt(event));
  });
  document.addEventListener("dragleave", () => mark(null));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(null);
    if (event.dataTransfer.files.length) take(kindAt(event), [...event.dataTransfer.files]);
  });
}

// --- recordings in ---------------------------------------------------------------------------------------------------

/** Take the first file as the recording or the style, and the others as the recordings that follow it. */
function take(kind, [file, ...others]) {
  if (kind === "input") state.queue = others;
  return load(kind, file, file.name);
}

async function loadExample(kind, {file, title}) {
  if (kind === "input") state.queue = [];
  const response = await fetch(file).catch(() => null);
  if (response?.ok) await load(kind, await response.blob(), capitalize(title));
  else showError(kind, "The example could not be loaded. Is the server running?");
}

/** Take a file as the recording or as the style: decode it, check it, draw it. Whether it is there in the end. */
async function load(kind, file, name, maxChannels = 2) {
  const number = ++state.loading[kind];
  const isCurrent = () => number === state.loading[kind];
  cancel(kind, "output");
  showError(kind);
  showCard(kind, name, "Reading …");
  try {
    const buffer = await decode(kind, file, maxChannels, () => isCurrent() && forget(kind));
    if (!isCurrent()) return false;
    const sound = {buffer, name, ...measure(buffer), picture: null};
    if (!Number.isFinite(sound.power)) throw new InputError(`“${name}” has samples that are no finite numbers.`);
    if (!(sound.peak > SILENCE)) throw new InputError(`“${name}” is silent.`);
    forget(kind);
    state[kind] = sound;
    showSounds();
    if (kind === "input") await drawPicture(sound, "input");
    return isCurrent();
  } catch (error) {
    if (!isCurrent()) return false;
    showCard(kind);
    if (!(error instanceof InputError)) throw error;
    showError(kind, error.message);
    return false;
  }
}

/** Let go of a recording and of the result that was made of it. */
function forget(kind) {
  Object.assign(state, {[kind]: null, output: null, note: {text: "", isBad: false}});
  player.setSounds([]);
  showSounds();
}

/** Decode a file to an AudioBuffer at RATE.
 *
 * @param {number} maxChannels of more channels the mean is taken.
 * @param {() => void} makeRoom called when the file looks good, before it takes memory.
 * @throws {InputError} it is no audio, too long or too large.
 */
async function decode(kind, file, maxChannels, makeRoom) {
  if (!file.size) throw new InputError("This file is empty.");
  if (file.size > MAX_BYTES) {
    throw new InputError(`The page takes files up to ${MAX_BYTES / 1e6} MB. predict.py has no such limit.`);
  }
  const seconds = await readDuration(file);
  checkDuration(seconds);
  if (!Number.isNaN(seconds)) makeRoom();
  const rate = await readRate(file);
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new InputError(`This is not audio that this browser can decode. It knows ${listFormats()}.`);
  }
  checkDuration(buffer.duration);
  if (buffer.numberOfChannels > maxChannels) buffer = mixDown(buffer);
  return rate === RATE ? buffer : resample(kind, buffer);
}

function listFormats() {
  const audio = document.createElement("audio");
  const known = Object.keys(FORMATS).filter((name) => audio.canPlayType(FORMATS[name]));
  return `${known.slice(0, -1).join(", ")} and ${known.at(-1)}`;
}

/** The sample rate of a wav file, which is then resampled as by predict.py; RATE, to which the browser resamples all
 * other files. */
async function readRate(file) {
  const start = new DataView(await file.slice(0, 28).arrayBuffer());
  const isWav = start.byteLength === 28 && start.getUint32(0) === 0x52494646 && start.getUint32(12) === 0x666d7420;
  const rate = isWav ? start.getUint32(24, true) : RATE; // after "RIFF" and "fmt "
  return rate >= 8000 && rate <= 96_000 ? rate : RATE; // the rates that all browsers have
}

/** Have the worker resample a recording to RATE. */
async function resample(kind, recording) {
  const {length: nSamples, numberOfChannels: nChannels, sampleRate: fromRate} = recording;
  const length = Math.max(1, Math.round((nSamples * RATE) / fromRate));
  const buffer = new AudioBuffer({length, numberOfChannels: nChannels, sampleRate: RATE});
  const order = {type: "resample", source: kind, nSamples, nChannels, fromRate, toRate: RATE};
  await ask(kind, order, {[kind]: recording}, ({channel, start, samples}) => {
    buffer.copyToChannel(samples, channel, start);
  });
  return buffer;
}

function checkDuration(seconds) {
  if (Number.isFinite(seconds) && seconds > 60 * MAX_MINUTES + 0.5) {
    throw new InputError(`This recording lasts ${formatTime(seconds)} minutes. The page takes up to ${MAX_MINUTES}, ` +
      "because everything has to fit into the memory of the browser. predict.py has no such limit.");
  }
}

/** The duration in seconds that a media file announces, before it is decoded; NaN where it announces none. */
function readDuration(file) {
  return new Promise((resolve) => {
    const audio = new Audio(URL.createObjectURL(file));
    audio.preload = "metadata";
    audio.onloadedmetadata = audio.onerror = () => {
      resolve(audio.duration);
      URL.revokeObjectURL(audio.src);
    };
  });
}

/** The mean of all channels as a recording of one channel. */
function mixDown(buffer) {
  const mixed = new AudioBuffer({length: buffer.length, sampleRate: buffer.sampleRate});
  const sum = mixed.getChannelData(0);
  for (const samples of getChannels(buffer)) samples.forEach((value, i) => (sum[i] += value / buffer.numberOfChannels));
  return mixed;
}

/** Greatest absolute sample and mean square of a recording. */
function measure(buffer) {
  let peak = 0;
  let square = 0;
  for (const samples of getChannels(buffer)) {
    for (const value of samples) {
      if (Math.abs(value) > peak) peak = Math.abs(value);
      square += value * value;
    }
  }
  return {peak, power: square / (buffer.length * buffer.numberOfChannels)};
}

/** Record from the microphone until the button is pressed again, then load what was recorded. */
async function record() {
  showError("input");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1},
    });
  } catch (error) {
    showError("input", error.name === "NotAllowedError"
      ? "The browser does not allow this page to use the microphone." : "No microphone was found.");
    return;
  }
  player.stop();
  const chunks = [];
  const recorder = new MediaRecorder(stream, {audioBitsPerSecond: 256_000});
  const started = performance.now();
  const showSeconds = () => {
    const seconds = (performance.now() - started) / 1000;
    find("record").textContent = `Stop ${formatTime(seconds)}`;
    if (seconds > 60 * MAX_MINUTES) recorder.stop();
  };
  const timer = setInterval(showSeconds, 200);
  recorder.addEventListener("dataavailable", ({data}) => chunks.push(data));
  recorder.addEventListener("stop", () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    state.recorder = null;
    find("record").classList.remove("on");
    find("record").textContent = "Record";
    state.queue = [];
    load("input", new Blob(chunks, {type: recorder.mimeType}), "Recording from the microphone", 1);
  });
  state.recorder = recorder;
  recorder.start();
  find("record").classList.add("on");
  showSeconds();
  showCard("input", "Recording …", "A melody: one note at a time");
  chooseHum();
}

// --- the worker ------------------------------------------------------------------------------------------------------

/** Give the worker a task; what it answers, null if the task was cancelled.
 *
 * @param {"input" | "style" | "output"} about the sound that the task makes or reads.
 * @param {object} order type and contents of the task; see worker.js.
 * @param {object} sources the AudioBuffers that the worker may read, by name.
 * @param {(message: object) => void} onMessage told of everything that is not the end.
 */
function ask(about, order, sources, onMessage = () => {}) {
  if (!state.worker) {
    state.worker = new Worker("worker.js", {type: "module"});
    state.worker.addEventListener("message", ({data}) => receive(data));
    state.worker.addEventListener("error", (event) => {
      event.preventDefault();
      const error = new Error(event.message || "the worker did not start");
      for (const task of Object.values(state.pending)) task.reject(error);
      state.worker.terminate();
      Object.assign(state, {worker: null, pending: {}});
    });
  }
  const task = ++state.task;
  return new Promise((resolve, reject) => {
    state.pending[task] = {about, resolve, reject, sources, onMessage};
    state.worker.postMessage({...order, task});
  });
}

function receive(message) {
  const task = state.pending[message.task];
  if (!task) return;
  if (["done", "cancelled", "failed"].includes(message.type)) delete state.pending[message.task];
  if (message.type === "read") {
    const {source, start, n} = message;
    const channels = getChannels(task.sources[source]).map((samples) => samples.slice(start, start + n));
    state.worker.postMessage({type: "samples", channels}, channels.map((samples) => samples.buffer));
  } else if (message.type === "failed") {
    task.reject(new Error(message.message));
  } else if (message.type === "done" || message.type === "cancelled") {
    task.resolve(message.type === "done" ? message : null);
  } else {
    task.onMessage(message);
  }
}

/** Compute the spectrogram of a sound and draw it. */
async function drawPicture(sound, source) {
  const order = {type: "spectrogram", source, nSamples: sound.buffer.length, settings: PICTURE};
  try {
    sound.picture = await ask(source, order, {[source]: sound.buffer});
  } catch (error) {
    showNote(`The pictures cannot be drawn: ${error.message}.`, true);
  }
  drawPlots();
}

// --- conversion ------------------------------------------------------------------------------------------------------

/** Convert the recording. If others follow it, download the result of each and go on with the next one. */
async function convertAll() {
  if (state.converting || !state.input) return;
  const {queue} = state;
  const nFiles = queue.length + 1;
  const leftOut = [];
  state.converting = true;
  let isDone = await convert();
  while (nFiles > 1) {
    if (isDone) await download();
    if (isDone === null || state.queue !== queue || !queue.length) break; // cancelled, or other files were chosen
    const file = queue.shift();
    showProgress(0, `Reading ${file.name}`);
    isDone = await load("input", file, file.name);
    if (isDone) isDone = await convert();
    else if (state.queue === queue) leftOut.push(file.name);
  }
  state.converting = false;
  if (nFiles > 1 && isDone !== null && state.queue === queue) {
    const list = leftOut.length ? ` Left out: ${leftOut.join(", ")}.` : "";
    showNote(`${nFiles - leftOut.length} of ${nFiles} recordings converted and downloaded.${list}`, leftOut.length > 0);
  }
  showState();
  if (state.output && matchMedia("(max-width: 62rem)").matches) find("convert-note").scrollIntoView();
}

/** Convert the recording; whether there is a result, null if the conversion was cancelled. */
async function convert() {
  const {input, style} = state;
  const model = chosenModel();
  const {length, numberOfChannels, duration} = input.buffer;
  const made = new AudioBuffer({length, numberOfChannels, sampleRate: RATE});
  const order = {
    type: "convert", model, nSamples: length, nChannels: numberOfChannels,
    nStyleSamples: style ? style.buffer.length : 0,
    inputGain: model.input_level === "peak" ? Math.min(1 / input.peak, MAX_INPUT_GAIN) : 1,
    nProcessors: navigator.hardwareConcurrency || 1, sampleRate: RATE,
  };
  const sources = {input: input.buffer, style: style?.buffer};
  showNote("");
  showProgress(0, "Loading the network");
  const started = performance.now();
  const warnings = new Set();
  let nMade = 0; // samples
  let isCancelled = false;
  try {
    const answer = await ask("output", order, sources, (message) => {
      if (message.type === "loading") {
        const percent = Math.round(100 * message.share);
        showProgress(message.share, percent < 100 ? `Loading the network, ${percent} %` : "Starting the network");
      } else if (message.type === "loaded") {
        keepOffline(model);
        showProgress(0, `0 of ${duration.toFixed(0)} s`);
      } else if (message.type === "warning") {
        warnings.add(` ${capitalize(message.text)}.`);
      } else {
        const {channel, start, samples} = message;
        made.copyToChannel(samples, channel, start);
        nMade += samples.length;
        const share = nMade / (length * numberOfChannels);
        showProgress(share, `${(share * duration).toFixed(0)} of ${duration.toFixed(0)} s`);
      }
    });
    isCancelled = !answer;
    if (answer && input === state.input) {
      const power = measure(made).power;
      if (!Number.isFinite(power)) throw new Error("it made no finite samples");
      state.output = mix({made, madePower: power, model});
      const seconds = (performance.now() - started) / 1000;
      showNote(`Done in ${seconds.toFixed(1)} s.${[...warnings].join("")}`);
    }
  } catch (error) {
    showNote(`The conversion failed: ${error.message}`, true);
  }
  if (isCancelled) showNote("Cancelled.");
  showSounds();
  if (state.output && !state.output.picture) await drawPicture(state.output, "output");
  return isCancelled ? null : Boolean(state.output);
}

/** The result with as much of the recording blended in, at equal loudness, as the slider says (`--mix`). */
function mix(output) {
  const {made, madePower} = output;
  const share = Number(find("mix").value) / 100;
  let buffer = made;
  if (share) {
    const gain = Math.sqrt(madePower / state.input.power);
    buffer = new AudioBuffer({length: made.length, numberOfChannels: made.numberOfChannels, sampleRate: RATE});
    getChannels(state.input.buffer).forEach((samples, channel) => {
      const from = made.getChannelData(channel);
      buffer.copyToChannel(samples.map((x, i) => share * gain * x + (1 - share) * from[i]), channel);
    });
  }
  return {...output, buffer, ...measure(buffer), truePeak: truePeak(getChannels(buffer)), picture: null};
}

async function mixAgain() {
  if (!state.output || state.converting) return;
  state.output = mix(state.output);
  showSounds();
  await drawPicture(state.output, "output");
}

/** End the worker's tasks about these sounds: "input", "style" or "output". */
function cancel(...sounds) {
  for (const [task, {about}] of Object.entries(state.pending)) {
    if (sounds.includes(about)) state.worker.postMessage({type: "cancel", task: Number(task)});
  }
}

function getChannels(buffer) {
  return Array.from({length: buffer.numberOfChannels}, (_, channel) => buffer.getChannelData(channel));
}

/** Have the model among the files that the service worker keeps; browsers may keep none. */
function keepOffline(model) {
  const files = [model, model.pitch, model.inverse].filter(Boolean).map(({file}) => file);
  self.caches?.open("timbre-transfer").then((cache) => cache.addAll(files)).catch(() => {});
}

/** The factor that gives the result the level asked for, as conversion/recordings.py has it. */
function levelGain() {
  const {input, output} = state;
  if (!output?.peak) return 1;
  const level = find("level").value;
  if (level === "normalize") return TRUE_PEAK / output.truePeak;
  if (level === "peak") return 1 / output.peak;
  const gain = level === "match" ? Math.sqrt(input.power / output.power) : 1;
  return gain * output.peak > 1 ? 1 / output.peak : gain;
}

async function download() {
  const {buffer, model} = state.output;
  const link = document.createElement("a");
  const format = find("format").value;
  const encode = format === "aac" ? encodeAac : encodeWav;
  const name = `${state.input.name.replace(/\.\w{1,5}$/, "")} - ${model.title}.${format}`;
  link.href = URL.createObjectURL(await encode(getChannels(buffer), RATE, levelGain()));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function showState() {
  const model = chosenModel();
  const isMultitarget = model.in_channels === 2;
  find("style").hidden = !isMultitarget;
  find("convert").hidden = Boolean(state.converting);
  find("work").hidden = !state.converting;
  const what = state.queue.length ? `${state.queue.length + 1} recordings ` : "";
  find("convert").textContent = `Convert ${what}to ${isMultitarget ? "this instrument" : model.title}`;
  find("convert").disabled = !state.input || (isMultitarget && !state.style);
  const article = /^[aeiou]/.test(model.origin) ? "an" : "a";
  const hint = !state.input ? `The network expects a recording of ${article} ${model.origin}.`
    : find("convert").disabled ? "Add a recording of the instrument first." : "";
  find("convert-note").textContent = state.converting ? "" : hint || state.note.text;
  find("convert-note").classList.toggle("bad", !hint && state.note.isBad);
}

/** Show on the card of the recording or of the style what is there, or `name` and `facts`. */
function showCard(kind, name, facts) {
  const sound = state[kind];
  let texts = name ? [name, facts] : EMPTY[kind];
  if (!name && sound) {
    const channels = sound.buffer.numberOfChannels === 1 ? "mono" : "stereo";
    texts = [sound.name, `${formatTime(sound.buffer.duration)} · ${channels}`];
  }
  [find(`${kind}-name`).textContent, find(`${kind}-facts`).textContent] = texts;
  find(`${kind}-name`).title = texts[0];
}

/** Give the player and the pictures the sounds there are. */
function showSounds() {
  const {input, output} = state;
  for (const kind of ["input", "style"]) if (state[kind]) showCard(kind);
  const sounds = [input, output].filter(Boolean);
  player.setSounds(sounds);
  for (const id of ["play", "position"]) find(id).disabled = !input;
  find("hear-output").disabled = find("download").disabled = !output;
  find("position").max = player.duration || 1;
  const title = output ? capitalize(output.model.title) : "Result";
  find("hear-title").textContent = find("output-caption").textContent = title;
  if (output) player.choose(1);
  showState();
  drawPlots();
}

function drawPlots() {
  const maxHertz = 11025; // above it the networks make nothing
  const seconds = state.input ? state.input.buffer.duration : 10;
  for (const [kind, offset] of [["input", 0], ["output", 20 * Math.log10(levelGain())]]) {
    const canvas = find(`plot-${kind}`).querySelector("canvas");
    if (!canvas.clientWidth) return;
    draw(canvas, state[kind]?.picture, {seconds, maxHertz, offset});
    find(`plot-${kind}`).classList.toggle("filled", Boolean(state[kind]?.picture));
  }
  showPosition();
}

function showTransport() {
  const {playing, chosen} = player;
  find("play").classList.toggle("playing", Boolean(playing));
  find("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  find(chosen ? "hear-output" : "hear-input").checked = true;
  ["input", "output"].forEach((kind, i) => find(`plot-${kind}`).classList.toggle("heard", chosen === i));
  showPosition();
}

function showPosition() {
  cancelAnimationFrame(state.frame);
  if (player.playing) state.frame = requestAnimationFrame(showPosition);
  const {position, duration} = player;
  find("time").textContent = `${formatTime(position)} / ${formatTime(duration)}`;
  find("position").value = position;
  find("position").setAttribute("aria-valuetext", `${formatTime(position)} of ${formatTime(duration)}`);
  for (const element of find("plots").querySelectorAll(".playhead")) {
    element.hidden = !position && !player.playing;
    const width = element.parentElement.clientWidth - MARGIN.left - MARGIN.right;
    element.style.transform = `translateX(${MARGIN.left + (duration ? (width * position) / duration : 0)}px)`;
  }
}

function seekInPicture(event) {
  const {width, left} = event.currentTarget.getBoundingClientRect();
  const share = (event.clientX - left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
  player.seek(share * player.duration);
}

function showProgress(share, text) {
  find("progress").value = share;
  find("work-text").textContent = text;
}

/** Show a message over the card of the recording or of the style, so that nothing moves; without one, take it away. */
function showError(kind, message = "") {
  find(`${kind}-error`).hidden = !message;
  find(`${kind}-reason`).textContent = message;
}

function showNote(text, isBad = false) {
  state.note = {text, isBad};
  showState();
}

function formatTime(seconds) {
  const whole = Math.floor(seconds + 1e-6);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
