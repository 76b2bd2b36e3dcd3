"""Programs in processes of their own: with a time limit, with a log, and ended whole."""

import contextlib
import json
import os
import signal
import subprocess

# Seconds that a process has to end by itself before it is killed.
GRACE = 10.0
# Longest reason that is shown, in characters.
LONGEST = 220


class Skip(Exception):
    """Why a peer has no figures."""


def last_line(text):
    """The last line that says something, shortened."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    line = lines[-1] if lines else "it said nothing"
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def end(process):
    """Ends a process and all that it started: first asks, then kills."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            break
    # What the leader left behind.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def run(command, log, limit, env=None, cwd=None, reason=last_line):
    """Runs `command` for at most `limit` seconds and returns what it printed.

    Both of its outputs go to the file `log`. `reason` finds in the log why it failed.
    Raises Skip when it cannot be started, fails, or takes longer.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(word) for word in command]
    out_path = log.with_suffix(".out")
    with open(out_path, "wb") as out, open(log, "wb") as err:
        err.write(f"$ {' '.join(command)}\n".encode())
        err.flush()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise Skip(f"cannot be started: {error}") from error
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            end(process)
            raise Skip(f"took longer than the limit of {limit:g} s") from None
        except BaseException:
            end(process)
            raise
    text = out_path.read_text(errors="replace")
    if process.returncode != 0:
        said = log.read_text(errors="replace").split("\n", 1)[1]
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise Skip(f"{reason(said if said.strip() else text)} ({how})")
    return text


def last_json(text):
    """The last line of what a program printed that is a JSON object."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise Skip(f"printed no figures; its last line: {last_line(text)}")
    try:
        return json.loads(lines[-1])
    except ValueError as error:
        raise Skip(f"printed no JSON: {error}") from error
