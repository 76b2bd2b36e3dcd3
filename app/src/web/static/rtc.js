// WHEP and WHIP: one request with an offer, one answer, and a resource to end or to mend the session.

const GATHERING = 500;
const GONE = 2000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function withToken(path) {
  const token = new URLSearchParams(location.search).get('token');
  if (!token) return path;
  return `${path}${path.includes('?') ? '&' : '?'}token=${encodeURIComponent(token)}`;
}

async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

// ICE servers as RFC 9725 puts them in Link headers.
export function iceServers(header) {
  const servers = [];
  for (const part of (header || '').split(/,(?=\s*<)/)) {
    const [, url, rest] = part.match(/<([^>]+)>\s*;(.*)/) || [];
    if (!url || !/rel="?ice-server"?/.test(rest)) continue;
    const value = (name) => (rest.match(new RegExp(`${name}="([^"]*)"`)) || [])[1];
    servers.push({ urls: url, username: value('username'), credential: value('credential') });
  }
  return servers;
}

// A fragment with the candidates that came after the offer (RFC 8840).
function fragment(description, candidates) {
  const line = (name) => (description.sdp.match(new RegExp(`^a=${name}:.*$`, 'm')) || [''])[0];
  const mid = line('mid');
  const lines = [line('ice-ufrag'), line('ice-pwd'), `m=video 9 UDP/TLS/RTP/SAVPF 0`, mid];
  return [...lines, ...candidates.map((c) => `a=${c.candidate}`), ''].join('\r\n');
}

// One session: `onState` hears 'connected', 'lost' and 'closed'.
export class Session {
  constructor(path, onState) {
    this.path = path;
    this.onState = onState;
    this.resource = null;
    this.late = [];
    this.isOver = false;
  }

  async start(prepare) {
    const servers = await this.servers();
    const pc = new RTCPeerConnection({ iceServers: servers, bundlePolicy: 'max-bundle' });
    this.pc = pc;
    pc.onconnectionstatechange = () => this.changed();
    pc.onicecandidate = ({ candidate }) => candidate && candidate.candidate && this.trickle(candidate);
    await prepare(pc);
    await pc.setLocalDescription();
    await this.gathered();
    const response = await fetch(withToken(this.path), {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp' },
      body: pc.localDescription.sdp,
    });
    if (response.status !== 201) {
      this.close();
      throw new Refused(response.status, await reason(response));
    }
    this.resource = new URL(response.headers.get('Location'), location.href).pathname;
    if (this.isOver) return this.close();
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    for (const candidate of this.late.splice(0)) this.trickle(candidate);
    return undefined;
  }

  // What the server says without being asked for a session.
  async servers() {
    try {
      const response = await fetch(withToken(this.path), { method: 'OPTIONS' });
      return iceServers(response.headers.get('Link'));
    } catch {
      return [];
    }
  }

  gathered() {
    const { pc } = this;
    if (pc.iceGatheringState === 'complete') return Promise.resolve();
    return new Promise((resolve) => {
      setTimeout(resolve, GATHERING);
      pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && resolve());
    });
  }

  // Candidates of the offer itself are in it; later ones follow.
  trickle(candidate) {
    if (!this.resource) {
      if (this.pc.localDescription && this.pc.localDescription.sdp.includes(candidate.candidate)) return;
      this.late.push(candidate);
      return;
    }
    fetch(withToken(this.resource), {
      method: 'PATCH',
      headers: { 'Content-Type': 'application/trickle-ice-sdpfrag' },
      body: fragment(this.pc.localDescription, [candidate]),
    }).catch(() => {});
  }

  changed() {
    if (this.isOver) return;
    const state = this.pc.connectionState;
    clearTimeout(this.timer);
    if (state === 'connected') this.onState('connected');
    if (state === 'failed' || state === 'closed') this.onState('lost');
    if (state === 'disconnected') this.timer = setTimeout(() => this.onState('lost'), GONE);
  }

  close(keepalive = false) {
    this.isOver = true;
    clearTimeout(this.timer);
    if (this.pc) this.pc.close();
    if (this.resource) {
      fetch(withToken(this.resource), { method: 'DELETE', keepalive }).catch(() => {});
      this.resource = null;
    }
  }
}

// Watches `stream`; `show` gets its MediaStream.
export async function watch(stream, show, onState) {
  const session = new Session(`/whep/${stream}`, onState);
  await session.start((pc) => {
    const { receiver } = pc.addTransceiver('video', { direction: 'recvonly' });
    // As new as it gets: this is live.
    if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
    pc.ontrack = ({ track, streams }) => show(streams[0] || new MediaStream([track]));
  });
  return session;
}

// Publishes the video of `media` to `stream`.
export async function publish(stream, media, onState) {
  const session = new Session(`/whip/${stream}`, onState);
  await session.start(async (pc) => {
    const [track] = media.getVideoTracks();
    track.contentHint = 'motion';
    const { width = 640, height = 480 } = track.getSettings();
    const transceiver = pc.addTransceiver(track, {
      direction: 'sendonly',
      streams: [media],
      sendEncodings: [{ maxBitrate: 2_500_000, scaleResolutionDownBy: Math.max(1, Math.max(width, height) / 720) }],
    });
    const all = RTCRtpSender.getCapabilities('video').codecs;
    const isFirst = (codec) => codec.mimeType.toLowerCase() === 'video/h264';
    if (transceiver.setCodecPreferences) {
      transceiver.setCodecPreferences([...all.filter(isFirst), ...all.filter((c) => !isFirst(c))]);
    }
    const parameters = transceiver.sender.getParameters();
    parameters.degradationPreference = 'maintain-framerate';
    await transceiver.sender.setParameters(parameters).catch(() => {});
  });
  return session;
}
