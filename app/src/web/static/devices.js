// This device's camera or screen as the source of a stream.

import { Refused, publish } from './rtc.js';

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 8000;

function explain(error) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    return 'Browsers give cameras only to pages from https or localhost. Open this page so, or use the server\'s source.';
  }
  const texts = {
    NotAllowedError: 'The camera was not allowed. Allow it in the browser\'s address bar and try again.',
    NotFoundError: 'No camera was found.',
    NotReadableError: 'The camera is in use by another program.',
    OverconstrainedError: 'The camera cannot do what was asked of it.',
    AbortError: 'Nothing was chosen.',
  };
  return texts[error.name] || error.message;
}

function refusal(error) {
  if (!(error instanceof Refused)) return 'The server cannot be reached.';
  if (error.status === 409) return 'Somebody else publishes to this stream already.';
  return error.message;
}

export class Publisher extends EventTarget {
  constructor(stream) {
    super();
    this.stream = stream;
    this.media = null;
    this.session = null;
    this.wait = FIRST_WAIT;
    addEventListener('pagehide', () => this.session && this.session.close(true));
  }

  say(state, text = '') {
    this.dispatchEvent(new CustomEvent('state', { detail: { state, text } }));
  }

  async cameras() {
    const all = navigator.mediaDevices ? await navigator.mediaDevices.enumerateDevices() : [];
    return all.filter((device) => device.kind === 'videoinput');
  }

  async camera(deviceId) {
    const wish = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    if (deviceId) wish.deviceId = { exact: deviceId };
    await this.use(() => navigator.mediaDevices.getUserMedia({ video: wish, audio: false }), 'camera');
  }

  async screen() {
    await this.use(() => navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: false }), 'screen');
  }

  async use(ask, kind) {
    this.stop(true);
    let media;
    try {
      media = await ask();
    } catch (error) {
      this.say('server', explain(error));
      return;
    }
    this.media = media;
    this.kind = kind;
    media.getVideoTracks()[0].addEventListener('ended', () => {
      if (this.media === media) this.stop();
    });
    await this.connect(media);
  }

  async connect(media) {
    try {
      const session = await publish(this.stream, media, (state) => this.hear(state, media));
      if (this.media !== media) {
        session.close();
        return;
      }
      this.session = session;
      this.say(this.kind);
    } catch (error) {
      this.failed(error, media);
    }
  }

  hear(state, media) {
    if (this.media !== media) return;
    if (state === 'connected') this.wait = FIRST_WAIT;
    if (state === 'lost') this.again('The connection to the server was interrupted; trying again.', media);
  }

  failed(error, media) {
    if (error instanceof Refused && error.status !== 503) {
      this.stop(true);
      this.say('server', refusal(error));
      return;
    }
    this.again(`${refusal(error)} Trying again.`, media);
  }

  again(text, media) {
    if (this.session) this.session.close();
    this.session = null;
    this.say(this.kind, text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.media === media && this.connect(media), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }

  stop(isQuiet = false) {
    clearTimeout(this.timer);
    if (this.session) this.session.close();
    if (this.media) this.media.getTracks().forEach((track) => track.stop());
    this.session = null;
    this.media = null;
    if (!isQuiet) this.say('server');
  }

  // Milliseconds from here to the server and back, where this page publishes.
  async roundTrip() {
    if (!this.session || !this.session.pc) return null;
    for (const report of (await this.session.pc.getStats()).values()) {
      if (report.type === 'candidate-pair' && report.nominated && report.currentRoundTripTime !== undefined) {
        return report.currentRoundTripTime * 1000;
      }
    }
    return null;
  }
}
