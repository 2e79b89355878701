"""The program `srn-tf`: a command, and its flags. `python -m srn_tf` is the same."""

import ast
import os
import sys

from srn_tf import __version__
from srn_tf.program import COMMANDS, NAME


def main():
    """Runs the command that the first argument names; without one, says which there are."""
    arguments, sys.argv[0] = sys.argv[1:], NAME
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview())
        sys.exit(0 if arguments else 1)
    name, *rest = arguments
    if name == "--version":
        print(__version__)
    elif name in COMMANDS:
        sys.argv = [f"{NAME} {name}", *rest]
        from srn_tf.commands import cli

        cli.start(COMMANDS[name])
    else:
        print(f"error: The first word must be a command of {NAME}. Received: {name!r}.", file=sys.stderr)
        print(_overview(), file=sys.stderr)
        sys.exit(1)


def _overview():
    """The commands with a line each: how its module's docstring begins. No module is loaded for that."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "commands")
    lines = [f"Usage: {NAME} COMMAND [--flag=value ...]", ""]
    for name, module in COMMANDS.items():
        with open(os.path.join(folder, f"{module}.py"), encoding="utf-8") as file:
            title = ast.get_docstring(ast.parse(file.read())).splitlines()[0]
        lines.append(f"  {name:<16} {title.partition(':')[0].rstrip('.')}")
    return "\n".join([*lines, "", f"{NAME} COMMAND --help lists the main flags of one, --helpfull all."])


if __name__ == "__main__":
    main()
