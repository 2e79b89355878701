"""Worker processes for a preparation, and none of them left when it ends."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from multiprocessing import resource_tracker

_PHOTOS_PER_WORKER = 100  # fewer are not worth starting another process
_PHOTOS_PER_MESSAGE = 4


@contextlib.contextmanager
def parallel_map(processes, num_photos):
    """Gives a `map` that keeps the order and spreads the calls over processes.

    Args:
        processes: int; 0 takes one per CPU this process may use, fewer for a handful of photographs.
        num_photos: int, how many calls there will be.
    Yields:
        function like `map`: (function, items) -> iterator of results; the function and items must be picklable.
    """
    wanted = processes or min(len(os.sched_getaffinity(0)), -(-num_photos // _PHOTOS_PER_WORKER))
    if wanted <= 1:
        yield map
        return
    # Not forked: TensorFlow has threads by now, and a fork of them can hang.
    pool = concurrent.futures.ProcessPoolExecutor(
        wanted, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield functools.partial(_map, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _map(pool, function, items):
    """Hands out all calls at once, which starts the processes, and gives an iterator of their results."""
    # Ctrl-C reaches every process. Held back here, it is so in new processes, too, until they ignore it.
    resource_tracker.ensure_running()  # It lets signals in again when it starts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(function, items, chunksize=_PHOTOS_PER_MESSAGE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker():
    """Leaves Ctrl-C to the main process, and ends with it even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
