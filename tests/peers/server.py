"""Runs the real program for tests."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.request

PROGRAM = os.environ.get("DREAMGLASS", os.path.join(os.path.dirname(__file__), "../../target/debug/dreamglass"))
TOKEN = "peers-test"


def address():
    """An address of this machine that is not loopback: aioice gathers no other."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # Nothing is sent: this only asks for the route.
        probe.connect(("192.0.2.1", 9))
    except OSError:
        # A machine without a way out still has a name.
        return socket.gethostbyname(socket.gethostname())
    return probe.getsockname()[0]


class Server:
    """`dreamglass serve` from entering to leaving the context."""

    def __init__(self, *arguments):
        self.arguments = arguments
        self.lines = []
        self.is_over = False

    def __enter__(self):
        bind = [] if "--bind" in self.arguments else ["--bind", f"{address()}:0"]
        command = [PROGRAM, "serve", *bind, "--token", TOKEN, *self.arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if found := re.search(r"listening on (http://\S+?)/?$", line.rstrip()):
                self.url = found.group(1)
                break
        else:
            raise RuntimeError("\n".join(self.lines))
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()
        return self

    def __exit__(self, *_):
        if self.is_over:
            return
        self.is_over = True
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert code == 130, f"exit code {code}: {self.lines[-5:]}"

    def request(self, method, path, body=None, kind=None):
        """Status, headers and body of a request."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if kind:
            headers["Content-Type"] = kind
        url = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(url, None if body is None else body.encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read().decode()

    async def exchange(self, path, pc):
        """Offers, posts and sets the answer; the resource."""
        await pc.setLocalDescription(await pc.createOffer())
        offer = pc.localDescription.sdp
        post = lambda: self.request("POST", path, offer, "application/sdp")
        status, headers, answer = await asyncio.to_thread(post)
        assert status == 201, status
        from aiortc import RTCSessionDescription

        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return headers["Location"]
