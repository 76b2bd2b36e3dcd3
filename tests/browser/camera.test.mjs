// A browser's camera through the server and back: it is that camera's picture, stylised, and pages agree.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SHOTS, camera, isLive, likeness, look, openBrowser, openPage, sleep, startServer, until } from './harness.mjs';

const clip = camera();
let browser;
before(async () => {
  browser = await openBrowser({ clip: clip.path });
});
after(() => browser.close());

// The likeness of what the page shows to the most similar frame of the clip, and which frame that is.
async function closest(page) {
  const shown = await look(page);
  const all = clip.frames.map((frame) => likeness(shown, frame));
  const best = all.reduce((top, value, ix) => (value > all[top] ? ix : top), 0);
  return { likeness: all[best], frame: best };
}

async function useCamera(page) {
  await page.click('#use-camera');
  await until('the camera is published', async () => {
    const pressed = await page.getAttribute('#use-camera', 'aria-pressed');
    return pressed === 'true' && (await page.evaluate(() => window.dreamglass.params !== null));
  });
}

// Sets a field of the page as a person does.
async function type(page, id, text) {
  await page.fill(id, text);
  await page.press(id, 'Tab');
}

test('the camera that is published is the picture that is seen', async () => {
  const server = await startServer('--source', 'synthetic:512x512@30', '--pass-through');
  try {
    const page = await openPage(await browser.newContext({ permissions: ['camera'] }), server.url);
    await isLive(page);
    const card = await closest(page);
    assert.ok(card.likeness < 0.6, `a test card is no camera: ${card.likeness}`);
    await useCamera(page);
    const first = await until('the clip is seen', async () => {
      const now = await closest(page);
      return now.likeness > 0.97 && now;
    });
    // A person moves: other frames come.
    const frames = new Set();
    for (let n = 0; n < 20; n += 1) {
      const now = await closest(page);
      assert.ok(now.likeness > 0.95, `${now.likeness}`);
      frames.add(now.frame);
      await sleep(100);
    }
    assert.ok(frames.size >= 5, `only frames ${[...frames]} of the clip are seen`);
    console.log(`seen: likeness ${first.likeness.toFixed(3)}, ${frames.size} frames told apart in 2 s`);
    // The page reads its stream over the camera: the publisher is told apart from the source.
    const [main] = await server.get('/api/streams');
    assert.equal(main.has_publisher, true);
    await page.click('#use-server');
    await until('the test card is back', async () => (await closest(page)).likeness < 0.6);
    assert.deepEqual(page.problems, []);
  } finally {
    await server.stop();
  }
});

test('a screen is published like a camera', async () => {
  const server = await startServer('--source', 'none', '--pass-through');
  try {
    const page = await openPage(await browser.newContext(), server.url);
    await page.click('#use-screen');
    await isLive(page);
    assert.equal(await page.getAttribute('#use-screen', 'aria-pressed'), 'true');
    const same = await until('what is seen is the screen', async () => {
      const now = likeness(await look(page), await look(page, { selector: '#inset' }));
      return now > 0.95 && now;
    });
    console.log(`screen: likeness to its inset ${same.toFixed(3)}`);
    assert.deepEqual(page.problems, []);
  } finally {
    await server.stop();
  }
});

test('the stylised camera follows the prompt, and two pages stay in step', async () => {
  const server = await startServer('--source', 'none', '--size', '256x256', '--look', 'none', '--steps', '1', '--fit', 'stretch');
  try {
    const context = await browser.newContext({ permissions: ['camera'], viewport: { width: 1280, height: 900 } });
    const page = await openPage(context, server.url);
    await useCamera(page);
    await isLive(page);
    const other = await openPage(await browser.newContext(), server.url);
    await isLive(other);
    const plain = await until('the stylised clip is seen', async () => {
      const now = await closest(page);
      return now.likeness > 0.7 && now;
    }, 60_000);

    const colours = () => look(page, { side: 16, rgb: true });
    const shots = { before: await colours() };
    await sleep(1500);
    shots.later = await colours();
    // In one page a look is chosen: the other shows its prompt, and both its picture.
    await page.click('#looks button:has-text("charcoal")');
    const prompt = await until('the other page shows the prompt', async () => {
      const said = await other.inputValue('#p-prompt');
      return /charcoal/.test(said) && said;
    });
    assert.equal(prompt, await page.inputValue('#p-prompt'));
    const distance = (a, b) => a.reduce((sum, v, ix) => sum + Math.abs(v - b[ix]), 0) / a.length;
    const moved = distance(shots.before, shots.later);
    const changed = await until('the picture follows the prompt', async () => {
      const by = distance(shots.later, await colours());
      return by > 2 * moved + 10 && by;
    }, 30_000);
    await sleep(1500);
    const both = [await look(page), await look(other)];
    assert.ok(likeness(...both) > 0.8, `the pages show different pictures: ${likeness(...both)}`);
    const charcoal = await closest(page);
    console.log(`stylised: likeness ${plain.likeness.toFixed(3)} (charcoal ${charcoal.likeness.toFixed(3)}), ` +
      `colours move by ${moved.toFixed(1)}, and by ${changed.toFixed(1)} with another prompt`);
    assert.ok(charcoal.likeness > 0.4, `charcoal has nothing of the camera: ${charcoal.likeness}`);

    await other.bringToFront();
    await type(other, '#p-strength', '0.35');
    await until('the first page shows the strength', async () => (await page.inputValue('#p-strength')) === '0.35');
    await type(other, '#p-strength', '7');
    await until('a wrong value is refused in words', async () => /1/.test(await other.textContent('#p-strength-error')));
    assert.equal((await server.get('/api/params')).strength, 0.35);
    await page.screenshot({ path: `${SHOTS}/camera.png` });
    await other.screenshot({ path: `${SHOTS}/other.png` });
    assert.deepEqual([...page.problems, ...other.problems], []);
  } finally {
    await server.stop();
  }
});
