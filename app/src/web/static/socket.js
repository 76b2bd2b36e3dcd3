// The control socket: messages in, changes out, connects again for ever.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;
const CLOCK_INTERVAL = 5000;
// While a page loads, answers wait for it: the first few tell little, so more are asked for.
const FIRST_CLOCKS = [0, 300, 700, 1200, 2000, 3000];

export class Socket extends EventTarget {
  constructor(stream) {
    super();
    this.stream = stream;
    this.wait = FIRST_WAIT;
    this.nextId = 1;
    // Server clock minus ours, of the round trip that took the least time lately.
    this.offset = null;
    this.trips = [];
    this.isOpen = false;
    this.open();
  }

  open() {
    const url = new URL('/api/socket', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('stream', this.stream);
    const token = new URLSearchParams(location.search).get('token');
    if (token) url.searchParams.set('token', token);
    this.socket = new WebSocket(url);
    this.socket.onopen = () => {
      this.isOpen = true;
      this.wait = FIRST_WAIT;
      for (const wait of FIRST_CLOCKS) setTimeout(() => this.askClock(), wait);
      this.clock = setInterval(() => this.askClock(), CLOCK_INTERVAL);
    };
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = () => this.closed();
  }

  closed() {
    clearInterval(this.clock);
    const was = this.isOpen;
    this.isOpen = false;
    if (was) this.dispatchEvent(new CustomEvent('closed'));
    setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }

  askClock() {
    this.send({ type: 'clock', sent_ms: performance.now() });
  }

  hear(message) {
    if (message.type === 'clock') {
      const now = performance.now();
      const trip = now - message.sent_ms;
      const offset = message.server_unix_ms - (performance.timeOrigin + message.sent_ms + trip / 2);
      this.trips = [...this.trips.slice(-8), { trip, offset }];
      this.offset = this.trips.reduce((best, t) => (t.trip < best.trip ? t : best)).offset;
      return;
    }
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  set(params) {
    const id = this.nextId++;
    return this.send({ type: 'set', id, params }) ? id : null;
  }

  loadPreset(name) {
    return this.send({ type: 'load_preset', id: this.nextId++, name });
  }
}
