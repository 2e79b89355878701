"""SIGTERM and Ctrl-C in training: noted at once, answered between two steps."""

import signal
import threading


class Stopped(Exception):
    """A run was asked to stop, and has saved all it needs to continue.

    Args:
        signal: signal.Signals that asked, or None if another worker was asked.
        message: one line for the user.
    """

    def __init__(self, signal, message):
        super().__init__(message)
        self.signal = signal


class Interruption:
    """Context in which SIGTERM and SIGINT only note themselves; a second SIGINT raises KeyboardInterrupt at once.

    On exit the signals do again what they did before, and one that was noted does it then, unless an exception ends
    the context. A signal that the program was started to ignore stays ignored. Outside the main thread, which alone
    gets signals, nothing is done.

    Attributes:
        signal: the first signal.Signals that came since the context was entered, or None.
    """

    def __init__(self):
        self.signal = None
        self._handlers = {}

    def __enter__(self):
        self.signal = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, exception, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that was not set by Python
        self._handlers = {}
        if self.signal is not None and exception is None:
            signal.raise_signal(self.signal)

    def _note(self, number, frame):
        self.signal = self.signal or signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
