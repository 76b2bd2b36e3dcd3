// The page as people use it: tokens, phones, snapshots, recordings, presets, and a server that goes away.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { SHOTS, isLive, look, openBrowser, openPage, sleep, startServer, until } from './harness.mjs';

const CARD = ['--source', 'synthetic:512x512@30', '--pass-through'];
let browser;
before(async () => {
  browser = await openBrowser();
});
after(() => browser.close());

const said = (page, pattern) => until(`${pattern} is said`, async () => pattern.test(await page.textContent('#said')));

test('nothing is served without the token, and the link lets in', async () => {
  const server = await startServer(...CARD, '--token', 'let-me-in', '--view-token', 'only-look');
  try {
    for (const path of ['/', '/view', '/assets/app.js', '/api/params', '/api/snapshot.jpg', '/stream.mjpg', '/metrics']) {
      const { status } = await fetch(server.url + path);
      assert.equal(status, 401, path);
    }
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(server.url);
    assert.match(await page.textContent('body'), /token/i);
    await page.fill('input', 'wrong');
    await page.click('button');
    assert.match(await page.textContent('body'), /token/i);
    await page.fill('input', 'let-me-in');
    await page.click('button');
    await isLive(page);
    assert.ok(!page.url().includes('let-me-in'), `the token stays in the address line: ${page.url()}`);
    // A viewer's link lets watch and no more.
    const viewer = await openPage(await browser.newContext(), `${server.url}/view?token=only-look`);
    await isLive(viewer);
    const change = await viewer.evaluate(async () => {
      const body = JSON.stringify({ seed: 3 });
      const response = await fetch('/api/params', { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body });
      return response.status;
    });
    assert.equal(change, 403);
    assert.equal((await fetch(`${server.url}/?token=only-look`)).status, 403);
  } finally {
    await server.stop();
  }
});

test('a picture and a film can be kept, parameters saved', async () => {
  const server = await startServer(...CARD);
  try {
    const context = await browser.newContext({ acceptDownloads: true });
    const page = await openPage(context, server.url);
    await isLive(page);
    const [picture] = await Promise.all([page.waitForEvent('download'), page.click('#snapshot')]);
    assert.match(picture.suggestedFilename(), /\.jpg$/);
    const bytes = await readFile(await picture.path());
    assert.equal(bytes.subarray(0, 3).toString('hex'), 'ffd8ff');
    assert.ok(bytes.length > 5000);

    await page.click('#record');
    assert.equal(await page.getAttribute('#record', 'aria-pressed'), 'true');
    await sleep(2500);
    const [film] = await Promise.all([page.waitForEvent('download'), page.click('#record')]);
    assert.match(film.suggestedFilename(), /\.(webm|mp4)$/);
    assert.ok((await readFile(await film.path())).length > 20_000);

    await page.fill('#p-strength', '0.25');
    await page.press('#p-strength', 'Tab');
    await until('the server has it', async () => (await server.get('/api/params')).strength === 0.25);
    await page.fill('#preset-name', 'quiet evening');
    await page.click('#save button');
    await said(page, /Saved quiet evening/);
    assert.deepEqual(await server.get('/api/presets'), ['quiet evening']);
    await page.fill('#p-strength', '0.75');
    await page.press('#p-strength', 'Tab');
    await until('the server has it', async () => (await server.get('/api/params')).strength === 0.75);
    await page.selectOption('#preset', 'quiet evening');
    await page.click('#load');
    await until('the preset is loaded', async () => (await page.inputValue('#p-strength')) === '0.25');
    await page.click('#delete');
    await until('the preset is gone', async () => (await server.get('/api/presets')).length === 0);
    assert.deepEqual(page.problems, []);
  } finally {
    await server.stop();
  }
});

test('keys, themes and a phone', async () => {
  const server = await startServer(...CARD);
  try {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: 'dark' });
    const page = await openPage(context, server.url);
    await isLive(page);
    const before = await server.get('/api/params');
    await page.keyboard.press('r');
    await page.keyboard.press('m');
    await until('keys are heard', async () => {
      const now = await server.get('/api/params');
      return now.seed !== before.seed && now.mirror !== before.mirror;
    });
    await page.keyboard.press('?');
    assert.ok(await page.isVisible('#keys'));
    await page.keyboard.press('Escape');
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await ground();
    await page.screenshot({ path: `${SHOTS}/dark.png` });
    await page.click('#theme');
    assert.notEqual(await ground(), dark);
    // Whatever takes a value has a name that is read out.
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('input, select, textarea, button')].filter(
        (field) => !field.labels?.length && !field.getAttribute('aria-label') && !field.textContent.trim(),
      ).map((field) => field.outerHTML));
    assert.deepEqual(nameless, []);

    const small = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
    const phone = await openPage(await browser.newContext(small), server.url);
    await isLive(phone);
    const [wide, width] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= width, `the page is ${wide} wide on a screen of ${width}`);
    await phone.tap('#looks button >> nth=2');
    const chosen = await phone.textContent('#looks button >> nth=2');
    await until('the look is chosen everywhere', async () => {
      const pressed = await page.textContent('#looks button[aria-pressed="true"]').catch(() => '');
      return pressed === chosen;
    });
    await phone.screenshot({ path: `${SHOTS}/phone.png` });
    assert.deepEqual([...page.problems, ...phone.problems], []);
  } finally {
    await server.stop();
  }
});

test('the page says when the server is gone, and comes back with it', async () => {
  const first = await startServer(...CARD);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(first.url);
  await isLive(page);
  await first.stop();
  await until('the end is told', async () => /server/.test(await page.textContent('#notice-text')));
  await until('the page is not live', () => page.evaluate(() => window.dreamglass.state !== 'live'));
  const second = await startServer(...CARD, '--bind', new URL(first.url).host);
  try {
    await isLive(page);
    const shown = await look(page);
    await sleep(500);
    assert.notDeepEqual(await look(page), shown, 'the picture stands still');
  } finally {
    await page.close();
    await second.stop();
  }
});

test('without WebRTC single pictures are shown', async () => {
  const server = await startServer(...CARD);
  try {
    const context = await browser.newContext();
    await context.addInitScript(() => { delete window.RTCPeerConnection; });
    const page = await openPage(context, server.url);
    await isLive(page);
    assert.ok(await page.isVisible('#fallback'));
    const shown = await look(page, { selector: '#fallback' });
    await sleep(500);
    assert.notDeepEqual(await look(page, { selector: '#fallback' }), shown);
  } finally {
    await server.stop();
  }
});
