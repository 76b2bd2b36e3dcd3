// A bad network: every datagram between browser and server goes through here, late, twice out of order or not at all.

import { createSocket } from 'node:dgram';

// Puts a relay into every WHEP and WHIP session that `page` opens. `network` can be changed at any time:
// `loss` 0 to 1, `delay` and `jitter` in milliseconds, both ways.
export async function relayed(page) {
  const network = { loss: 0, delay: 0, jitter: 0, passed: 0, lost: 0 };
  const sockets = [];
  await page.route(/\/(whep|whip)\//, async (route) => {
    if (route.request().method() !== 'POST') return route.continue();
    // The server is not told where the browser is: it hears from the relay alone.
    const offer = route.request().postData().split('\r\n').filter((line) => !line.startsWith('a=candidate'));
    const response = await route.fetch({ postData: offer.join('\r\n') });
    if (response.status() !== 201) return route.fulfill({ response });
    const answer = await response.text();
    const candidates = answer.match(/^a=candidate:\S+ 1 udp \S+ \S+ \d+ typ host.*$/gim) || [];
    const parts = candidates.map((line) => line.split(' ')).find((words) => words[4].includes('.'));
    const port = await open(parts[4], Number(parts[5]), network, sockets);
    parts[5] = String(port);
    // The only way to the server is through here.
    const others = answer.split('\r\n').filter((line) => !/^a=(candidate|end-of-candidates)/.test(line));
    others.splice(others.length - 1, 0, parts.join(' '), 'a=end-of-candidates');
    return route.fulfill({ response, body: others.join('\r\n') });
  });
  await page.route(/\/peers\//, (route) => {
    if (route.request().method() !== 'PATCH') return route.continue();
    return route.fulfill({ status: 204 });
  });
  network.close = () => sockets.splice(0).forEach((socket) => socket.close());
  return network;
}

async function open(address, port, network, sockets) {
  const [near, far] = [createSocket('udp4'), createSocket('udp4')];
  sockets.push(near, far);
  let browser = null;
  const pass = (send) => {
    if (Math.random() < network.loss) {
      network.lost += 1;
      return;
    }
    network.passed += 1;
    const wait = network.delay + (Math.random() * 2 - 1) * network.jitter;
    if (wait <= 0) send();
    else setTimeout(send, wait);
  };
  // A datagram may be on its way when the test ends.
  const quietly = (send) => { try { send(); } catch { /* closed */ } };
  near.on('message', (data, from) => {
    browser = from;
    pass(() => quietly(() => far.send(data, port, address)));
  });
  far.on('message', (data) => pass(() => quietly(() => browser && near.send(data, browser.port, browser.address))));
  await Promise.all([near, far].map((socket) => new Promise((resolve) => { socket.bind(0, address, resolve); })));
  return near.address().port;
}
