// The test card's own stamps, read out of the pixels in a page: no clock of the engine is trusted.

// Watches a video of 512 pixels' width for some seconds: for each frame that the browser presents, when it
// did, the age of the card in milliseconds and the number of it (null where they cannot be read).
export function watch(page, seconds) {
  return page.evaluate(async (seconds) => {
    const CELL = 16;
    const COLUMNS = 32;
    const video = document.querySelector('#result');
    const canvas = new OffscreenCanvas(COLUMNS * CELL, 4 * CELL);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const word = (pixels, row) => {
      let value = 0;
      for (let column = 0; column < COLUMNS; column += 1) {
        const at = ((row * CELL + CELL / 2) * canvas.width + column * CELL + CELL / 2) * 4;
        value = (value << 1) | (pixels[at + 1] > 127 ? 1 : 0);
      }
      return value >>> 0;
    };
    const check = (n) => {
      const mixed = Math.imul(n, 0x9e3779b1) >>> 0;
      return (((mixed << 7) | (mixed >>> 25)) ^ 0xa5c35a3c) >>> 0;
    };
    const read = (pixels, row) => {
      const number = word(pixels, row);
      return check(number) === word(pixels, row + 1) ? number : null;
    };
    const seen = [];
    const end = performance.now() + seconds * 1000;
    await new Promise((resolve) => {
      const step = () => {
        context.drawImage(video, 0, 0);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        const now = Math.floor(performance.timeOrigin + performance.now()) % 2 ** 32;
        const taken = read(data, 2);
        seen.push({ at: performance.now(), age: taken === null ? null : (now - taken) | 0, number: read(data, 0) });
        if (performance.now() < end) video.requestVideoFrameCallback(step);
        else resolve();
      };
      video.requestVideoFrameCallback(step);
    });
    return seen;
  }, seconds);
}

// What the browser counts of the video that it receives.
export function inbound(page) {
  return page.evaluate(async () => {
    const reports = [...(await window.dreamglass.connection.getStats()).values()];
    const { framesDecoded, freezeCount, framesPerSecond, packetsLost, nackCount, pliCount } = reports.find(
      (report) => report.type === 'inbound-rtp' && report.kind === 'video',
    );
    return { framesDecoded, freezeCount, framesPerSecond, packetsLost, nackCount, pliCount };
  });
}
