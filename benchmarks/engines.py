"""Engines in processes of their own, asked line by line, so that what else the machine does falls on all alike.

The process that measures has an `Engine` for each; the engine's process calls `serve`. Both sides need the standard
library alone, so that an engine may run in another environment.
"""

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time


class EngineError(RuntimeError):
    """An engine does not start, or stopped; the message is one line."""


class Engine:
    """A process that answers questions; used as a context manager, it ends with the block. It starts at once, and the
    first question waits until it can answer.

    Args:
        name: for messages.
        command: list of str, what to run.
        threads: how many threads it may use.
        environment: further variables of its environment, a dict.

    Raises:
        EngineError: the command cannot be run.
    """

    def __init__(self, name, command, threads, environment=()):
        self.name = name
        number = {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads)}
        environment = {**os.environ, **number, **dict(environment)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        try:
            self._process = subprocess.Popen(command, text=True, env=environment, **pipes)
        except OSError as error:
            raise EngineError(f"{name} cannot be started: {command[0]}: {error.strerror}.") from error

    def ask(self, question, *values):
        """Asks what `serve` has under that name, with JSON-ready values; returns the answer.

        Raises:
            EngineError: the process ended; what it wrote about that went to stderr.
        """
        with contextlib.suppress(BrokenPipeError):  # it ended, as reading tells
            self._process.stdin.write(json.dumps([question, *values]) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"{self.name} stopped; its message is above.")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def serve(**answers):
    """Answers the lines of standard input until it ends.

    Args:
        **answers: question -> function; "memory", the most that the process has held, in bytes, is always there.
    """
    answers["memory"] = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        question, *values = json.loads(line)
        print(json.dumps(answers[question](*values)), flush=True)


def seconds_of(function, times):
    """Calls a function so many times; returns a list of [wall seconds, seconds of all threads on a processor]."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter(), time.process_time()
        function()
        seconds.append([time.perf_counter() - start[0], time.process_time() - start[1]])
    return seconds


def machine():
    """The processor and the memory, in one line."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} CPUs, {memory / 1e9:.0f} GB"
