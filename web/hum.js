/* A hum to a guitar: a port of hum2guitar/ (converter.py, pitch.py, plucks.py, harmonics.py and mel_inverse.py).
 *
 * f0 is the pitch of each frame in Hz, 0 where unvoiced; level and power have nMels values for each frame; a note is
 * [first frame, frame after the last].
 */

import {resample} from "./resample.js";
import {emptySpectrum, fadeIn, magnitudes, makeRepresentation, normalizeOverlap, overlapAdd, stft} from "./signal.js";

const ANALYSIS_FRAMES = 432; // in which the pitch is tracked at a time (10 s)
const CONTEXT_FRAMES = 22; // analysed in addition on both sides
const LEAD_FRAMES = 8; // of silence before the sound, so that a note at its very start has its attack
const SYNTHESIS_FRAMES = 432; // that become audio at a time
const SHARED_FRAMES = 8; // of a chunk of audio that it shares with the next one, on each side
const OVERLAP = 0.25; // share of a window that is blended with the next one
const MIN_FRAMES = 16; // of the network's input
const MAX_GAIN_DB = 40; // of the correction of a frame's loudness
const ITERATIONS = 16; // of Griffin-Lim
const MOMENTUM = 0.99;
const [PEAK_BINS, PEAK_SHARE, SAME_PEAK_BINS] = [3, 0.01, 2]; // of mel_inverse.py

const SILENCE_DB = -60; // energy below which a frame is unvoiced
const [SWIFT_RATE, SWIFT_HOP, SWIFT_RANGE, SWIFT_SILENCE] = [16000, 256, [60, 2093], 1e-3]; // of SwiftF0
const SWIFT_NOISE = 1e-5; // amplitude of a steady noise that fills empty bands
const [BEGIN_CONFIDENCE, STAY_CONFIDENCE] = [0.5, 0.2]; // of SwiftF0, where a note begins, and after that
const STAY_OCTAVES = 1 / 12; // by which the pitch may change from one to the next of the less confident frames
const [OCTAVE_ERROR, OCTAVE_ERROR_HZ] = [0.1, 200];
const MAX_OCTAVES = 5; // that a melody is moved by
const MARGIN = 2 ** 0.5; // by which the range of the guitar is wider than that of nine tenths of the training

const NEW_NOTE_SEMITONES = 0.7; // change of pitch from one frame to the next that begins a note
const NEW_NOTE_DB = 6; // rise within two frames that begins a note
const [SWELL_FRAMES, ATTACK_FRAMES] = [12, 8];
const SEEN_DECAY = 10; // dB per second of the notes that the network sees
const [FIRST_DECAY, LATE_DECAY, DECAY_HZ, DECAY_EXPONENT, KNEE_SECONDS] = [20, 5, 261.6, 2 / 3, 0.8];
const EARLY_FRAMES = 1; // by which a note begins too early in what the network sees
const GAP_SECONDS = 0.006; // of silence before a note
const [FADE_SECONDS, RISE_SECONDS, RELEASE_DB_PER_SECOND, RELEASE_DB] = [0.01, 0.003, 200, 80];

const clip = (value, low, high) => Math.min(high, Math.max(low, value));
const toDecibels = (energy) => 10 * Math.log10(Math.max(energy, 1e-12));
const greatest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const median = (values) => {
  const sorted = Array.from(values).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

const round = (value) => { // Python's: halves go to the even number
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
};

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

/** Convert a hum to a guitar of the same length, both at `representation.sampleRate`.
 *
 * @param {Float32Array} audio
 * @param {object} networks `guitar(input, nBands, nFrames)`: level of harmonics to mel level, each band's frames one
 *     after the other; `pitch(audio, lowest, highest)`: {pitch, confidence} of SwiftF0's frames.
 * @param {object} representation from `makeHumRepresentation`.
 * @param {(line: string) => void} say told what the user should know about the melody.
 * @yields {Float32Array}
 */
export async function* convertHum(audio, networks, representation, say) {
  const {hopLength, f0Low, f0High, plucks} = representation;
  const melody = await listen(audio, networks.pitch, representation);
  const octaves = octavesIntoRange(melody, f0Low, f0High);
  let f0 = melody.f0.map((value) => value * 2 ** octaves);
  if (octaves) {
    const count = `${Math.abs(octaves)} octave${Math.abs(octaves) > 1 ? "s" : ""}`;
    say(`Moved ${octaves > 0 ? "up" : "down"} by ${count} into the range of the guitar.`);
  }
  const lead = (values) => [...new Array(LEAD_FRAMES).fill(0), ...values];
  f0 = lead(f0);
  const energy = lead(melody.energy);
  const notes = findNotes(f0, energy.map(toDecibels));
  const [seen, heard] = [false, true].map((isHeard) => (
    plucks ? pluck(notes, f0, energy, representation, isHeard) : [...energy]));
  for (const [start] of notes) {
    for (const row of [f0, seen, heard]) row.fill(row[start], Math.max(0, start - EARLY_FRAMES), start);
  }
  let position = -LEAD_FRAMES * hopLength; // of the next block in the output
  for await (const block of synthesise(predict(f0, seen, heard, networks.guitar, representation), representation)) {
    const gain = gate(notes, position + LEAD_FRAMES * hopLength, block.length, representation);
    const shaped = block.map((value, i) => value * gain[i]);
    const kept = shaped.subarray(Math.max(0, -position), Math.max(0, audio.length - position));
    position += block.length;
    if (kept.length) yield kept;
  }
}

/** The settings of a hum2guitar network with what is computed from them.
 *
 * @param {object} settings as hum2guitar.harmonics.HumRepresentation has them.
 * @param {Float32Array} inverse pseudo-inverse of the mel bands, nBins * nMels values.
 * @param {boolean} plucks whether the network was trained on plucked notes.
 */
export function makeHumRepresentation(settings, inverse, plucks) {
  const nBins = settings.n_fft / 2 + 1;
  const nMels = settings.n_mels;
  const representation = {
    ...makeRepresentation({...settings, n_bins: nBins}), nMels, inverse, plucks,
    binHz: settings.sample_rate / settings.n_fft, f0Low: settings.f0_low, f0High: settings.f0_high,
    mel: [settings.mel_ref_db, settings.mel_top_db],
    harmonics: [settings.harmonics_ref_db, settings.harmonics_top_db],
  };
  const bands = melBands(settings, nBins, representation.binHz);
  const share = new Float32Array(nBins);
  for (const {first, weights} of bands) weights.forEach((weight, i) => (share[first + i] += weight));
  return {...representation, bands, share};
}

/** The mel bands that are not 0: triangles of height 1 on Slaney's mel scale. */
function melBands({n_mels: nMels, f_min: low, f_max: high}, nBins, binHz) {
  const toMel = (hertz) => (hertz < 1000 ? 0.015 * hertz : 15 + (27 * Math.log(hertz / 1000)) / Math.log(6.4));
  const edges = Array.from({length: nMels + 2}, (_, i) => {
    const mel = toMel(low) + ((toMel(high) - toMel(low)) * i) / (nMels + 1);
    return mel < 15 ? (200 / 3) * mel : 1000 * 6.4 ** ((mel - 15) / 27);
  });
  return Array.from({length: nMels}, (_, band) => {
    const [left, middle, right] = edges.slice(band, band + 3);
    const first = Math.ceil(left / binHz);
    const last = Math.min(nBins - 1, Math.floor(right / binHz));
    const weights = Float32Array.from({length: Math.max(0, last - first + 1)}, (_, i) => {
      const hertz = (first + i) * binHz;
      return Math.max(0, Math.min((hertz - left) / (middle - left), 1 - (hertz - middle) / (right - middle)));
    });
    return {first, weights};
  });
}

/** Mel power of squared magnitudes of one frame, added into `power` from `at` on. */
function toBands(squared, from, {bands}, power, at) {
  bands.forEach(({first, weights}, band) => {
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += weights[i] * squared[from + first + i];
    power[at + band] = sum;
  });
}

/** Level in [-1, 1] of a power: 1 at `ref` dB; silence, `top` dB below that, is -1. */
function toLevel(power, [ref, top]) {
  const floor = 10 ** ((ref - top) / 10);
  return clip(((10 * Math.log10(power + floor) - ref) / top) * 2 + 1, -1, 1);
}

function fromLevel(level, [ref, top]) {
  return Math.max(0, 10 ** ((ref + ((level - 1) / 2) * top) / 10) - 10 ** ((ref - top) / 10));
}

// --- the melody ------------------------------------------------------------------------------------------------------

/** Pitch and energy of each frame of audio. */
async function listen(audio, trackPitch, representation) {
  const {hopLength} = representation;
  const melody = {f0: [], energy: []};
  let first = 0; // frame at which the analysis begins
  for (let nDone = 0, isLast = false; !isLast;) {
    const end = (nDone + ANALYSIS_FRAMES + CONTEXT_FRAMES) * hopLength;
    isLast = audio.length < end;
    const piece = audio.subarray(first * hopLength, isLast ? audio.length : end);
    const found = await analyse(piece, trackPitch, representation);
    for (const [name, values] of Object.entries(found)) {
      melody[name].push(...values.slice(nDone - first, isLast ? undefined : nDone - first + ANALYSIS_FRAMES));
    }
    nDone += ANALYSIS_FRAMES;
    first = Math.max(0, nDone - CONTEXT_FRAMES);
  }
  return melody;
}

async function analyse(audio, trackPitch, representation) {
  const {nBins, binHz, magnitudeScale} = representation;
  const spectrum = centredStft(audio, representation);
  const magnitude = magnitudes(spectrum, magnitudeScale);
  const energy = Array.from({length: spectrum.n}, (_, t) => {
    return magnitude.subarray(t * nBins, (t + 1) * nBins).reduce((sum, value) => sum + value * value, 0);
  });
  const audible = energy.map((value) => value > 10 ** (SILENCE_DB / 10));
  const tracked = audible.includes(true) ? await swiftF0(audio, spectrum.n, trackPitch, representation) : [];
  const f0 = audible.map((isAudible, t) => (isAudible ? tracked[t] : 0));
  return {f0: mendOctaves(f0, magnitude, nBins, binHz), energy};
}

/** Pitches without leaps of an octave within a note, where the second partial is far stronger than the first. */
function mendOctaves(f0, magnitude, nBins, binHz) {
  const peak = (t, multiple) => {
    const middle = clip(round((multiple * f0[t]) / binHz), 1, nBins - 2) + t * nBins;
    return Math.max(magnitude[middle - 1], magnitude[middle], magnitude[middle + 1]);
  };
  const mended = [...f0];
  for (let t = 1; t < f0.length; t++) {
    const isWrong = f0[t] > OCTAVE_ERROR_HZ && Math.sqrt(peak(t, 0.5) * peak(t, 1.5)) > OCTAVE_ERROR * peak(t, 1);
    if (isWrong && mended[t - 1] > 0 && mended[t - 1] < mended[t] / Math.SQRT2) mended[t] /= 2;
  }
  return mended;
}

/** A frame has the pitch of the two frames of SwiftF0 around it, interpolated, or that of the nearer one if the other is
 * unvoiced or of another note. */
async function swiftF0(audio, nFrames, trackPitch, {sampleRate, hopLength}) {
  const ratio = ((hopLength / sampleRate) * SWIFT_RATE) / SWIFT_HOP;
  const nNeeded = (Math.ceil(nFrames * ratio) + 2) * SWIFT_HOP;
  const resampled = await collect(resample([audio], sampleRate, SWIFT_RATE), nNeeded);
  const noisy = resampled.map((sample, i) => sample + SWIFT_NOISE * Math.sin(0.5 * i ** 2));
  const {pitch, confidence} = await trackPitch(noisy, ...SWIFT_RANGE);
  const octave = Array.from(pitch, (hertz) => Math.log2(Math.max(hertz, 1)));
  const areNear = (a, b) => Math.abs(octave[a] - octave[b]) < STAY_OCTAVES;
  const sure = Array.from(confidence, (value, t) => {
    const hop = noisy.subarray(t * SWIFT_HOP, (t + 1) * SWIFT_HOP);
    return hop.some((sample) => Math.abs(sample) >= SWIFT_SILENCE) ? value : 0;
  });
  const voiced = sure.map((value) => value >= BEGIN_CONFIDENCE);
  for (let t = 1; t < voiced.length; t++) {
    voiced[t] ||= voiced[t - 1] && sure[t] >= STAY_CONFIDENCE && areNear(t, t - 1);
  }
  return Array.from({length: nFrames}, (_, t) => {
    const place = t * ratio;
    const left = Math.floor(place);
    let share = place - left;
    if (!(voiced[left] && voiced[left + 1] && areNear(left, left + 1))) share = round(share);
    return voiced[round(place)] ? Math.fround(2 ** ((1 - share) * octave[left] + share * octave[left + 1])) : 0;
  });
}

/** The fewest octaves that move most of a melody's energy into the range. */
function octavesIntoRange({f0, energy}, low, high) {
  const total = energy.reduce((sum, value, t) => sum + (f0[t] > 0 ? value : 0), 0);
  if (!total) return 0;
  const octaves = Array.from({length: 2 * MAX_OCTAVES + 1}, (_, i) => i - MAX_OCTAVES);
  const inside = octaves.map((octave) => energy.reduce((sum, value, t) => {
    const moved = f0[t] * 2 ** octave;
    return moved >= low / MARGIN && moved <= high * MARGIN ? sum + value : sum;
  }, 0) / total);
  const enough = octaves.filter((_, i) => inside[i] >= Math.max(...inside) - 0.01);
  return enough.reduce((best, octave) => (Math.abs(octave) < Math.abs(best) ? octave : best));
}

// --- notes -----------------------------------------------------------------------------------------------------------

/** Notes begin where voicing begins, the pitch jumps or the energy rises suddenly. */
function findNotes(f0, decibels) {
  const n = f0.length;
  const isVoiced = (t) => f0[t] > 0;
  const semitones = f0.map((hertz) => 12 * Math.log2(hertz || 1));
  const jumps = f0.map((_, t) => isVoiced(t) && (
    t === 0 || !isVoiced(t - 1) || Math.abs(semitones[t] - semitones[t - 1]) > NEW_NOTE_SEMITONES));
  const rises = f0.map((_, t) => isVoiced(t) && t >= 2 && decibels[t] - decibels[t - 2] > NEW_NOTE_DB);
  const begins = f0.map((_, t) => jumps[t] || (rises[t] && !(t && (rises[t - 1] || jumps[t - 1]))));
  const notes = [];
  for (let t = 0; t <= n; t++) {
    if (t && isVoiced(t - 1) && (t === n || begins[t] || !isVoiced(t))) notes.at(-1)[1] = t;
    if (t < n && begins[t]) notes.push([t, n]);
  }
  return notes;
}

/** The energy of a melody whose notes are plucked: loudest at the onset, then falling as strings do in what is heard, or
 * as in training in what the network sees. */
function pluck(notes, f0, energy, {hopLength, sampleRate}, isHeard) {
  const decibels = energy.map(toDecibels);
  for (const [start, stop] of notes) {
    const loudest = Math.max(...decibels.slice(start, Math.min(stop, start + SWELL_FRAMES)));
    const faster = (median(f0.slice(start, stop)) / DECAY_HZ) ** DECAY_EXPONENT;
    for (let t = start; t < stop; t++) {
      const seconds = ((t - start) * hopLength) / sampleRate;
      const fall = FIRST_DECAY * Math.min(seconds, KNEE_SECONDS) + LATE_DECAY * Math.max(seconds - KNEE_SECONDS, 0);
      const falling = loudest - (isHeard ? fall * faster : SEEN_DECAY * seconds);
      decibels[t] = t - start < ATTACK_FRAMES ? falling : Math.min(decibels[t], falling);
    }
  }
  return decibels.map((value) => Math.fround(10 ** (value / 10)));
}

/** Gain that makes the attacks and the rests of `nSamples` of audio from sample `first` on. */
function gate(notes, first, nSamples, {hopLength, sampleRate}) {
  const gain = new Float32Array(nSamples);
  const frame = hopLength / sampleRate;
  let note = -1; // that has begun last
  for (let i = 0; i < nSamples; i++) {
    const seconds = (first + i) / sampleRate;
    while (note + 1 < notes.length && notes[note + 1][0] * frame <= seconds) note += 1;
    if (note < 0) continue;
    const [onset, end] = notes[note].map((t) => t * frame);
    const cut = note + 1 < notes.length ? notes[note + 1][0] * frame - GAP_SECONDS : Infinity;
    const rise = clip((seconds - onset) / RISE_SECONDS, 0, 1);
    const fade = clip((cut - seconds) / FADE_SECONDS, 0, 1);
    const fall = RELEASE_DB_PER_SECOND * Math.max(seconds - end, 0);
    gain[i] = Math.min(rise, fade) * (fall < RELEASE_DB ? 10 ** (-fall / 20) : 0);
  }
  return gain;
}

// --- the network -----------------------------------------------------------------------------------------------------

/** Mel levels that the network makes of a melody, in pieces, from overlapping windows that are blended. */
async function* predict(f0, seen, heard, network, representation) {
  const {nFrames, nMels} = representation;
  const nOverlap = round(OVERLAP * nFrames);
  const hop = nFrames - nOverlap;
  let carried = new Float32Array(0); // overlap of the last window with the next one
  for (let start = 0; start < Math.max(1, f0.length - nOverlap); start += hop) {
    const early = Math.max(0, Math.min(start, f0.length - nFrames));
    const window = [f0, seen, heard].map((row) => row.slice(early, early + nFrames));
    const level = (await predictWindow(...window, network, representation)).subarray((start - early) * nMels);
    const n = Math.min(carried.length, level.length) / nMels;
    const rising = fadeIn(n);
    for (let i = 0; i < n * nMels; i++) {
      const weight = rising[Math.floor(i / nMels)];
      level[i] = weight * level[i] + (1 - weight) * carried[i];
    }
    yield level.subarray(0, hop * nMels);
    carried = level.subarray(hop * nMels);
  }
  yield carried;
}

/** Mel level of a window, each frame as loud as it is to be heard. */
async function predictWindow(f0, seen, heard, network, representation) {
  const {nMels, nBins, inverse} = representation;
  const n = f0.length;
  const level = new Float32Array(n * nMels).fill(-1);
  const voiced = [...f0.keys()].filter((t) => f0[t] > 0);
  if (!voiced.length) return level;
  const length = Math.max(n, MIN_FRAMES);
  const input = new Float32Array(nMels * length).fill(-1);
  f0.forEach((hertz, t) => {
    const made = harmonicsLevel(hertz, seen[t], representation);
    for (let band = 0; band < nMels; band++) input[band * length + t] = made[band];
  });
  const output = await network(input, nMels, length);
  const power = new Float32Array(n * nMels);
  for (let i = 0; i < power.length; i++) {
    power[i] = fromLevel(output[(i % nMels) * length + Math.floor(i / nMels)], representation.mel);
  }
  const gains = voiced.map((t) => {
    const found = fromBands(power.subarray(t * nMels, (t + 1) * nMels), inverse, new Float32Array(nBins));
    return toDecibels(heard[t]) - toDecibels(found.reduce((sum, value) => sum + value, 0));
  });
  for (let t = 0, next = 0; t < n; t++) {
    while (next < voiced.length && voiced[next] < t) next += 1;
    const [before, after] = [Math.max(0, next - 1), Math.min(next, voiced.length - 1)];
    const gap = voiced[after] - voiced[before];
    const share = gap ? clip((t - voiced[before]) / gap, 0, 1) : 0;
    const factor = 10 ** (clip((1 - share) * gains[before] + share * gains[after], -MAX_GAIN_DB, MAX_GAIN_DB) / 10);
    for (let i = t * nMels; i < (t + 1) * nMels; i++) level[i] = toLevel(power[i] * factor, representation.mel);
  }
  return level;
}

/** The network's input for a frame: the mel level of a comb of harmonics that decays with the frequency. */
function harmonicsLevel(f0, energy, representation) {
  const {nBins, nMels, binHz} = representation;
  const squared = new Float32Array(nBins);
  const p = Math.fround(f0 / binHz);
  for (let k = 0; k < nBins && f0 > 0; k++) {
    const nearest = round(k / p);
    let comb = 0;
    for (let i = Math.max(1, nearest - 1); i <= nearest + 1; i++) {
      const harmonic = Math.fround(p * i);
      if (harmonic < nBins - 1) comb += Math.exp(-2 * (k - harmonic) ** 2);
    }
    const decay = (Math.exp((-5 * k) / (nBins - 1)) - Math.exp(-5)) / (1 - Math.exp(-5));
    squared[k] = (comb * energy * decay) ** 2;
  }
  const power = new Float32Array(nMels);
  toBands(squared, 0, representation, power, 0);
  return power.map((value) => toLevel(value, representation.harmonics));
}

/** Squared magnitudes of the bins of one frame of mel power, by the pseudo-inverse. */
function fromBands(power, inverse, squared) {
  for (let k = 0, at = 0; k < squared.length; k++) {
    let sum = 0;
    for (let band = 0; band < power.length; band++, at++) sum += inverse[at] * power[band];
    squared[k] = Math.max(0, sum);
  }
  return squared;
}

// --- mel levels to audio ---------------------------------------------------------------------------------------------

/** Audio of mel levels: chunks that share frames, each continuing the phase of the one before, crossfaded. */
async function* synthesise(levels, representation) {
  const {hopLength: hop, nMels} = representation;
  let waiting = new Float32Array(0);
  let nShared = 0; // of the first frames waiting that belong to the chunk before, too
  let tail = null; // audio of these frames
  const make = (level) => {
    const before = tail && centredStft(tail, representation);
    const power = level.map((value) => fromLevel(value, representation.mel));
    const audio = melToAudio(power, representation, before, nShared / 2);
    if (!tail) return audio;
    const n = Math.min(tail.length, audio.length);
    const quarter = Math.floor(n / 4);
    for (let i = 0; i < n; i++) {
      const weight = clip((i - quarter) / (n - 2 * quarter), 0, 1);
      audio[i] = weight * audio[i] + (1 - weight) * tail[i];
    }
    return audio;
  };
  const start = () => (tail ? (SHARED_FRAMES / 2) * hop : 0);
  for await (const level of levels) {
    const joined = new Float32Array(waiting.length + level.length);
    joined.set(waiting);
    joined.set(level, waiting.length);
    waiting = joined;
    while (waiting.length / nMels > nShared / 2 + SYNTHESIS_FRAMES + SHARED_FRAMES) {
      const n = nShared / 2 + SYNTHESIS_FRAMES + SHARED_FRAMES;
      const audio = make(waiting.subarray(0, n * nMels));
      yield audio.subarray(start(), (n - 1.5 * SHARED_FRAMES) * hop);
      nShared = 2 * SHARED_FRAMES;
      waiting = waiting.slice((n - nShared) * nMels);
      tail = audio.slice((n - nShared) * hop);
    }
  }
  yield make(waiting).subarray(start());
}

/** Audio whose mel power is close to `power`: the phase from the peaks of the spectrum, then fast Griffin-Lim that scales
 * the bins of the current magnitude by the ratio of the wanted to the current power of their bands. */
function melToAudio(power, representation, before, nBefore) {
  const {hopLength, nBins, nMels, inverse, bands, share, magnitudeScale} = representation;
  const n = power.length / nMels;
  const covered = hopLength * n - 1; // samples that have as many centred frames
  const wanted = power.map((value) => value / magnitudeScale ** 2);
  const guess = new Float32Array(n * nBins);
  for (let t = 0; t < n; t++) {
    fromBands(wanted.subarray(t * nMels, (t + 1) * nMels), inverse, guess.subarray(t * nBins, (t + 1) * nBins));
  }
  let spectrum = peakPhase(guess.map(Math.sqrt), n, representation, before, nBefore);
  const squared = new Float32Array(nBins);
  const current = new Float32Array(nMels);
  const spread = new Float32Array(nBins);
  let previous = null;
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const made = centredStft(centredIstft(spectrum, covered, representation), representation);
    spectrum = emptySpectrum(n, nBins);
    for (let t = 0; t < n; t++) {
      const at = t * nBins;
      for (let k = 0; k < nBins; k++) squared[k] = made.re[at + k] ** 2 + made.im[at + k] ** 2 + 1e-12;
      toBands(squared, 0, representation, current, 0);
      spread.fill(0);
      bands.forEach(({first, weights}, band) => {
        const ratio = wanted[t * nMels + band] / (current[band] + 1e-12);
        for (let i = 0; i < weights.length; i++) spread[first + i] += weights[i] * ratio;
      });
      for (let k = 0; k < nBins; k++) {
        let [re, im] = [made.re[at + k], made.im[at + k]];
        if (previous) {
          re += MOMENTUM * (re - previous.re[at + k]);
          im += MOMENTUM * (im - previous.im[at + k]);
        }
        const target = share[k] > 0 ? Math.sqrt((squared[k] * spread[k]) / share[k]) : 0;
        const factor = target / (Math.sqrt(re * re + im * im) + 1e-12);
        spectrum.re[at + k] = re * factor;
        spectrum.im[at + k] = im * factor;
      }
    }
    previous = made;
  }
  const audio = new Float32Array(hopLength * n);
  audio.set(centredIstft(spectrum, covered, representation));
  return audio;
}

/** A spectrum of these magnitudes whose phase follows from the frequencies of its peaks (Beauregard et al., 2015). */
function peakPhase(magnitude, n, {nBins, nFft, hopLength}, before, nBefore) {
  const spectrum = emptySpectrum(n, nBins);
  const floor = 1e-7 * greatest(magnitude) + 1e-20;
  let phase = null;
  let owner = null;
  for (let t = 0; t < n; t++) {
    const at = t * nBins;
    const frame = magnitude.subarray(at, at + nBins);
    const height = Float64Array.from(frame, (value) => Math.log(Math.max(value, floor)));
    const [lastPhase, lastOwner] = [phase, owner];
    owner = nearestPeaks(frame, height);
    phase = owner.map((peak, k) => {
      if (t < nBefore) return Math.atan2(before.im[at + k], before.re[at + k]);
      const isOld = t > 0 && Math.abs(lastOwner[peak] - peak) <= SAME_PEAK_BINS;
      const advance = ((2 * Math.PI * hopLength) / nFft) * (peak + peakOffset(height, peak));
      return ((isOld ? lastPhase[peak] : 0) + advance + Math.PI * (k - peak)) % (2 * Math.PI);
    });
    for (let k = 0; k < nBins; k++) {
      spectrum.re[at + k] = frame[k] * Math.cos(phase[k]);
      spectrum.im[at + k] = frame[k] * Math.sin(phase[k]);
    }
  }
  return spectrum;
}

/** The spectral peak that each bin of a frame is nearest to; the bin itself where there is none. */
function nearestPeaks(frame, height) {
  const least = PEAK_SHARE * greatest(frame);
  const peaks = [];
  height.forEach((value, k) => {
    const isPeak = frame[k] > least && value === greatest(height.subarray(Math.max(0, k - PEAK_BINS), k + PEAK_BINS + 1));
    if (isPeak) peaks.push(k);
  });
  let next = 0;
  return Float64Array.from(frame, (_, k) => {
    while (next + 1 < peaks.length && peaks[next + 1] - k < Math.abs(k - peaks[next])) next += 1;
    return peaks.length ? peaks[next] : k;
  });
}

/** Where the parabola through a bin and its neighbours peaks, in bins from it; 0 where it is no peak. */
function peakOffset(height, k) {
  if (k < 1 || k > height.length - 2) return 0;
  const [left, middle, right] = [height[k - 1], height[k], height[k + 1]];
  const curvature = middle >= left && middle >= right ? left - 2 * middle + right : 0;
  return curvature < 0 ? (0.5 * (left - right)) / curvature : 0;
}

function centredStft(audio, representation) {
  const padded = new Float32Array(audio.length + representation.nFft);
  padded.set(audio, representation.nFft / 2);
  return stft(padded, representation);
}

function centredIstft(spectrum, length, representation) {
  const {audio, weight} = overlapAdd(spectrum, representation);
  const half = representation.nFft / 2;
  return normalizeOverlap(audio.subarray(half, half + length), weight.subarray(half, half + length));
}
