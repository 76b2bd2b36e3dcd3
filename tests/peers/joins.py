"""Viewers that come and go, many at once: how long each waits for its first picture, what the server keeps
of them, and what the engine feels.

    python tests/peers/joins.py [JOINS] [AT_ONCE]
"""

import asyncio
import json
import os
import sys
import time

from aiortc import RTCConfiguration, RTCPeerConnection

from server import Server

JOINS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
AT_ONCE = int(sys.argv[2]) if len(sys.argv) > 2 else 20
LOCAL = RTCConfiguration(iceServers=[])


def resident(server):
    """Bytes of the server's memory, and its open files."""
    pid = server.process.pid
    with open(f"/proc/{pid}/statm") as statm:
        pages = int(statm.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def stats(server):
    return json.loads(server.request("GET", "/api/stats")[2])


async def join(server):
    """Seconds from the click to the first picture."""
    began = time.monotonic()
    pc = RTCPeerConnection(LOCAL)
    transceiver = pc.addTransceiver("video", direction="recvonly")
    resource = await server.exchange("/whep", pc)
    await asyncio.wait_for(transceiver.receiver.track.recv(), 20)
    waited = time.monotonic() - began
    await asyncio.sleep(0.2)
    await asyncio.to_thread(server.request, "DELETE", resource)
    await pc.close()
    return waited


async def rounds(server, joins):
    waits = []
    while len(waits) < joins:
        waits += await asyncio.gather(*(join(server) for _ in range(AT_ONCE)))
    await settled(server)
    return waits


async def settled(server):
    """Waits until the server has heard of the last one's end and closed its sockets."""
    deadline = time.monotonic() + 20
    while stats(server)["viewers"] > 0:
        assert time.monotonic() < deadline, "viewers stay though they left"
        await asyncio.sleep(0.1)
    files = [1000, resident(server)[1]]
    while files[-1] < files[-2]:
        await asyncio.sleep(2)
        files.append(resident(server)[1])


async def main():
    # The engine goes first: these peers run on the same few cores, which those of an audience do not.
    os.nice(15)
    limit = ["--max-viewers", str(AT_ONCE)]
    with Server("--source", "synthetic:256x256@30", "--pass-through", *limit) as server:
        await rounds(server, 5 * AT_ONCE)
        before = resident(server)
        waits = sorted(await rounds(server, JOINS))
        after = resident(server)
        alone = waits[len(waits) // 2]
        print(
            f"{len(waits)} joins, {AT_ONCE} at once: first picture p50 {alone * 1000:.0f} ms, "
            f"p95 {waits[len(waits) * 95 // 100] * 1000:.0f} ms; memory {before[0] / 2**20:.1f} -> "
            f"{after[0] / 2**20:.1f} MiB, files {before[1]} -> {after[1]}"
        )
        assert after[0] <= before[0] * 1.05, "memory grew by more than 5 %"
        assert after[1] <= before[1] + 2, "files stay open"
    one = []
    with Server("--source", "synthetic:256x256@30", "--pass-through", *limit) as server:
        for _ in range(10):
            one.append(await join(server))
    one.sort()
    print(f"one at a time: first picture p50 {one[5] * 1000:.0f} ms")
    assert one[5] <= 0.5, "p50 of a join is above 500 ms"


if __name__ == "__main__":
    asyncio.run(main())
