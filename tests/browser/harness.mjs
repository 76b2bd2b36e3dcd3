// A real server, a real browser, and what their pictures say.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '../..');
const PROGRAM = process.env.DREAMGLASS || join(ROOT, 'target/debug/dreamglass');
const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';

// Where screenshots go: a folder that nobody keeps, unless one is named.
export const SHOTS = process.env.SHOTS || mkdtempSync(join(tmpdir(), 'dreamglass-shots-'));
mkdirSync(SHOTS, { recursive: true });

// Seconds that the long measurement takes; 60 for the record.
export const SECONDS = Number(process.env.SECONDS || 15);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Until `check` says something true, which is returned.
export async function until(what, check, patience = 20_000) {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not in ${patience / 1000} s: ${what}`);
    await sleep(100);
  }
}

// `dreamglass serve` on loopback, or where `--bind` says.
export async function startServer(...args) {
  const home = mkdtempSync(join(tmpdir(), 'dreamglass-home-'));
  const bind = args.includes('--bind') ? [] : ['--bind', '127.0.0.1:0'];
  const env = { ...process.env, XDG_CONFIG_HOME: home };
  const child = spawn(PROGRAM, ['serve', ...bind, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const lines = [];
  const exit = new Promise((resolve) => child.on('exit', (code) => resolve(code)));
  const url = await new Promise((resolve, reject) => {
    exit.then((code) => reject(new Error(`the server ended with ${code}: ${lines.join('\n')}`)));
    createInterface({ input: child.stderr }).on('line', (line) => {
      lines.push(line);
      const [, found] = line.match(/listening on (http:\S+?)\/?$/) || [];
      if (found) resolve(found);
    });
  });
  const get = async (path, options) => (await fetch(url + path, options)).json();
  const stop = async () => {
    child.kill('SIGINT');
    const late = new Promise((resolve) => setTimeout(() => resolve('none'), 20_000).unref());
    const code = await Promise.race([exit, late]);
    child.kill('SIGKILL');
    rmSync(home, { recursive: true, force: true });
    if (code !== 130) throw new Error(`exit code ${code}, expected 130: ${lines.slice(-5).join('\n')}`);
  };
  return { url, lines, get, stop, pid: child.pid, kill: (signal) => child.kill(signal) };
}

// Raw frames of a real clip, as a camera would give them: {path, frames: [luma of 32x32]}.
export function camera(size = '640x360', seconds = 6) {
  const path = join(mkdtempSync(join(tmpdir(), 'dreamglass-clip-')), 'clip.y4m');
  const clip = join(ROOT, 'app/assets/signing.mp4');
  const scale = `scale=${size.replace('x', ':')},fps=20`;
  run('ffmpeg', ['-v', 'error', '-i', clip, '-t', String(seconds), '-vf', scale, '-pix_fmt', 'yuv420p', path]);
  const small = ['-v', 'error', '-i', path, '-vf', 'scale=32:32:flags=area,format=gray', '-f', 'rawvideo', '-'];
  const luma = run('ffmpeg', small);
  const frames = [];
  for (let at = 0; at + 1024 <= luma.length; at += 1024) frames.push([...luma.subarray(at, at + 1024)]);
  return { path, frames };
}

function run(program, args) {
  const done = spawnSync(program, args, { maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(`${program}: ${done.stderr}`);
  return done.stdout;
}

export async function openBrowser({ clip, args = [] } = {}) {
  const fake = clip
    ? ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
      '--auto-select-desktop-capture-source=Entire screen', `--use-file-for-fake-video-capture=${clip}`]
    : [];
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-background-timer-throttling', '--allow-loopback-in-peer-connection', '--disable-renderer-backgrounding',
      '--disable-backgrounding-occluded-windows', '--autoplay-policy=no-user-gesture-required', ...fake, ...args,
    ],
  });
}

// A page whose errors fail the test: `page.problems` should be empty.
export async function openPage(context, url) {
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && page.problems.push(message.text()));
  await page.goto(url);
  return page;
}

export const isLive = (page) => until('a live picture', () => page.evaluate(() => window.dreamglass?.state === 'live'), 60_000);

// Correlation of two pictures of luma: 1 the same, 0 nothing in common.
export function likeness(a, b) {
  const mean = (v) => v.reduce((sum, x) => sum + x, 0) / v.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  }
  return ab / Math.sqrt(aa * bb || 1);
}

// What the page shows now, as luma of `side` x `side`, or as RGB.
export function look(page, { side = 32, rgb = false, selector = '#result' } = {}) {
  return page.evaluate(({ side, rgb, selector }) => {
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.imageSmoothingQuality = 'high';
    context.drawImage(document.querySelector(selector), 0, 0, side, side);
    const { data } = context.getImageData(0, 0, side, side);
    const out = [];
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b] = data.subarray(i, i + 3);
      if (rgb) out.push(r, g, b);
      else out.push(0.299 * r + 0.587 * g + 0.114 * b);
    }
    return out;
  }, { side, rgb, selector });
}

// Middle and 95th percentile.
export function percentiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { p50: at(0.5), p95: at(0.95) };
}
