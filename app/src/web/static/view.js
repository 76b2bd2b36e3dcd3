// The picture alone, for audiences and for OBS.

import { Player } from './player.js';
import { Socket } from './socket.js';

const query = new URLSearchParams(location.search);
const stream = query.get('stream') || 'main';
const state = document.getElementById('state');
const video = document.getElementById('result');

document.body.classList.toggle('cover', query.get('fit') === 'cover');
document.body.classList.toggle('clear', query.get('background') === 'clear');

const player = new Player(stream, video, document.getElementById('fallback'));
const socket = new Socket(stream);
player.meter.offset = () => socket.offset;
player.addEventListener('state', ({ detail }) => {
  state.textContent = detail.text || detail.state;
  document.body.classList.toggle('live', detail.state === 'live');
});
socket.addEventListener('hello', ({ detail }) => { player.meter.epoch = detail.epoch_unix_ms; });
socket.addEventListener('stats', ({ detail }) => player.told(detail.stats));

function full() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().catch(() => {});
}
addEventListener('click', full);
addEventListener('keydown', (event) => event.key.toLowerCase() === 'f' && full());

Object.defineProperty(window, 'dreamglass', {
  get: () => ({ state: player.state, frames: player.meter.frames, freezes: player.meter.freezes,
    fps: player.meter.fps(), latency_ms: player.meter.latency(), connection: player.session && player.session.pc }),
});
player.connect();
