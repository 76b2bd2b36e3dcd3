// The page: picture, sources, controls.

import { Controls } from './controls.js';
import { Publisher } from './devices.js';
import { Player } from './player.js';
import { Socket } from './socket.js';
import { Recording, copyViewerLink, fullScreen, snapshot } from './tools.js';

const stream = new URLSearchParams(location.search).get('stream') || 'main';
const $ = (id) => document.getElementById(id);

const player = new Player(stream, $('result'), $('fallback'));
const publisher = new Publisher(stream);
const recording = new Recording($('result'));
let socket = null;
let controls = null;
let looks = [];
let uplink = null;
let stats = null;

function say(text) {
  $('said').textContent = text;
}

function notice(text, { retry = false, token = false } = {}) {
  $('notice').hidden = !text;
  $('notice-text').textContent = text;
  $('retry').hidden = !retry;
  $('token-form').hidden = !token;
}

async function json(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    const error = new Error(body ? body.error.message : `the server answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return response.status === 204 ? null : response.json();
}

function showState(state, text) {
  const names = { waiting: 'waiting for a picture', refused: 'refused', lost: 'lost', live: 'live' };
  $('state').textContent = names[state] || state;
  $('state').dataset.state = state;
  if (state === 'live') notice(text);
  else if (state === 'refused') notice(text, { retry: true });
  else if (text) notice(text);
}

function showFigures() {
  const latency = player.meter.latency();
  const parts = [];
  if (player.meter.fps()) parts.push(`${player.meter.fps().toFixed(1)} fps`);
  if (latency !== null) parts.push(`${Math.max(0, latency + (uplink || 0) / 2).toFixed(0)} ms`);
  if (stats) parts.push(`${(stats.video.bitrate_bps / 1e6).toFixed(2)} Mbit/s`);
  if (stats && stats.fps) parts.push(`engine ${stats.fps.toFixed(1)} fps`);
  if (recording.isOn) parts.push(`rec ${recording.elapsed()}`);
  $('figures').textContent = parts.join(' \u00b7 ');
}

function showSource(state, text) {
  for (const name of ['server', 'camera', 'screen']) {
    $(`use-${name}`).setAttribute('aria-pressed', String(name === state));
  }
  $('inset').srcObject = publisher.media;
  $('inset').hidden = !publisher.media;
  if (text) say(text);
}

async function listCameras() {
  const cameras = await publisher.cameras();
  const options = cameras.map((camera, ix) => new Option(camera.label || `Camera ${ix + 1}`, camera.deviceId));
  const chosen = $('camera').value;
  $('camera').replaceChildren(...options);
  if (cameras.some((camera) => camera.deviceId === chosen)) $('camera').value = chosen;
  $('camera-choice').hidden = cameras.length < 2;
}

function showLooks(schema) {
  looks = schema.looks;
  $('looks').hidden = looks.length === 0;
  const make = ({ name, prompt }) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = name;
    button.onclick = () => controls.set({ prompt });
    return button;
  };
  $('looks').querySelector('.buttons').replaceChildren(...looks.map(make));
}

function markLook(params) {
  $('looks').querySelectorAll('button').forEach((button, ix) => {
    button.setAttribute('aria-pressed', String(looks[ix].prompt === params.prompt));
  });
  $('inset').classList.toggle('mirrored', params.mirror === true);
  if (params.size && params.size !== 'auto') shape(params.size);
}

function shape(size) {
  const [width, height] = size.split('x');
  $('frame').style.aspectRatio = `${width} / ${height}`;
}

async function listPresets() {
  const names = await json('/api/presets');
  $('preset').replaceChildren(...names.map((name) => new Option(name, name)));
  $('load').disabled = $('delete').disabled = names.length === 0;
}

function openSocket() {
  socket = new Socket(stream);
  player.meter.offset = () => socket.offset;
  socket.addEventListener('hello', ({ detail }) => {
    player.meter.epoch = detail.epoch_unix_ms;
    controls.show(detail.params);
    controls.lock(!detail.can_control);
    markLook(detail.params);
    $('source-name').textContent = detail.source;
  });
  socket.addEventListener('params', ({ detail }) => {
    controls.show(detail.params);
    markLook(detail.params);
  });
  socket.addEventListener('phase', ({ detail }) => { $('source-name').textContent = detail.source; });
  socket.addEventListener('trouble', ({ detail }) => say(detail.message));
  socket.addEventListener('done', ({ detail }) => controls.done(detail.id));
  socket.addEventListener('refused', ({ detail }) => {
    controls.refused(detail.id, detail.error);
    say(detail.error.message);
  });
  socket.addEventListener('stats', ({ detail }) => {
    stats = detail.stats;
    player.told(stats);
    if (stats.size) shape(stats.size);
  });
  socket.addEventListener('bye', ({ detail }) => notice(detail.reason));
  socket.addEventListener('closed', () => say('The server cannot be reached; trying again.'));
}

async function record() {
  try {
    if (recording.isOn) say(await recording.stop());
    else recording.start();
  } catch (error) {
    say(error.message);
  }
  $('record').setAttribute('aria-pressed', String(recording.isOn));
  $('record').textContent = recording.isOn ? 'Stop' : 'Record';
}

function step(by) {
  const { strength } = controls.values;
  const now = strength === 'auto' ? 0.5 : strength;
  controls.set({ strength: Math.min(1, Math.max(0, Math.round((now + by) * 100) / 100)) });
}

function onKey(event) {
  const isTyping = event.target.closest('input, textarea, select, dialog[open]');
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !controls) return;
  const look = looks['1234567890'.indexOf(event.key)];
  const actions = {
    arrowleft: () => step(-0.05),
    arrowright: () => step(0.05),
    r: () => controls.set({ seed: Math.floor(Math.random() * 2 ** 31) }),
    m: () => controls.set({ mirror: !controls.values.mirror }),
    f: () => fullScreen($('frame')),
    c: () => snapshot(stream).then(say, (error) => say(error.message)),
    v: record,
    '?': () => $('keys').showModal(),
  };
  const action = look ? () => controls.set({ prompt: look.prompt }) : actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

function wireTools() {
  $('snapshot').onclick = () => snapshot(stream).then(say, (error) => say(error.message));
  $('record').onclick = record;
  $('full').onclick = () => fullScreen($('frame'));
  $('copy').onclick = () => copyViewerLink(stream).then(say);
  $('help').onclick = () => $('keys').showModal();
  $('inset-place').onchange = () => { $('inset').dataset.place = $('inset-place').value; };
  $('inset').dataset.place = 'bottom-left';
  $('retry').onclick = () => start();
  $('token-form').onsubmit = (event) => {
    event.preventDefault();
    const url = new URL(location.href);
    url.searchParams.set('token', $('token').value);
    location.href = url.href;
  };
  $('theme').onclick = () => {
    const isLight = matchMedia('(prefers-color-scheme: light)').matches;
    const now = document.documentElement.dataset.theme || (isLight ? 'light' : 'dark');
    setTheme(now === 'light' ? 'dark' : 'light');
  };
  addEventListener('keydown', onKey);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem('theme', theme);
}

function wireSources() {
  $('use-server').onclick = () => publisher.stop();
  $('use-camera').onclick = () => publisher.camera($('camera').value).then(listCameras);
  $('use-screen').onclick = () => publisher.screen();
  $('camera').onchange = () => publisher.media && publisher.camera($('camera').value);
  publisher.addEventListener('state', ({ detail }) => showSource(detail.state, detail.text));
  if (navigator.mediaDevices) navigator.mediaDevices.addEventListener('devicechange', listCameras);
}

function wirePresets() {
  const tell = (work) => work.then(listPresets).catch((error) => say(error.message));
  const url = (name, rest = '') => `/api/presets/${encodeURIComponent(name)}${rest}?stream=${stream}`;
  $('load').onclick = () => tell(json(url($('preset').value, '/load'), { method: 'POST' }));
  $('delete').onclick = () => tell(json(url($('preset').value), { method: 'DELETE' }));
  $('save').onsubmit = (event) => {
    event.preventDefault();
    const name = $('preset-name').value.trim();
    tell(json(url(name), { method: 'PUT' }).then(() => say(`Saved ${name}.`)));
  };
}

async function start() {
  notice('');
  try {
    const schema = await json('/api/schema');
    controls = new Controls($('controls'), schema, (params) => socket.set(params));
    showLooks(schema);
    if (!socket) openSocket();
    await Promise.all([listPresets().catch(() => {}), listCameras().catch(() => {})]);
    await player.connect();
  } catch (error) {
    const isLocked = error.status === 401 || error.status === 403;
    showState('refused', isLocked ? 'This server asks for a token.' : 'The server cannot be reached.');
    notice(isLocked ? 'This server asks for a token.' : 'The server cannot be reached.', { retry: !isLocked, token: isLocked });
    if (!isLocked) setTimeout(start, 4000);
  }
}

if (localStorage.getItem('theme')) setTheme(localStorage.getItem('theme'));
player.addEventListener('state', ({ detail }) => showState(detail.state, detail.text));
wireTools();
wireSources();
wirePresets();
setInterval(showFigures, 500);
setInterval(async () => { uplink = await publisher.roundTrip(); }, 1000);
Object.defineProperty(window, 'dreamglass', {
  get: () => ({
    state: player.state,
    connection: player.session && player.session.pc,
    stats: { fps: player.meter.fps(), latency_ms: player.meter.latency(), frames: player.meter.frames, freezes: player.meter.freezes },
    refused: controls && controls.lastRefused,
    params: controls && controls.values,
  }),
});
start();
