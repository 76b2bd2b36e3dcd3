"""Viewers that come and go, many at once: how long each waits for its first picture, what the server keeps
of them, and what the engine feels.

    python tests/peers/joins.py [JOINS] [AT_ONCE]
"""

import asyncio
import json
import os
import re
import sys
import time

from aiortc import RTCConfiguration, RTCPeerConnection

from server import Server

JOINS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
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


def frame_time(server, since=(0.0, 0)):
    """Mean seconds on the device of a frame since a reading, and the reading now."""
    text = server.request("GET", "/metrics")[2]
    figure = lambda kind: re.findall(rf'dreamglass_stage_seconds_{kind}{{stream="main",stage="(\w+)"}} (\S+)', text)
    # What only a new prompt or a new size takes is left out.
    total = sum(float(value) for stage, value in figure("sum") if stage not in ("prompt", "time"))
    frames = int(dict(figure("count")).get("decode", 0))
    now = (total, frames)
    return (total - since[0]) / max(1, frames - since[1]), now


async def coming_and_going(limit):
    """Joins in heaps: how long each waits, and what the server keeps of them."""
    with Server("--source", "synthetic:256x256@30", "--pass-through", *limit) as server:
        await rounds(server, 10 * AT_ONCE)
        before = resident(server)
        waits = sorted(await rounds(server, JOINS))
        after = resident(server)
        print(
            f"{len(waits)} joins, {AT_ONCE} at once: first picture p50 {waits[len(waits) // 2] * 1000:.0f} ms, "
            f"p95 {waits[len(waits) * 95 // 100] * 1000:.0f} ms; memory {before[0] / 2**20:.1f} -> "
            f"{after[0] / 2**20:.1f} MiB, files {before[1]} -> {after[1]}"
        )
        assert waits[len(waits) // 2] <= 0.5, "p50 of a join is above 500 ms"
        assert after[0] <= before[0] * 1.05, "memory grew by more than 5 %"
        assert after[1] <= before[1] + 2, "files stay open"


async def quiet_and_busy(server):
    """A frame's time while viewers come and go, as a multiple of its time without; in turns, so that other work
    on this machine meets both."""
    quiet, busy = [], []
    for _ in range(4):
        _, start = frame_time(server)
        await asyncio.sleep(6)
        quiet.append(frame_time(server, start)[0])
        _, start = frame_time(server)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            await asyncio.gather(*(join(server) for _ in range(5)))
        busy.append(frame_time(server, start)[0])
    ratio = sorted(busy)[1] / sorted(quiet)[1]
    shown = lambda times: " ".join(f"{t * 1000:.0f}" for t in times)
    print(f"a frame on the device: {shown(quiet)} ms, while viewers come and go {shown(busy)} ms: {ratio:.3f} of it")
    return ratio


async def frames_meanwhile(limit):
    """What a frame takes on the device while viewers come and go, beside what it takes with one viewer."""
    with Server("--source", "synthetic:128x128@30", "--size", "128x128", *limit) as server:
        # The engine goes first: these peers run on the same few cores, which those of an audience do not.
        os.nice(19)
        staying = RTCPeerConnection(LOCAL)
        staying.addTransceiver("video", direction="recvonly")
        await server.exchange("/whep", staying)
        deadline = time.monotonic() + 120
        while frame_time(server)[1][1] < 4:
            assert time.monotonic() < deadline, "no frames"
            await asyncio.sleep(0.5)
        # Whatever else this machine does only makes it worse: what joins cost is there in every try.
        for _ in range(3):
            ratio = await quiet_and_busy(server)
            if ratio <= 1.1:
                break
        await staying.close()
        assert ratio <= 1.1, "joins cost frames more than 10 %"


async def main():
    limit = ["--max-viewers", str(AT_ONCE + 1)]
    await coming_and_going(limit)
    await frames_meanwhile(limit)


if __name__ == "__main__":
    asyncio.run(main())
