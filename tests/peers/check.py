"""aiortc as viewer and as publisher of the real program, and one dreamglass as the WHIP server of another.

    python tests/peers/check.py [SECONDS]
"""

import asyncio
import fractions
import sys
import time

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, VideoStreamTrack
from av import VideoFrame

import card
from server import TOKEN, Server

# Its default asks a public STUN server and waits for the answer.
LOCAL = RTCConfiguration(iceServers=[])

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 6


class Cards(VideoStreamTrack):
    """Test cards from `first` on, 30 a second."""

    def __init__(self, first):
        super().__init__()
        self.number = first

    async def recv(self):
        pts, base = await self.next_timestamp()
        frame = VideoFrame.from_ndarray(card.draw(self.number), format="rgb24")
        frame.pts, frame.time_base = pts, fractions.Fraction(base)
        self.number += 1
        return frame


async def watch(server, path, seconds):
    """Views a stream: what was read of each frame, [counter, milliseconds of age or None]."""
    pc = RTCPeerConnection(LOCAL)
    transceiver = pc.addTransceiver("video", direction="recvonly")
    began = time.monotonic()
    resource = await server.exchange(path, pc)
    track, seen, first = transceiver.receiver.track, [], None
    while first is None or time.monotonic() < first + seconds:
        frame = await asyncio.wait_for(track.recv(), 20)
        first = first or time.monotonic()
        luma = frame.to_ndarray(format="gray")
        taken = card.read(luma, 2)
        age = None if taken is None else (int(time.time() * 1000) - taken) & 0xFFFFFFFF
        seen.append((card.read(luma), age))
    status, _, _ = server.request("DELETE", resource)
    assert status == 200, status
    await pc.close()
    return seen, first - began


def summarise(name, seen, joined, seconds):
    numbers = [number for number, _ in seen if number is not None]
    ages = sorted(age for _, age in seen if age is not None)
    middle = f", age p50 {ages[len(ages) // 2]} p95 {ages[len(ages) * 95 // 100]} ms" if ages else ""
    print(f"{name}: {len(seen)} frames in {seconds:.0f} s, {len(numbers)} read, first after {joined * 1000:.0f} ms{middle}")
    assert all(b >= a for a, b in zip(numbers, numbers[1:])), f"out of order: {numbers}"
    assert len(numbers) >= 0.9 * len(seen), f"only {len(numbers)} of {len(seen)} cards can be read"
    return numbers


async def viewer(server):
    seen, joined = await watch(server, "/whep", SECONDS)
    numbers = summarise("viewer", seen, joined, SECONDS)
    assert len(set(numbers)) >= 20 * SECONDS, "fewer than 20 pictures a second"


async def publisher(server, path="/whip/studio", first=5000):
    pc = RTCPeerConnection(LOCAL)
    sender = pc.addTransceiver(Cards(first), direction="sendonly")
    h264 = [c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType == "video/H264"]
    sender.setCodecPreferences(h264)
    resource = await server.exchange(path, pc)
    return pc, resource


async def loop(server):
    pc, resource = await publisher(server)
    # A second publisher to the same name is refused.
    try:
        other, _ = await publisher(server)
        raise AssertionError("two publishers of one stream")
    except OSError as error:
        assert error.code == 409, error
    seen, joined = await watch(server, "/whep/studio", SECONDS)
    numbers = summarise("publisher and viewer", seen, joined, SECONDS)
    assert numbers and min(numbers) >= 5000 and len(set(numbers)) >= 10 * SECONDS, numbers
    server.request("DELETE", resource)
    await pc.close()


async def relayed(first):
    deadline = time.monotonic() + 20
    while '"has_publisher":true' not in first.request("GET", "/api/streams")[2].replace(" ", ""):
        assert time.monotonic() < deadline, "the second server does not publish to the first"
        await asyncio.sleep(0.1)
    seen, joined = await watch(first, "/whep/relay", SECONDS)
    numbers = summarise("through a second server", seen, joined, SECONDS)
    assert len(set(numbers)) >= 15 * SECONDS, numbers


async def main():
    with Server("--source", "synthetic:512x512@30", "--pass-through") as server:
        await viewer(server)
        await loop(server)
    with Server("--source", "none", "--pass-through") as first:
        target = ["--whip-to", f"{first.url}/whip/relay", "--whip-token", TOKEN]
        with Server("--source", "synthetic:512x512@30", "--pass-through", *target) as second:
            await relayed(first)
            first.__exit__()
            # It publishes again to whoever takes the place of the first.
            again = Server("--source", "none", "--pass-through", "--bind", first.url.split("//")[1])
            with again:
                await relayed(again)
                # The goodbye of the server that publishes comes before that of the one that receives.
                second.__exit__()
    print("done")


if __name__ == "__main__":
    asyncio.run(main())
