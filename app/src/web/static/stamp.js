// What is measured of a playing video: frames per second, gaps, and latency from the frames' own stamps.

const WINDOW = 2000;
const CLOCK = 90;
const WRAP = 2 ** 32;

export class Meter {
  constructor(video) {
    this.video = video;
    this.frames = 0;
    this.freezes = 0;
    this.samples = [];
    this.epoch = null;
    this.offset = () => null;
    this.last = null;
    this.lastAt = 0;
    if (video.requestVideoFrameCallback) this.watch();
  }

  watch() {
    this.video.requestVideoFrameCallback((now, metadata) => {
      this.add(now, metadata);
      this.watch();
    });
  }

  add(now, metadata) {
    const gap = this.last === null ? null : now - this.last;
    const mean = this.interval();
    if (gap !== null && mean !== null && gap > 3 * mean + 150) this.freezes += 1;
    this.frames += 1;
    this.last = now;
    this.lastAt = performance.now();
    this.samples.push({ at: now, latency: this.latencyOf(metadata) });
    while (this.samples.length > 1 && this.samples[0].at < now - WINDOW) this.samples.shift();
  }

  // The RTP time is 90 kHz since the stream's epoch, modulo 2^32: about 13 hours.
  latencyOf(metadata) {
    const offset = this.offset();
    if (metadata.rtpTimestamp === undefined || this.epoch === null || offset === null) return null;
    const now = performance.timeOrigin + performance.now() + offset - this.epoch;
    const age = (Math.floor(now * CLOCK) - metadata.rtpTimestamp) % WRAP;
    const ticks = ((age % WRAP) + WRAP) % WRAP;
    // A clock that is a little off may see the future.
    return (ticks > WRAP / 2 ? ticks - WRAP : ticks) / CLOCK;
  }

  interval() {
    const { samples } = this;
    if (samples.length < 3) return null;
    return (samples[samples.length - 1].at - samples[0].at) / (samples.length - 1);
  }

  fps() {
    const interval = this.interval();
    return interval && performance.now() - this.lastAt < WINDOW ? 1000 / interval : 0;
  }

  latency() {
    const known = this.samples.map((s) => s.latency).filter((l) => l !== null).sort((a, b) => a - b);
    return known.length ? known[Math.floor(known.length / 2)] : null;
  }

  // Milliseconds since the last frame came.
  silence() {
    return this.frames ? performance.now() - this.lastAt : Infinity;
  }
}
