"""How fast the engines of an export answer, measured in turns while it is written."""

import os
import platform
import statistics
import time

import numpy as np

BATCH_SIZE = 8  # images
_ROUNDS = 5


def measure_speed(runs, image_size):
    """Times networks on the same pixels, without decoding and resizing.

    The engines take turns, so that what else the machine does falls on all.

    Args:
        runs: engine -> function of uint8 (N, S, S, 3) pixels.
        image_size: their side S, pixels.
    Returns:
        dict ready for JSON: "images_per_s", engine -> of the median batch; "batch_size"; "processor"; "cpus".
    """
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, image_size, image_size, 3), dtype=np.uint8)
    seconds = {name: [] for name in runs}
    for run in runs.values():
        run(pixels)  # prepares for batches of this size
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run(pixels)
            seconds[name].append(time.perf_counter() - start)
    return {
        "images_per_s": {name: BATCH_SIZE / statistics.median(times) for name, times in seconds.items()},
        "batch_size": BATCH_SIZE,
        "processor": processor_name(),
        "cpus": os.cpu_count(),
    }


def speed_note(speed):
    """One line on a result of `measure_speed`."""
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in speed["images_per_s"].items())
    return (
        f"Images per second of the network alone, in batches of {speed['batch_size']}, on {speed['processor']} "
        f"({speed['cpus']} CPUs), whatever else they did: {rates}."
    )


def processor_name():
    """The processor as the system names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
