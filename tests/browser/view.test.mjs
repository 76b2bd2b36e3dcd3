// A browser as a viewer: smooth, soon, and always the newest.

import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { SECONDS, SHOTS, isLive, openBrowser, openPage, percentiles, sleep, startServer } from './harness.mjs';
import { inbound, watch } from './stamps.mjs';

test('a viewer sees 30 frames a second, soon after they were taken', async () => {
  const server = await startServer('--source', 'synthetic:512x512@30', '--pass-through');
  const browser = await openBrowser();
  try {
    const page = await openPage(await browser.newContext(), `${server.url}/view`);
    await isLive(page);
    await sleep(2000);
    // Other work on this machine only makes it worse: what is wrong with the server is there in every try.
    let figures;
    for (let tries = 0; tries < 3 && !(figures && isSmooth(figures)); tries += 1) figures = await measure(page);
    const { fps, freezes, p50, p95, read, told } = figures;
    assert.ok(isSmooth(figures), JSON.stringify({ fps, freezes, p50, p95 }));
    assert.ok(read > 0.95, 'stamps cannot be read');
    assert.ok(Math.abs(told - p50) < 40, `the page says ${told} ms, its pixels ${p50} ms`);
    assert.deepEqual(page.problems, []);
    await page.screenshot({ path: `${SHOTS}/view.png` });
  } finally {
    await browser.close();
    await server.stop();
  }
});

const isSmooth = ({ fps, freezes, p50, p95 }) => fps >= 29 && freezes === 0 && p50 <= 60 && p95 <= 100;

async function measure(page) {
  const before = await inbound(page);
  const began = Date.now();
  const seen = await watch(page, SECONDS);
  const seconds = (Date.now() - began) / 1000;
  const after = await inbound(page);
  const fps = (after.framesDecoded - before.framesDecoded) / seconds;
  const freezes = after.freezeCount - before.freezeCount;
  const ages = seen.map((s) => s.age).filter((age) => age !== null);
  const { p50, p95 } = percentiles(ages);
  const told = await page.evaluate(() => window.dreamglass.latency_ms);
  console.log(`${seconds.toFixed(0)} s: ${fps.toFixed(2)} fps decoded, ${freezes} freezes, glass to glass p50 ${p50} ms ` +
    `p95 ${p95} ms, ${ages.length} of ${seen.length} stamps read, the page says ${told.toFixed(1)} ms`);
  return { fps, freezes, p50, p95, read: ages.length / seen.length, told };
}

const hasIpv6 = Object.values(networkInterfaces()).flat().some(({ address }) => address === '::1');

test('a viewer comes by IPv6', { skip: !hasIpv6 }, async () => {
  const server = await startServer('--source', 'synthetic:512x512@30', '--pass-through', '--bind', '[::1]:0', '--media-address', '::1');
  const browser = await openBrowser();
  try {
    const page = await openPage(await browser.newContext(), `${server.url}/view`);
    await isLive(page);
    const address = await page.evaluate(async () => {
      const reports = [...(await window.dreamglass.connection.getStats()).values()];
      const transport = reports.find((report) => report.type === 'transport');
      const pair = reports.find((report) => report.id === transport.selectedCandidatePairId);
      return reports.find((report) => report.id === pair.remoteCandidateId).address;
    });
    assert.equal(address, '::1');
  } finally {
    await browser.close();
    await server.stop();
  }
});

test('with a model on this adapter the newest frame is shown', async () => {
  const server = await startServer('--source', 'synthetic:512x512@30', '--size', '512x512');
  const browser = await openBrowser();
  try {
    const page = await openPage(await browser.newContext(), `${server.url}/view`);
    await isLive(page);
    const stats = await until20(server);
    console.log(`with models/demo: ${stats.fps.toFixed(2)} fps, latency ${stats.latency_ms.toFixed(0)} ms, lag ${stats.lag_frames} frames`);
    // What is made now was the newest when its turn came: no queue grows.
    assert.ok(stats.frames.dropped > 0, 'the engine keeps up, so this shows nothing');
    assert.ok(stats.latency_ms < (1000 / stats.fps) * 3 + 100, JSON.stringify(stats));
    await page.screenshot({ path: `${SHOTS}/model.png` });
  } finally {
    await browser.close();
    await server.stop();
  }
});

// The figures after 20 pictures.
async function until20(server) {
  for (let tries = 0; tries < 240; tries += 1) {
    const stats = await server.get('/api/stats');
    if (stats.frames.processed >= 20) return stats;
    await sleep(500);
  }
  throw new Error('20 pictures take more than two minutes');
}
