"""Teaches schemathesis the content types of WebRTC signalling: text as it is."""

import schemathesis


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")
def plain(_context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
