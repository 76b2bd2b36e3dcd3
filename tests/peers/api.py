"""The API against its own OpenAPI document: a property-based client, and every parameter by hand.

    python tests/peers/api.py
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error

from server import TOKEN, Server

# What never ends or is no plain HTTP; the browser's tests see to these.
LEFT_OUT = ["/stream.mjpg", "/api/socket"]


def refused(server, path, body):
    """The error that a change gets."""
    try:
        server.request("PATCH", path, json.dumps(body), "application/json")
    except urllib.error.HTTPError as error:
        assert error.code == 422, error.code
        return json.loads(error.read())["error"]
    raise AssertionError(f"{body} is accepted")


def values(kind):
    """Values that a parameter takes, and some that it does not."""
    match kind["type"]:
        case "number" | "whole":
            low, high = kind["min"], kind["max"]
            return [low, high], [high * 2 + 1, -1 if low >= 0 else low * 2 - 1, "many", None]
        case "flag":
            return [True, False], [2, "perhaps"]
        case "choice":
            return kind["names"], ["none of these", 3]
        case "text":
            return ["a prompt", "ünï \"quoted\""], ["x" * (kind["max_bytes"] + 1), 5]
        case "size":
            return ["256x256", "64x128"], ["0x8", "many", "99999x8", 7]
    raise AssertionError(kind)


def every_parameter(server):
    schema = json.loads(server.request("GET", "/api/schema")[2])
    read = lambda: json.loads(server.request("GET", "/api/params")[2])
    before, tried = read(), 0
    assert set(before) == {p["name"] for p in schema["parameters"]}
    for parameter in schema["parameters"]:
        name = parameter["name"]
        good, bad = values(parameter["kind"])
        for value in good + (["auto"] if parameter["has_auto"] else []):
            answer = server.request("PATCH", "/api/params", json.dumps({name: value}), "application/json")[2]
            assert json.loads(answer)[name] == value or value == "auto", (name, value, json.loads(answer)[name])
            assert read() == json.loads(answer)
            tried += 1
        kept = read()
        for value in bad:
            error = refused(server, "/api/params", {"seed": 1, name: value})
            assert value is None or error["parameter"] == name, (name, value, error)
            assert error["message"] and read() == kept, (name, value)
            tried += 1
        server.request("PATCH", "/api/params", json.dumps({name: before[name]}), "application/json")
    print(f"{len(schema['parameters'])} parameters, {tried} values set or refused")


def properties(server):
    command = [
        *[sys.executable, "-m", "schemathesis.cli", "run"],
        f"{server.url}/api/openapi.json",
        "--header",
        f"Authorization: Bearer {TOKEN}",
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "60",
        "--seed",
        "7",
        "--no-color",
    ]
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    # Its cache goes where nothing is kept.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    print("\n".join(done.stdout.splitlines()[-25:]))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def stages(server):
    """The engine's figures with a model: where a frame's time goes."""
    deadline = time.monotonic() + 120
    while True:
        text = server.request("GET", "/metrics")[2]
        found = dict(re.findall(r'dreamglass_stage_seconds_count\{stream="main",stage="(\w+)"\} (\d+)', text))
        if {"encode", "denoise", "decode"} <= set(found):
            break
        assert time.monotonic() < deadline, text
        time.sleep(0.5)
    print(f"stages measured: {found}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        with Server("--source", "synthetic:256x256@30", "--pass-through") as server:
            every_parameter(server)
            properties(server)
        with Server("--source", "synthetic:128x128@30", "--size", "128x128") as server:
            stages(server)


main()
