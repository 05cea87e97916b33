/* One transport for two recordings of the same length: both run, one is heard, and switching is instant. */

const FADE = 0.008; // seconds of the crossfade when switching: short, but without a click
const FULL_LEVEL = 0.9; // of the louder recording's peak

export class Player {
  /** @param {() => void} onChange called when playing starts, stops or ends. */
  constructor(onChange) {
    this.onChange = onChange;
    this.sounds = [];
    this.gains = [];
    this.chosen = 0;
    this.playing = null; // {sources, faders, startedAt} while it plays
    this.offset = 0; // seconds from the start, while it does not play
  }

  /** Replace the recordings; playing stops.
   *
   * @param {{buffer: AudioBuffer, peak: number, power: number}[]} sounds one or two.
   */
  setSounds(sounds) {
    this.stop();
    this.sounds = sounds;
    this.gains = equalGains(sounds);
    this.chosen = Math.min(this.chosen, Math.max(0, sounds.length - 1));
    this.offset = Math.min(this.offset, this.duration);
    this.onChange();
  }

  get duration() {
    return this.sounds.length ? this.sounds[0].buffer.duration : 0;
  }

  get position() {
    if (!this.playing) return this.offset;
    return Math.min(this.duration, Math.max(0, this.offset + this.context.currentTime - this.playing.startedAt));
  }

  async play() {
    if (this.playing || !this.sounds.length) return;
    this.context ??= new AudioContext({latencyHint: "interactive"});
    await this.context.resume();
    if (this.playing || !this.sounds.length) return;
    if (this.offset >= this.duration - 0.02) this.offset = 0;
    const startedAt = this.context.currentTime + 0.02;
    const faders = [];
    const sources = this.sounds.map(({buffer}, index) => {
      const source = new AudioBufferSourceNode(this.context, {buffer});
      const fader = new GainNode(this.context, {gain: index === this.chosen ? this.gains[index] : 0});
      source.connect(fader).connect(this.context.destination);
      source.start(startedAt, this.offset);
      faders.push(fader);
      return source;
    });
    const playing = {sources, faders, startedAt};
    sources[0].addEventListener("ended", () => {
      if (this.playing === playing) this.stop(this.duration);
    });
    this.playing = playing;
    this.onChange();
  }

  /** Stop, at `position` if it is given, otherwise where it plays. */
  stop(position = this.position) {
    if (this.playing) {
      const {sources} = this.playing;
      this.offset = position;
      this.playing = null;
      for (const source of sources) source.stop();
    }
    this.onChange();
  }

  async seek(seconds) {
    const goOn = this.playing !== null;
    this.stop();
    this.offset = Math.min(this.duration, Math.max(0, seconds));
    if (goOn) await this.play();
    this.onChange();
  }

  /** Hear the recording of this index. */
  choose(index) {
    this.chosen = index;
    this.playing?.faders.forEach(({gain}, i) => {
      const now = this.context.currentTime;
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(i === index ? this.gains[i] : 0, now + FADE);
    });
    this.onChange();
  }
}

/** Factors that bring recordings to one RMS level, the greatest at which none clips. */
export function equalGains(sounds) {
  const audible = sounds.filter(({power}) => power > 0);
  const common = Math.min(...audible.map(({peak, power}) => (FULL_LEVEL * Math.sqrt(power)) / peak));
  return sounds.map(({power}) => (power > 0 ? common / Math.sqrt(power) : 1));
}
