// Keeps a stream on the screen: connects, notices when it stands still, connects again, falls back.

import { Refused, watch } from './rtc.js';
import { Meter } from './stamp.js';

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;
const STILL = 3000;
const CONNECTING = 10000;
const FAILURES = 3;
// While single pictures are shown, WebRTC is tried again now and then: the network may have changed.
const TRYING = 30000;

export class Player extends EventTarget {
  constructor(stream, video, fallback) {
    super();
    this.stream = stream;
    this.video = video;
    this.fallback = fallback;
    this.meter = new Meter(video);
    this.wait = FIRST_WAIT;
    this.failures = 0;
    this.session = null;
    this.state = 'connecting';
    // Pictures that the server says it has coded: without new ones a still picture is right.
    this.coded = 0;
    this.codedAt = 0;
    addEventListener('pagehide', () => this.session && this.session.close(true));
    setInterval(() => this.check(), 500);
  }

  say(state, text = '') {
    this.state = state;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, text } }));
  }

  async connect() {
    clearTimeout(this.timer);
    if (typeof RTCPeerConnection === 'undefined') return this.useFallback('This browser has no WebRTC.');
    if (this.session) this.session.close();
    this.began = performance.now();
    this.framesBefore = this.meter.frames;
    const session = { current: null };
    try {
      const made = watch(this.stream, (media) => this.show(media), (state) => {
        if (session.current === this.session) this.hear(state);
      });
      session.current = await made;
      this.session = session.current;
      if (this.fallback.hidden) this.say('waiting');
      if (this.session.pc.connectionState === 'connected') this.hear('connected');
    } catch (error) {
      this.session = null;
      this.refused(error);
    }
    return undefined;
  }

  show(media) {
    this.video.srcObject = media;
    this.video.play().catch(() => {});
  }

  hear(state) {
    if (state === 'connected') {
      this.wait = FIRST_WAIT;
      if (this.fallback.hidden) this.say(this.meter.frames > this.framesBefore ? 'live' : 'waiting');
    } else {
      this.lost('The connection was interrupted.');
    }
  }

  refused(error) {
    if (error instanceof Refused && [401, 403, 404].includes(error.status)) {
      this.say('refused', error.message);
      // A stream may come back.
      if (error.status === 404) this.again();
      return;
    }
    const isFull = error instanceof Refused && error.status === 503;
    if (!(error instanceof Refused)) this.failures += 1;
    this.say(isFull ? 'refused' : 'lost', error instanceof Refused ? error.message : 'The server cannot be reached.');
    this.again();
  }

  lost(text) {
    if (this.meter.frames === this.framesBefore) this.failures += 1;
    if (this.session) this.session.close();
    this.session = null;
    if (this.failures >= FAILURES) {
      this.useFallback('No WebRTC connection comes about (a firewall?).');
      return;
    }
    this.say('lost', text);
    this.again();
  }

  again() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.say('reconnecting');
      this.connect();
    }, this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }

  // What the server says of the stream, twice a second.
  told(stats) {
    if (stats.video && stats.video.frames > this.coded) this.codedAt = performance.now();
    this.coded = stats.video ? stats.video.frames : 0;
  }

  check() {
    if (!this.session) return;
    const hasNew = this.meter.frames > this.framesBefore;
    if (hasNew && (!this.fallback.hidden || ['waiting', 'connecting'].includes(this.state))) {
      this.failures = 0;
      this.leaveFallback();
      this.say('live');
    }
    const now = performance.now();
    const comes = now - this.codedAt < 1000 && now - this.began > STILL;
    const isStill = Math.min(this.meter.silence(), now - this.began) > STILL;
    const isConnected = this.session.pc.connectionState === 'connected';
    if (isConnected && comes && isStill) this.lost('The picture stood still.');
    else if (!isConnected && now - this.began > CONNECTING) this.lost('No connection came about.');
  }

  useFallback(text) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), TRYING);
    if (!this.fallback.hidden) return;
    this.video.hidden = true;
    this.fallback.hidden = false;
    const token = new URLSearchParams(location.search).get('token');
    const extra = token ? `&token=${encodeURIComponent(token)}` : '';
    const load = () => {
      if (this.fallback.hidden) return;
      this.fallback.src = `/stream.mjpg?stream=${this.stream}${extra}&t=${Date.now()}`;
    };
    this.fallback.onerror = () => {
      if (this.fallback.hidden) return;
      this.say('lost', 'The server cannot be reached.');
      setTimeout(load, LONGEST_WAIT);
    };
    this.fallback.onload = () => {
      if (!this.fallback.hidden) this.say('live', `${text} Showing single pictures instead.`);
    };
    load();
  }

  leaveFallback() {
    if (this.fallback.hidden) return;
    this.fallback.hidden = true;
    this.fallback.removeAttribute('src');
    this.video.hidden = false;
  }
}
