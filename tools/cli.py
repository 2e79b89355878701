"""What every command line here shares: flags, quiet start, one line for a failure."""

import logging
import os
import shlex
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notices; set it to 0 to see them

from absl import app, flags  # noqa: E402

from srn_tf.errors import InputError  # noqa: E402


def run(main, usage, takes_arguments=False):
    """Parses the command line, calls `main` and exits.

    Args:
        main: called with the list of arguments that are no flags.
        usage: text for --help, above the flags.
        takes_arguments: whether such arguments are allowed; without, one is an error.
    """
    _show_progress()
    try:
        arguments = _parse(usage)
        if arguments and not takes_arguments:
            raise InputError(f"Every option is written --name=value. Received: {arguments[0]!r}.")
        main(arguments)
    except (InputError, flags.Error) as error:
        _fail(" ".join(str(error).split()), 1)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except BrokenPipeError:  # who read the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def make_output_dir(flag, path):
    """Makes the folder that a flag names, and tries to write in it.

    Raises:
        InputError: it cannot be made or written.
    """
    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise InputError(
            f"--{flag} must be a folder that can be written. Received: {path} ({error.strerror})."
        ) from None


def split_options(flag):
    """The words of a flag that holds flags of another program, split as a shell does.

    Raises:
        InputError: a quotation mark is not closed.
    """
    value = flags.FLAGS[flag].value or ""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise InputError(
            f"--{flag} must be flags as one writes them in a shell. Received: {value} ({error})."
        ) from None


def _show_progress():
    """Sends what the package reports to stdout, and nothing of it to other handlers."""
    logger = logging.getLogger("srn_tf")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.propagate = False


def _parse(usage):
    sys.modules["__main__"].__doc__ = usage
    app.define_help_flags()
    try:
        return flags.FLAGS(sys.argv)[1:]
    except flags.Error as error:
        raise InputError(f"{error} See {os.path.basename(sys.argv[0])} --help.") from error
    except SystemExit:
        sys.exit(0)  # --help, which absl leaves with 1


def _fail(message, status):
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
