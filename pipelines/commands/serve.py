"""Keep the model in memory: while this runs, the other commands hand their work to it and answer at once."""

import argparse
import contextlib
import io
import json
import os
import secrets
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace serve &                              until it is stopped, or has had nothing to do for half an hour
  vivace generate "slow piano, 4 bars"        made by the server, without loading anything
  vivace serve --stop"""
USERS = ("generate", "compose", "arrange", "edit", "retime", "replay")  # commands that need a model
VARIABLE = "VIVACE_NO_SERVER"  # set, commands do their own work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--idle_minutes", type=arguments.number, default=30, help="stop after so long without work; default 30")
    add("--stop", action="store_true", help="stop the server that runs")
    arguments.add_checkpoint(parser)
    arguments.add_lora(parser)


def place() -> Path:
    """The file with the address and key of a running server, readable by its user alone."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(home) / "vivace-serve.json"


def reach() -> Connection | None:
    """A connection to the server of this user; None if none runs."""
    try:
        server = json.loads(place().read_text())
        return Client((server["host"], server["port"]), authkey=bytes.fromhex(server["key"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def hand_over(words: list[str]) -> int | None:
    """Let the server do a command, and print its output; returns the exit code. None where there is no server, or where
    the command reads or writes a pipe."""
    if not words or words[0] not in USERS or "-" in words or os.environ.get(VARIABLE) or not place().is_file():
        return None
    connection = reach()
    if connection is None:
        return None
    with connection:
        connection.send((words, os.getcwd()))
        try:
            code, out, errors = connection.recv()
        except EOFError:
            raise RuntimeError(
                "the server of `vivace serve` went away; nothing was made, give the command again"
            ) from None
    sys.stdout.write(out)
    sys.stderr.write(errors)
    return code


def run(args: argparse.Namespace, main: Callable[[list[str]], int]) -> int:
    """Start or stop the server, in which `main` does the commands."""
    if args.stop:
        connection = reach()
        if connection is None:
            raise ValueError("stop: no server runs")
        with connection:
            connection.send((["stop"], ""))
        return 0
    if args.idle_minutes <= 0:
        raise ValueError(f"idle_minutes is {args.idle_minutes}; allowed: above 0")
    if reach() is not None:
        raise ValueError("a server runs already; `vivace serve --stop` ends it")
    from pipelines.commands import make

    os.environ[VARIABLE] = "1"  # for what is done here
    make.keep = {}
    make.load(args)
    key = secrets.token_bytes(32)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        host, port = listener.address
        write_private(place(), json.dumps({"host": host, "port": port, "key": key.hex(), "pid": os.getpid()}))
        print(f"ready on {host}:{port}; stop with `vivace serve --stop`", flush=True)
        try:
            answer(listener, key, args.idle_minutes * 60.0, main)
        finally:
            place().unlink(missing_ok=True)
    return 0


def write_private(path: Path, text: str) -> None:
    """Write a file that its user alone may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(4)}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(partial, path)


def answer(listener: Listener, key: bytes, idle_s: float, main: Callable[[list[str]], int]) -> None:
    """Do one command after the other, until one is "stop" or none has come for `idle_s` seconds."""
    address, stopped = listener.address, threading.Event()

    def wake() -> None:
        stopped.set()
        with contextlib.suppress(OSError, EOFError), Client(address, authkey=key) as connection:
            connection.send((["stop"], ""))

    while not stopped.is_set():
        timer = threading.Timer(idle_s, wake)
        timer.daemon = True
        timer.start()
        try:
            connection = listener.accept()
        except (OSError, EOFError):  # one that broke off, or does not have the key
            continue
        finally:
            timer.cancel()
        with connection, contextlib.suppress(OSError, EOFError):
            words, folder = connection.recv()
            if words == ["stop"]:
                return
            connection.send(do(main, words, folder))


def do(main: Callable[[list[str]], int], words: list[str], folder: str) -> tuple[int, str, str]:
    """Exit code and what a command prints, run in the caller's folder."""
    out, errors, here = io.StringIO(), io.StringIO(), os.getcwd()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            os.chdir(folder)
            code = main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception:  # a fault of the program ends this command, not the server
            traceback.print_exc()
            code = 1
        finally:
            os.chdir(here)
    return code, out.getvalue(), errors.getvalue()
