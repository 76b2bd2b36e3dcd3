"""Peers that mean harm: half-open sessions, garbage where media belongs, floods.

    python tests/peers/hostile.py
"""

import asyncio
import json
import random
import re
import socket
import time
import urllib.error

import aiortc.rtcrtpsender as sender
from aiortc import RTCConfiguration, RTCPeerConnection

from check import publisher, watch
from joins import join, resident
from server import Server

LOCAL = RTCConfiguration(iceServers=[])
VIEWERS = 8


def post(server, path, body, kind="application/sdp"):
    """The status of a POST, and its headers."""
    try:
        status, headers, answer = server.request("POST", path, body, kind)
        return status, headers, answer
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


async def offer():
    pc = RTCPeerConnection(LOCAL)
    pc.addTransceiver("video", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    sdp = pc.localDescription.sdp
    await pc.close()
    return sdp


async def half_open(server):
    """Offers that nobody ever connects to: refused when the server is full, forgotten after a while."""
    sdp, statuses = await offer(), []
    ports = set()
    for _ in range(2000):
        status, headers, answer = await asyncio.to_thread(post, server, "/whep", sdp)
        statuses.append(status)
        if status == 201:
            ports.update(int(p) for p in re.findall(r"a=candidate:\S+ 1 udp \S+ \S+ (\d+)", answer))
        else:
            assert status in (429, 503) and headers["Retry-After"], (status, answer)
            json.loads(answer)
    assert statuses.count(201) <= 2 * VIEWERS, statuses.count(201)
    print(f"half-open: {statuses.count(201)} of {len(statuses)} taken, the others told to come back")
    return ports


def garbage(ports, address):
    """Datagrams that are no STUN, DTLS or RTP, and some that look like it."""
    rng = random.Random(7)
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sent = 0
    for port in ports:
        for _ in range(2000):
            data = bytearray(rng.randbytes(rng.randrange(1, 1400)))
            # First bytes of STUN, DTLS and RTP (RFC 7983).
            data[0] = rng.choice([0, 1, 20, 22, 63, 128, 144, 191, 255])
            probe.sendto(data, (address, port))
            sent += 1
    print(f"garbage: {sent} datagrams to {len(ports)} ports")


def slow_connections(server):
    """Connections that send half a head and wait: others are served meanwhile, and these are closed."""
    host, port = server.url.split("//")[1].split(":")
    before = resident(server)[1]
    lazy = []
    for _ in range(1200):
        lazy.append(socket.create_connection((host, int(port)), 30))
        lazy[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    began = time.monotonic()
    assert server.request("GET", "/healthz")[0] == 200
    waited = time.monotonic() - began
    for connection in lazy:
        connection.settimeout(60)
        # The end, with or without a word.
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
        connection.close()
    deadline = time.monotonic() + 20
    while resident(server)[1] > before + 4:
        assert time.monotonic() < deadline, "connections stay open"
        time.sleep(0.2)
    print(f"slow heads: {len(lazy)} connections, another was served after {waited:.1f} s")
    assert waited < 30


class Garbage:
    """An encoder whose units are no H.264, or only begin like it."""

    rng = random.Random(7)

    def encode(self, frame, force_keyframe=False):
        packets = []
        for _ in range(self.rng.randrange(1, 4)):
            data = bytearray(self.rng.randbytes(self.rng.randrange(1, 1100)))
            # Single units, aggregates, fragments, parameter sets and what nobody uses (RFC 6184).
            data[0] = self.rng.choice([0x65, 0x41, 0x67, 0x68, 0x78, 0x7C, 0x1D, 0xFF, data[0]])
            packets.append(bytes(data))
        return packets, int(frame.pts)


async def h264_garbage(server):
    """A publisher, let in like any other, whose video is rubbish; after it a good one is seen."""
    good, sender.get_encoder = sender.get_encoder, lambda codec: Garbage()
    try:
        pc, resource = await publisher(server, "/whip/bad")
        await asyncio.sleep(8)
    finally:
        sender.get_encoder = good
    stats = json.loads(server.request("GET", "/api/stats?stream=bad")[2])
    server.request("DELETE", resource)
    await pc.close()
    await asyncio.sleep(1)
    pc, resource = await publisher(server, "/whip/bad")
    seen, _ = await watch(server, "/whep/bad", 2)
    server.request("DELETE", resource)
    await pc.close()
    numbers = [number for number, _ in seen if number is not None]
    print(f"rubbish for 8 s: {stats['publisher']}; then {len(numbers)} cards of a good publisher")
    assert len(numbers) >= 20, len(numbers)


async def main():
    with Server("--source", "synthetic:256x256@30", "--pass-through", "--max-viewers", str(VIEWERS)) as server:
        await join(server)
        await h264_garbage(server)
        await asyncio.to_thread(slow_connections, server)
        before = resident(server)
        ports = await half_open(server)
        garbage(ports, server.url.split("//")[1].split(":")[0])
        for path in ["/whep/../whip/x", "/whep/%2e%2e/x", "/whep/" + "x" * 5000, "/assets/..%2f..%2fCargo.toml"]:
            status, _, _ = await asyncio.to_thread(post, server, path, "v=0")
            assert 400 <= status < 500, (path, status)
        cases = [("v=0", "text/plain", 415), ("", "application/sdp", 400), ("x" * 70000, "application/sdp", 413)]
        for body, kind, expected in cases:
            status, _, answer = await asyncio.to_thread(post, server, "/whep", body, kind)
            assert status == expected, (status, expected, answer)
        # Half-open sessions are forgotten: there is room again.
        deadline = time.monotonic() + 60
        while True:
            try:
                waited = await join(server)
                break
            except OSError as error:
                assert time.monotonic() < deadline, f"the server stays full: {error}"
                await asyncio.sleep(1)
        after = resident(server)
        print(
            f"afterwards: first picture after {waited * 1000:.0f} ms, memory {before[0] / 2**20:.1f} -> "
            f"{after[0] / 2**20:.1f} MiB, files {before[1]} -> {after[1]}"
        )
        assert after[0] <= before[0] * 1.25, "memory grew"


if __name__ == "__main__":
    asyncio.run(main())
