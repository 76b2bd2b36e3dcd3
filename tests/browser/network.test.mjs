// Bad networks: viewers and cameras get over loss, delay and disorder, and come back after silence.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { camera, isLive, likeness, look, openBrowser, openPage, sleep, startServer, until } from './harness.mjs';
import { relayed } from './relay.mjs';
import { inbound, watch } from './stamps.mjs';

const BAD = { loss: 0.05, delay: 50, jitter: 20 };
const GOOD = { loss: 0, delay: 0, jitter: 0 };

const clip = camera();
let browser;
before(async () => {
  browser = await openBrowser({ clip: clip.path });
});
after(() => browser.close());

async function openRelayed(url, permissions = []) {
  const context = await browser.newContext({ permissions });
  const page = await context.newPage();
  const network = await relayed(page);
  await page.goto(url);
  return { page, network };
}

// Frames per second and the longest gap in ms over `seconds`. Other work on this machine only makes them worse,
// so a window that is not smooth has two more tries: a server that does not recover fails them all.
async function watchSmooth(page, seconds) {
  let found;
  for (let tries = 0; tries < 3 && !(found?.fps >= 28 && found.gap < 300); tries += 1) {
    const seen = await watch(page, seconds);
    found = { fps: seen.length / seconds, gap: Math.max(...seen.slice(1).map((s, ix) => s.at - seen[ix].at)) };
  }
  return found;
}

test('a viewer gets over loss, delay and disorder, and comes back after ten silent seconds', async () => {
  const server = await startServer('--source', 'synthetic:512x512@30', '--pass-through');
  const { page, network } = await openRelayed(`${server.url}/view`);
  try {
    await isLive(page);
    await sleep(1000);
    Object.assign(network, BAD);
    const before = await inbound(page);
    const bad = await watch(page, 15);
    const after = await inbound(page);
    const longest = Math.max(...bad.slice(1).map((s, ix) => s.at - bad[ix].at));
    Object.assign(network, GOOD);
    await sleep(2000);
    const { fps, gap } = await watchSmooth(page, 5);
    console.log(`5 % lost, 50 ms late, 20 ms jitter: ${(bad.length / 15).toFixed(1)} fps, longest gap ${longest.toFixed(0)} ms, ` +
      `${after.nackCount - before.nackCount} NACKs, ${after.pliCount - before.pliCount} PLIs, ${network.lost} of ` +
      `${network.lost + network.passed} datagrams lost; 2 s later ${fps.toFixed(1)} fps, longest gap ${gap.toFixed(0)} ms`);
    assert.ok(network.lost > 20, 'the relay lost nothing: media goes another way');
    assert.ok(bad.length >= 15 * 15, `${bad.length} frames in 15 s`);
    assert.ok(fps >= 28 && gap < 300, `${fps} fps, gap ${gap} ms`);

    Object.assign(network, { loss: 1 });
    await until('the page says that it is lost', () => page.evaluate(() => window.dreamglass.state !== 'live'), 10_000);
    await sleep(10_000);
    Object.assign(network, GOOD);
    const since = Date.now();
    await isLive(page);
    const back = Date.now() - since;
    const again = await watchSmooth(page, 3);
    console.log(`after 10 s without a datagram: live again ${back} ms later, ${again.fps.toFixed(1)} fps`);
    assert.ok(back < 15_000 && again.fps >= 28, `${back} ms, ${again.fps} fps`);
    // The old sessions are forgotten, not kept.
    await until('one viewer', async () => (await server.get('/api/stats')).viewers === 1, 60_000);
  } finally {
    await page.close();
    network.close();
    await server.stop();
  }
});

test('a camera gets through the same network', async () => {
  const server = await startServer('--source', 'none', '--pass-through');
  const { page, network } = await openRelayed(server.url, ['camera']);
  const viewer = await openPage(await browser.newContext(), `${server.url}/view`);
  try {
    await page.click('#use-camera');
    const seen = async () => {
      const shown = await look(viewer);
      return Math.max(...clip.frames.map((frame) => likeness(shown, frame)));
    };
    await until('the camera is seen', async () => (await isShown(viewer)) && (await seen()) > 0.95);
    Object.assign(network, BAD);
    await sleep(2000);
    const [frames, worst] = [new Set(), [1]];
    for (let n = 0; n < 40; n += 1) {
      const shown = await look(viewer);
      const all = clip.frames.map((frame) => likeness(shown, frame));
      worst.push(Math.max(...all));
      frames.add(all.indexOf(Math.max(...all)));
      await sleep(100);
    }
    const stats = await server.get('/api/stats');
    console.log(`camera over the bad network: likeness at worst ${Math.min(...worst).toFixed(3)}, ${frames.size} frames told ` +
      `apart in 4 s, ${stats.publisher.broken} pictures broken, ${network.lost} of ${network.lost + network.passed} datagrams lost`);
    assert.ok(network.lost > 15, 'the relay lost nothing: media goes another way');
    assert.ok(Math.min(...worst) > 0.9 && frames.size >= 8, `${Math.min(...worst)}, ${frames.size} frames`);
    Object.assign(network, { loss: 1 });
    await sleep(10_000);
    Object.assign(network, GOOD);
    const numbers = async () => (await server.get('/api/stats')).frames.received;
    const before = await numbers();
    await until('frames of the camera come again', async () => (await numbers()) > before + 20, 30_000);
    assert.ok((await seen()) > 0.95);
  } finally {
    await page.close();
    network.close();
    await server.stop();
  }
});

const isShown = (page) => page.evaluate(() => document.querySelector('#result').videoWidth > 0);
