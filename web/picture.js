/* Spectrograms on a canvas, with axes: time, and frequency on the mel scale. */

const FLOOR = -90; // dB of full scale at the dark end of the colour scale
export const MARGIN = {left: 46, right: 12, top: 8, bottom: 26}; // CSS pixels around the picture, for the axes
const N_ROWS = 256; // of a picture
const TICKS_HERTZ = [100, 250, 500, 1000, 2000, 4000, 8000, 16000];
const STEPS_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120];

// Colours of the magma scale of matplotlib from 0 to 1: perceptually uniform, readable in grey and by the colour-blind.
const MAGMA = [
  "000004", "07061c", "150e38", "29115a", "3f0f72", "56147d", "6a1c81", "802582", "942c80", "ab337c", "c03a76",
  "d6456c", "e85362", "f4695c", "fa815f", "fd9b6b", "feb47b", "fecd90", "fde7a9", "fcfdbf",
].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

const PALETTE = Array.from({length: 256}, (_, i) => {
  const place = (i / 255) * (MAGMA.length - 1);
  const index = Math.min(MAGMA.length - 2, Math.floor(place));
  return [...MAGMA[index].map((from, j) => from + (place - index) * (MAGMA[index + 1][j] - from)), 255];
});

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
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.imageSmoothingQuality = "high";
  if (picture) {
    const width = ((clientWidth - MARGIN.left - MARGIN.right) * picture.nColumns * picture.secondsPerColumn) / seconds;
    const height = clientHeight - MARGIN.top - MARGIN.bottom;
    context.drawImage(paint(picture, maxHertz, offset), MARGIN.left, MARGIN.top, width, height);
  }
  drawAxes(context, clientWidth, clientHeight, seconds, maxHertz, getComputedStyle(canvas));
}

/** The spectrogram as an image: a pixel for each column, and N_ROWS of them in height. */
function paint({decibels, nColumns, nBins, hertzPerBin}, maxHertz, offset) {
  const canvas = new OffscreenCanvas(nColumns, N_ROWS);
  const context = canvas.getContext("2d");
  const image = context.createImageData(nColumns, N_ROWS);
  const binAt = (y) => fromMel((toMel(maxHertz) * (N_ROWS - y)) / N_ROWS) / hertzPerBin;
  for (let y = 0; y < N_ROWS; y++) {
    const first = Math.round(binAt(y + 1));
    const last = Math.min(nBins - 1, Math.max(first, Math.round(binAt(y)) - 1));
    for (let t = 0; t < nColumns; t++) {
      let level = -Infinity;
      for (let k = first; k <= last; k++) level = Math.max(level, decibels[t * nBins + k]);
      const index = Math.round(255 * Math.min(1, Math.max(0, 1 - (level + offset) / FLOOR)));
      image.data.set(PALETTE[index], 4 * (y * nColumns + t));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
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
  if (step < 30) return `${step < 1 ? second.toFixed(1) : second} s`;
  return `${Math.floor(second / 60)}:${String(second % 60).padStart(2, "0")}`;
}
