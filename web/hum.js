/* A hum to a guitar: a port of hum2guitar/ (converter.py, melody.py and harmonics.py), whose
 * constants are in the representation under their names there.
 *
 * f0 is the pitch of each frame in Hz, 0 where unvoiced; level and power have nMels values for each frame; a note is
 * [first frame, frame after the last].
 */

import {collect, resample} from "./resample.js";
import {emptySpectrum, fadeIn, magnitudes, makeRepresentation, normalizeOverlap, overlapAdd, stft} from "./signal.js";

const OVERLAP = 0.25; // share of a window that is blended with the next one
const ITERATIONS = 16; // of Griffin-Lim
const MOMENTUM = 0.99;
const SWIFT_SILENCE = 1e-3; // sample below which SwiftF0 is not sure of anything

const clip = (value, low, high) => Math.min(high, Math.max(low, value));
const toDecibels = (energy) => 10 * Math.log10(Math.max(energy, 1e-12));
const greatest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
/** Interpolated as by NumPy. */
const percentile = (values, percent) => {
  const sorted = Array.from(values).sort((a, b) => a - b);
  const place = (percent / 100) * (sorted.length - 1);
  const [left, share] = [Math.floor(place), place % 1];
  return share ? (1 - share) * sorted[left] + share * sorted[left + 1] : sorted[left];
};

const round = (value) => { // Python's: halves go to the even number
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
};

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
  const {hopLength, nMels, plucks, ONSET_FRAMES, RINGING_FRAMES, PITCH_STEPS} = representation;
  const melody = await listen(audio, networks.pitch, representation);
  const octaves = octavesIntoRange(melody, representation);
  const step = (hertz) => round((Math.log2(hertz) + octaves) * PITCH_STEPS) / PITCH_STEPS;
  const f0 = melody.f0.map((hertz) => (hertz > 0 ? Math.fround(2 ** step(hertz)) : 0));
  describeMelody({...melody, f0}, octaves, representation).forEach(say);
  const notes = findNotes(f0, melody.energy.map(toDecibels), representation);
  const [seen, heard] = [false, true].map((isHeard) => (
    plucks ? pluck(notes, f0, melody.energy, representation, isHeard) : melody.energy));
  const level = new Float32Array(f0.length * nMels);
  const windows = predict(level, f0, seen, heard, networks.guitar, representation);
  const mix = new Float32Array(audio.length);
  let nReady = 0; // frames of `level`
  let nGiven = 0; // samples
  for (const [i, [start, stop]] of notes.entries()) {
    while (nReady < stop) nReady = (await windows.next()).value;
    const first = Math.max(0, round((start - ONSET_FRAMES) * hopLength));
    yield mix.subarray(nGiven, first);
    nGiven = Math.min(first, mix.length);
    const following = i + 1 < notes.length ? notes[i + 1][0] : Infinity;
    const end = following - stop <= RINGING_FRAMES ? following : stop;
    const note = playNote(level.subarray((start + 1) * nMels, stop * nMels), end - start, representation);
    note.subarray(0, mix.length - nGiven).forEach((value, k) => (mix[nGiven + k] += value));
  }
  yield mix.subarray(nGiven);
}

/** The settings of a hum2guitar network with what is computed from them.
 *
 * @param {object} model its entry in models.json.
 * @param {Float32Array} inverse pseudo-inverse of the mel bands, nBins * nMels values.
 */
export function makeHumRepresentation({representation: settings, constants, plucks, bands}, inverse) {
  const nBins = settings.n_fft / 2 + 1;
  const share = new Float32Array(nBins); // sum of the bands' weights
  for (const [first, ...weights] of bands) weights.forEach((weight, i) => (share[first + i] += weight));
  return {
    ...constants, ...makeRepresentation({...settings, n_bins: nBins}), nMels: settings.n_mels, inverse, plucks, share,
    bands: bands.map(([first, ...weights]) => ({first, weights: Float32Array.from(weights)})),
    binHz: settings.sample_rate / settings.n_fft, f0Low: settings.f0_low, f0High: settings.f0_high,
    mel: [settings.mel_ref_db, settings.mel_top_db],
    harmonics: [settings.harmonics_ref_db, settings.harmonics_top_db],
  };
}

/** Mel power of the squared magnitudes of one frame, into `power`. */
function toBands(squared, {bands}, power) {
  bands.forEach(({first, weights}, band) => {
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += weights[i] * squared[first + i];
    power[band] = sum;
  });
  return power;
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

/** Pitch, energy and purity of each frame of audio. */
async function listen(audio, trackPitch, representation) {
  const {hopLength, ANALYSIS_FRAMES, CONTEXT_FRAMES} = representation;
  const melody = {f0: [], energy: [], purity: []};
  for (let nDone = 0, isLast = false; !isLast; nDone += ANALYSIS_FRAMES) {
    const first = Math.max(0, nDone - CONTEXT_FRAMES);
    const end = (nDone + ANALYSIS_FRAMES + CONTEXT_FRAMES) * hopLength;
    isLast = audio.length < end;
    const found = await analyse(audio.subarray(first * hopLength, end), trackPitch, representation);
    for (const [name, values] of Object.entries(found)) {
      melody[name].push(...values.slice(nDone - first, isLast ? undefined : nDone - first + ANALYSIS_FRAMES));
    }
  }
  return melody;
}

async function analyse(audio, trackPitch, representation) {
  const {nBins, binHz, magnitudeScale, SILENCE_DB} = representation;
  const spectrum = centredStft(audio, representation);
  const magnitude = magnitudes(spectrum, magnitudeScale);
  const energy = Array.from({length: spectrum.n}, (_, t) => {
    return magnitude.subarray(t * nBins, (t + 1) * nBins).reduce((sum, value) => sum + value * value, 0);
  });
  const audible = energy.map((value) => value > 10 ** (SILENCE_DB / 10));
  const tracked = audible.includes(true) ? await swiftF0(audio, spectrum.n, trackPitch, representation) : [];
  const f0 = mendOctaves(audible.map((isAudible, t) => (isAudible ? tracked[t] : 0)), magnitude, representation);
  const purity = f0.map((hertz, t) => {
    const frame = magnitude.subarray(t * nBins, (t + 1) * nBins);
    return hertz > 0 ? harmonicShare(frame, hertz / binHz) / Math.max(energy[t], 1e-12) : 0;
  });
  return {f0, energy, purity};
}

/** Energy within two bins of the multiples of a pitch of `p` bins. */
function harmonicShare(frame, p) {
  return frame.reduce((sum, value, k) => {
    return k > p / 2 && Math.abs(k - p * Math.round(k / p)) <= 2 ? sum + value * value : sum;
  }, 0);
}

/** Pitches without leaps of an octave within a note, where the second partial is far stronger than the first. */
function mendOctaves(f0, magnitude, {nBins, binHz, OCTAVE_ERROR, OCTAVE_ERROR_HZ}) {
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

/** A frame has the pitch of the two frames of SwiftF0 around it, interpolated, or that of the nearer one if the other
 * is unvoiced or of another note. */
async function swiftF0(audio, nFrames, trackPitch, representation) {
  const {sampleRate, hopLength, SWIFT_RATE, SWIFT_HOP, SWIFT_RANGE, SWIFT_NOISE} = representation;
  const {BEGIN_CONFIDENCE, STAY_CONFIDENCE, STAY_OCTAVES} = representation;
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
function octavesIntoRange({f0, energy}, {f0Low, f0High, MARGIN, MAX_OCTAVES}) {
  const octaves = Array.from({length: 2 * MAX_OCTAVES + 1}, (_, i) => i - MAX_OCTAVES);
  const inside = octaves.map((octave) => energy.reduce((sum, value, t) => {
    const moved = f0[t] * 2 ** octave;
    return moved >= f0Low / MARGIN && moved <= f0High * MARGIN ? sum + value : sum;
  }, 0));
  const total = energy.reduce((sum, value, t) => (f0[t] > 0 ? sum + value : sum), 0);
  const enough = octaves.filter((_, i) => inside[i] >= greatest(inside) - 0.01 * total);
  return enough.reduce((best, octave) => (Math.abs(octave) < Math.abs(best) ? octave : best));
}

// --- notes -----------------------------------------------------------------------------------------------------------

/** Notes begin where voicing begins, the pitch jumps or the energy begins to rise suddenly. */
function findNotes(f0, decibels, representation) {
  const {NEW_NOTE_SEMITONES, NEW_NOTE_DB, RISING_DB, SHORTEST_NOTE, LONGEST_NOTE} = representation;
  const isVoiced = (t) => f0[t] > 0;
  const semitones = f0.map((hertz) => 12 * Math.log2(hertz || 1));
  const begins = f0.map((_, t) => isVoiced(t) && (
    t === 0 || !isVoiced(t - 1) || Math.abs(semitones[t] - semitones[t - 1]) > NEW_NOTE_SEMITONES));
  const isSudden = (t) => t >= 2 && decibels[t] - decibels[t - 2] > NEW_NOTE_DB;
  for (let found = 2; found < f0.length; found++) {
    if (!isSudden(found) || isSudden(found - 1)) continue;
    let t = found;
    while (t > 1 && isVoiced(t - 1) && !begins[t] && decibels[t - 1] - decibels[t - 2] > RISING_DB) t -= 1;
    begins[t] ||= isVoiced(t) && t > 0 && isVoiced(t - 1) && !begins[t + 1];
  }
  const notes = [];
  for (let start = begins.indexOf(true); start >= 0; start = begins.indexOf(true, start + 1)) {
    let stop = start + 1;
    while (stop < f0.length && isVoiced(stop) && !begins[stop]) stop += 1;
    const last = notes.at(-1);
    if (last?.[1] === start && Math.min(stop - start, last[1] - last[0]) < SHORTEST_NOTE) last[1] = stop;
    else notes.push([start, stop]);
  }
  return notes.filter(([start, stop]) => stop - start >= SHORTEST_NOTE).flatMap(([start, stop]) => {
    const n = Math.ceil((stop - start) / LONGEST_NOTE);
    const edge = (i) => start + Math.floor((i * (stop - start)) / n);
    return Array.from({length: n}, (_, i) => [edge(i), edge(i + 1)]);
  });
}

/** What the user should know about a melody, one line each, as predict.py says it. */
function describeMelody({f0, energy, purity}, octaves, representation) {
  const {SILENCE_DB, LOUD_PERCENTILE, LOUD_DB, MIN_PURITY, MIN_NOTE_FRAMES, MAX_UNCLEAR, MAX_OUTSIDE} = representation;
  const [low, high] = [representation.f0Low / representation.MARGIN, representation.f0High * representation.MARGIN];
  if (greatest(energy) <= 10 ** (SILENCE_DB / 10)) return [`nothing sounds above ${SILENCE_DB} dB: the output is silent`];
  const percent = (share) => `${round(100 * share)}%`;
  const lines = [];
  const count = `${Math.abs(octaves)} octave${Math.abs(octaves) > 1 ? "s" : ""}`;
  if (octaves) lines.push(`moved ${octaves > 0 ? "up" : "down"} by ${count}, into the range of the guitar`);
  const isMelody = f0.map((hertz, t) => hertz > 0 && purity[t] >= MIN_PURITY);
  for (const [start, stop] of findNotes(f0, energy.map(toDecibels), representation)) {
    if (stop - start < MIN_NOTE_FRAMES) isMelody.fill(false, start, stop);
  }
  const quiet = percentile(energy, LOUD_PERCENTILE) * 10 ** (-LOUD_DB / 10);
  const loud = isMelody.filter((_, t) => energy[t] > quiet);
  const unclear = 1 - loud.filter(Boolean).length / loud.length;
  if (unclear > MAX_UNCLEAR) {
    lines.push(`${percent(unclear)} of the loud frames are no single steady note (chords, speech, noise?)`);
  }
  const voiced = f0.filter((hertz) => hertz > 0);
  const outside = voiced.filter((hertz) => hertz < low || hertz > high).length / Math.max(1, voiced.length);
  if (outside > MAX_OUTSIDE) {
    const range = `${Math.round(low)} to ${Math.round(high)} Hz`;
    lines.push(`${percent(outside)} of the melody lies outside the range of the guitar, ${range}`);
  }
  return lines;
}

/** The energy of a melody whose notes are plucked: loudest at the onset, then falling as strings do in what is heard,
 * or as in training in what the network sees. */
function pluck(notes, f0, energy, representation, isHeard) {
  const {hopLength, sampleRate, SWELL_FRAMES, ATTACK_FRAMES, SEEN_DECAY} = representation;
  const {FIRST_DECAY, DECAY_HZ, LATE_FALL, LATE_DECAY} = representation;
  const decibels = energy.map(toDecibels);
  for (const [start, stop] of notes) {
    const loudest = greatest(decibels.slice(start, Math.min(stop, start + SWELL_FRAMES)));
    const firstDecay = (FIRST_DECAY * percentile(f0.slice(start, stop), 50)) / DECAY_HZ;
    for (let t = start; t < stop; t++) {
      const seconds = ((t - start) * hopLength) / sampleRate;
      const fall = isHeard ? Math.min(firstDecay * seconds, LATE_FALL + LATE_DECAY * seconds) : SEEN_DECAY * seconds;
      decibels[t] = t - start < ATTACK_FRAMES ? loudest - fall : Math.min(decibels[t], loudest - fall);
    }
  }
  return decibels.map((value) => Math.fround(10 ** (value / 10)));
}

/** Audio of a note from the mel levels of its frames after the first one; it is damped after `length` frames.
 *
 * It begins with copies of its second frame, as if it had sounded before.
 */
function playNote(level, length, representation) {
  const {nMels, hopLength, sampleRate, EDGE_FRAMES, ONSET_FRAMES} = representation;
  const {RISE_SECONDS, FADE_SECONDS, PLUCK_DB, PLUCK_SECONDS} = representation;
  const power = new Float32Array((length + 2 * EDGE_FRAMES) * nMels);
  for (let i = 0; i < power.length; i++) {
    const t = clip(Math.floor(i / nMels) - EDGE_FRAMES - 1, 0, level.length / nMels - 1);
    power[i] = fromLevel(level[t * nMels + (i % nMels)], representation.mel);
  }
  const [nRise, nFade] = [round(RISE_SECONDS * sampleRate), round(FADE_SECONDS * sampleRate)];
  const start = round((EDGE_FRAMES - ONSET_FRAMES) * hopLength);
  const audio = melToAudio(power, representation).subarray(start, start + length * hopLength + nFade);
  return audio.map((value, i) => {
    const pluckGain = 10 ** ((PLUCK_DB / 20) * Math.exp(-i / sampleRate / PLUCK_SECONDS));
    return value * pluckGain * Math.min(1, i / nRise, 1 - (i - length * hopLength) / nFade);
  });
}

// --- the network -----------------------------------------------------------------------------------------------------

/** Fill in the mel level of each frame of a melody, by the network, in overlapping windows that are blended; yields how
 * many frames are final. */
async function* predict(level, f0, seen, heard, network, representation) {
  const {nFrames, nMels} = representation;
  const nOverlap = round(OVERLAP * nFrames);
  const rising = fadeIn(nOverlap);
  for (let start = 0; start < Math.max(1, f0.length - nOverlap); start += nFrames - nOverlap) {
    const early = Math.max(0, Math.min(start, f0.length - nFrames));
    const window = [f0, seen, heard].map((row) => row.slice(early, early + nFrames));
    const made = await predictWindow(...window, network, representation);
    made.subarray((start - early) * nMels).forEach((value, i) => {
      const weight = start && i < nOverlap * nMels ? rising[Math.floor(i / nMels)] : 1;
      level[start * nMels + i] = weight * value + (1 - weight) * level[start * nMels + i];
    });
    yield start + nFrames < f0.length ? start + nFrames - nOverlap : f0.length;
  }
}

/** Mel level of a window, each frame as loud as it is to be heard. */
async function predictWindow(f0, seen, heard, network, representation) {
  const {nMels, nBins, inverse, MIN_FRAMES, MAX_GAIN_DB} = representation;
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
  const power = toBands(squared, representation, new Float32Array(nMels));
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

/** Audio whose mel power is close to `power`: the phase from the peaks of the spectrum, then fast Griffin-Lim that
 * scales the bins of the current magnitude by the ratio of the wanted to the current power of their bands. */
function melToAudio(power, representation) {
  const {hopLength, nBins, nMels, inverse, bands, share, magnitudeScale} = representation;
  const n = power.length / nMels;
  const covered = hopLength * n - 1; // samples that have as many centred frames
  const wanted = power.map((value) => value / magnitudeScale ** 2);
  const guess = new Float32Array(n * nBins);
  for (let t = 0; t < n; t++) {
    fromBands(wanted.subarray(t * nMels, (t + 1) * nMels), inverse, guess.subarray(t * nBins, (t + 1) * nBins));
  }
  let spectrum = peakPhase(guess.map(Math.sqrt), n, representation);
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
      toBands(squared, representation, current);
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
  return centredIstft(spectrum, covered, representation);
}

/** A spectrum of these magnitudes whose phase follows from the frequencies of its peaks (Beauregard et al., 2015). */
function peakPhase(magnitude, n, representation) {
  const {nBins, nFft, hopLength, SAME_PEAK_BINS} = representation;
  const spectrum = emptySpectrum(n, nBins);
  const floor = 1e-7 * greatest(magnitude) + 1e-20;
  let phase = null;
  let owner = null;
  for (let t = 0; t < n; t++) {
    const at = t * nBins;
    const frame = magnitude.subarray(at, at + nBins);
    const height = Float64Array.from(frame, (value) => Math.log(Math.max(value, floor)));
    const [lastPhase, lastOwner] = [phase, owner];
    owner = nearestPeaks(frame, height, representation);
    phase = owner.map((peak, k) => {
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
function nearestPeaks(frame, height, {PEAK_BINS, PEAK_SHARE}) {
  const least = PEAK_SHARE * greatest(frame);
  const peaks = [];
  height.forEach((value, k) => {
    const near = height.subarray(Math.max(0, k - PEAK_BINS), k + PEAK_BINS + 1);
    if (frame[k] > least && value === greatest(near)) peaks.push(k);
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
