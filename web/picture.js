/* Spectrograms on a canvas, with axes: time, and frequency on the mel scale. */

export const FLOOR = -90; // dB of full scale at the dark end of the colour scale
export const MARGIN = {left: 46, right: 12, top: 8, bottom: 26}; // CSS pixels around the picture, for the axes
const TICKS_HERTZ = [100, 250, 500, 1000, 2000, 4000, 8000, 16000];
const STEPS_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120];

// Colours of the magma scale of matplotlib from 0 to 1: perceptually uniform, readable in grey and by the colour-blind.
const MAGMA = [
  "000004", "07061c", "150e38", "29115a", "3f0f72", "56147d", "6a1c81", "802582", "942c80", "ab337c", "c03a76",
  "d6456c", "e85362", "f4695c", "fa815f", "fd9b6b", "feb47b", "fecd90", "fde7a9", "fcfdbf",
].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** The colour of a value from 0 to 1: [red, green, blue], 0 to 255. */
export function colour(value) {
  const place = Math.min(1, Math.max(0, value)) * (MAGMA.length - 1);
  const index = Math.min(MAGMA.length - 2, Math.floor(place));
  const share = place - index;
  return MAGMA[index].map((from, i) => from + share * (MAGMA[index + 1][i] - from));
}

const PALETTE = Uint8ClampedArray.from({length: 256 * 3}, (_, i) => colour(Math.floor(i / 3) / 255)[i % 3]);

const toMel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const fromMel = (mel) => 700 * (10 ** (mel / 2595) - 1);

/** Draw a spectrogram and its axes to fill the canvas.
 *
 * @param {object | null} picture from `conversion.spectrogram`; null for axes without a picture.
 * @param {{seconds: number, maxHertz: number, offset: number}} options the ends of the axes, and dB to add to all
 *     levels.
 */
export function draw(canvas, picture, {seconds, maxHertz, offset = 0}) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const {clientWidth, clientHeight} = canvas;
  canvas.width = Math.round(clientWidth * ratio);
  canvas.height = Math.round(clientHeight * ratio);
  const width = Math.max(1, Math.round((clientWidth - MARGIN.left - MARGIN.right) * ratio));
  const height = Math.max(1, Math.round((clientHeight - MARGIN.top - MARGIN.bottom) * ratio));
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  if (picture) paint(image, picture, seconds, maxHertz, offset);
  else new Uint32Array(image.data.buffer).fill(0);
  context.putImageData(image, Math.round(MARGIN.left * ratio), Math.round(MARGIN.top * ratio));
  context.scale(ratio, ratio);
  drawAxes(context, clientWidth, clientHeight, seconds, maxHertz, getComputedStyle(canvas));
}

function paint(image, picture, seconds, maxHertz, offset) {
  const {width, height, data} = image;
  const {decibels, nColumns, nBins, secondsPerColumn, hertzPerBin} = picture;
  const top = toMel(maxHertz);
  const binAt = (y) => fromMel((top * (height - y)) / height) / hertzPerBin;
  for (let x = 0; x < width; x++) {
    const first = Math.round(((x / width) * seconds) / secondsPerColumn);
    const last = Math.max(first, Math.round((((x + 1) / width) * seconds) / secondsPerColumn) - 1);
    for (let y = 0; y < height; y++) {
      const [low, high] = [binAt(y + 1), binAt(y)];
      let level = -Infinity;
      for (let t = first; t <= Math.min(last, nColumns - 1); t++) {
        const column = t * nBins;
        if (high - low < 1) { // between two bins
          const bin = Math.min(nBins - 2, Math.floor((low + high) / 2));
          const share = (low + high) / 2 - bin;
          level = Math.max(level, decibels[column + bin] * (1 - share) + decibels[column + bin + 1] * share);
        } else {
          const end = Math.min(high, nBins - 1);
          for (let k = Math.ceil(low); k <= end; k++) level = Math.max(level, decibels[column + k]);
        }
      }
      const index = Math.round(255 * Math.min(1, Math.max(0, 1 - (level + offset) / FLOOR)));
      const at = 4 * (y * width + x);
      data[at] = PALETTE[3 * index];
      data[at + 1] = PALETTE[3 * index + 1];
      data[at + 2] = PALETTE[3 * index + 2];
      data[at + 3] = 255;
    }
  }
}

function drawAxes(context, width, height, seconds, maxHertz, style) {
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  context.font = `11px ${style.fontFamily}`;
  context.fillStyle = style.color;
  context.textBaseline = "middle";
  context.textAlign = "right";
  let lastY = Infinity;
  for (const hertz of TICKS_HERTZ.filter((value) => value < maxHertz)) {
    const y = bottom - ((bottom - top) * toMel(hertz)) / toMel(maxHertz);
    if (lastY - y < 13) continue; // no room for another label
    lastY = y;
    context.fillText(hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz`, left - 7, y);
    context.fillRect(left - 4, y - 0.5, 4, 1);
  }
  context.textBaseline = "top";
  context.textAlign = "center";
  const wanted = Math.max(2, (right - left) / 70);
  const step = STEPS_SECONDS.find((value) => seconds / value <= wanted) || STEPS_SECONDS.at(-1);
  for (let second = 0; second <= seconds + 1e-9; second += step) {
    const x = left + ((right - left) * second) / seconds;
    if (x > right - 10 && second < seconds - 1e-9 && step > seconds / 20) continue;
    context.fillText(formatTick(second, step), Math.min(x, width - 14), bottom + 9);
    context.fillRect(x - 0.5, bottom + 1, 1, 4);
  }
}

function formatTick(second, step) {
  if (step < 1) return `${second.toFixed(1)} s`;
  if (second < 60 && step < 30) return `${Math.round(second)} s`;
  return `${Math.floor(second / 60)}:${String(Math.round(second % 60)).padStart(2, "0")}`;
}
