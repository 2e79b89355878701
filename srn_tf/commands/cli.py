"""What all command lines share: parsing of flags, a quiet start, one line for a failure."""

import importlib
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading

from absl import flags

from srn_tf.commands import quiet  # noqa: F401
from srn_tf.errors import InputError
from srn_tf.flag_groups import define_help, has_details
from srn_tf.program import as_called, find_flagfile
from srn_tf.training.interruption import Stopped

# TensorFlow does not use oneDNN's kernels on CPUs without AVX-512 VNNI. There, training is 1.5 times as fast with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


class _Terminated(SystemExit):
    """SIGTERM as an exception, so that `main` clears away what it was writing."""


def start(name):
    """Runs a command line of this folder, as `run` does.

    Args:
        name: its module. The module's docstring is the usage text. The module has `define_flags` and `main`, and
            TAKES_ARGUMENTS if it takes arguments that are not flags.
    """
    module = importlib.import_module(f"srn_tf.commands.{name}")
    module.define_flags()
    run(module.main, module.__doc__, getattr(module, "TAKES_ARGUMENTS", False))


def run(main, usage, takes_arguments=False):
    """Parses the command line and calls `main`.

    Bad input prints one line and exits with status 1. A signal prints one line and exits with 128 plus its number.

    Args:
        main: called with the list of arguments that are not flags.
        usage: text of --help, above the flags.
        takes_arguments: whether such arguments are allowed; if not, one is an error.
    """
    _show_progress()
    try:
        arguments = _parse(usage)
        if arguments and not takes_arguments:
            raise InputError(f"Options must be written as --name=value. Received: {arguments[0]!r}. {_see_help()}")
        signal.signal(signal.SIGTERM, _terminate)
        sys.unraisablehook = _send_again
        main(arguments)
    except (InputError, flags.Error) as error:
        _fail(f"error: {error}", 1)
    except KeyboardInterrupt:
        _fail("error: Interrupted.", 130)
    except Stopped as stopped:
        _fail(str(stopped), 128 + (stopped.signal or signal.SIGTERM))
    except _Terminated:
        _fail("Stopped by SIGTERM: what was not finished is not kept.", 128 + signal.SIGTERM)
    except BrokenPipeError:  # the reader of the output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if "tensorflow" not in sys.modules:  # `failures` explains errors of TensorFlow only
            raise
        from srn_tf.failures import explain

        message = explain(error)
        if message is None:
            raise
        _fail(f"error: {message}", 1)


def need_flags(who, *names):
    """Refuses a command line without some flags.

    Args:
        who: what needs them, for the message, such as "--work_dir".
        names: of the flags, without dashes.
    Raises:
        InputError: some of them are missing; it names those.
    """
    missing = [f"--{name}" for name in names if not flags.FLAGS[name].value]
    if missing:
        raise InputError(f"{who} needs {' and '.join(missing)}. Received: no {' and no '.join(missing)}. {_see_help()}")


def need_one_flag(*names):
    """Refuses a command line without exactly one of some flags; InputError names those that were given."""
    given = [f"--{name}" for name in names if flags.FLAGS[name].value]
    if len(given) != 1:
        *first, last = (f"--{name}" for name in names)
        wanted = f"{', '.join(first)} and {last}"
        raise InputError(f"Give exactly one of {wanted}. Received: {' and '.join(given) or 'none'}. {_see_help()}")


def need_paths(*names):
    """Refuses paths that do not exist, before anything slow is loaded.

    Args:
        names: of flags, without dashes; those that are not given are passed over.
    Raises:
        InputError: a file or folder is missing; says where it was looked for.
    """
    for name in names:
        path = flags.FLAGS[name].value
        if path and not os.path.exists(path):
            where = "" if os.path.isabs(path) else f" from {os.getcwd()}"
            raise InputError(f"--{name} must be a path that exists. Received: {path}, not found{where}. Correct it.")


def make_output_dir(flag, path):
    """Makes the folder that a flag names, and checks that it can be written.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(
            f"--{flag} must be a writable folder. Received: {path} ({error.strerror}). Check its permissions, or give "
            "another folder."
        ) from None


def split_options(flag):
    """The words of a flag that holds the flags of another program, split as a shell splits them.

    Raises:
        InputError: a quotation mark is not closed.
    """
    value = flags.FLAGS[flag].value or ""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise InputError(
            f"--{flag} must be flags in shell syntax. Received: {value} ({error}). Check the quotation marks."
        ) from None


def _see_help():
    """Where all flags of the command line that runs are listed: a sentence."""
    program = f"{'python ' if sys.argv[0].endswith('.py') else ''}{sys.argv[0]}"
    return f"See {program} {'--helpfull' if has_details() else '--help'}."


def _show_progress():
    """Sends the log of the package to stdout and to no other handler."""
    logger = logging.getLogger("srn_tf")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.propagate = False


def _parse(usage):
    define_help(as_called(usage))
    try:
        return flags.FLAGS(_with_own_flagfiles(sys.argv))[1:]
    except flags.Error as error:
        raise InputError(f"{error} {_see_help()}") from error


def _with_own_flagfiles(words):
    """The command line; a flagfile that does not exist is replaced by the package's own of that path, and printed."""
    words = list(words)
    for place, word in enumerate(words[1:], 1):
        flag, equals, path = word.partition("=")
        if flag not in ("--flagfile", "-flagfile") or not (equals or place + 1 < len(words)):
            continue
        path = path if equals else words[place + 1]
        found = find_flagfile(path)
        words[place if equals else place + 1] = f"{flag}={found}" if equals else found
        if found != path:
            print(f"Flagfile {path}: using srn_tf's own, {found}")
    return words


def _terminate(number, frame):
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise _Terminated


def _send_again(dropped):
    """Replaces sys.unraisablehook. Python drops exceptions raised in a __del__; a signal that came there is sent again
    a little later.
    """
    if isinstance(dropped.exc_value, _Terminated):
        signal.signal(signal.SIGTERM, _terminate)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    elif isinstance(dropped.exc_value, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(dropped)


def _fail(message, status):
    sys.stdout.flush()
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(status)
