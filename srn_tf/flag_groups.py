"""Flags in groups, which --help prints under their headings. Loads nothing but absl.

absl lists flags by the module that defines them. Here the name of a group stands in that place.
"""

import functools
import sys

from absl import flags as absl_flags

_DETAIL = ", in detail"


class Group:
    """absl's `flags`; what its functions define stands under a heading.

    Args:
        heading: of the group, beginning with a capital letter. Groups stand in the order of their first flags.
        values: absl FlagValues to define flags in; default: those of the program.
        is_detail: whether the group is shown by --helpfull only, with ", in detail" behind its heading.
    """

    def __init__(self, heading, values=absl_flags.FLAGS, is_detail=False):
        self._values, self._heading = values, heading + (_DETAIL if is_detail else "")

    def __getattr__(self, name):
        function = functools.partial(getattr(absl_flags, name), flag_values=self._values)
        return functools.partial(function, module_name=self._heading) if name.startswith("DEFINE_") else function


def both(heading, values=absl_flags.FLAGS):
    """(Group, Group): the flags of a topic that --help shows, and those that only --helpfull shows."""
    return Group(heading, values), Group(heading, values, is_detail=True)


def define_help(usage):
    """Defines --help, or -h, and --helpfull. They print the flags that are there by then and exit with status 0.

    Args:
        usage: text above the flags.
    """

    def main():
        details = [heading.removesuffix(_DETAIL) for heading in _headings() if heading.endswith(_DETAIL)]
        more = f"\n--helpfull shows more flags: {'; '.join(details)}.\n" if details else ""
        return _listed(usage, [heading for heading in _headings() if not heading.endswith(_DETAIL)]) + more

    full = _HelpFlag("helpfull", "Help on all flags.", lambda: _listed(usage, _headings()))
    for flag in (_HelpFlag("help", "Help on the main flags.", main, short_name="h"), full):
        absl_flags.DEFINE_flag(flag, module_name="help")  # is in no group


def has_details():
    """Whether the program has flags that --help does not show."""
    return any(heading.endswith(_DETAIL) for heading in _headings())


def _headings():
    """Groups, which begin with a capital letter, and modules of this project whose flags are in no group."""
    own = ("srn_tf.", sys.argv[0])
    return [name for name in absl_flags.FLAGS.flags_by_module_dict() if name[0].isupper() or name.startswith(own)]


def _listed(usage, headings):
    lists = [usage.rstrip()]
    for heading in headings:
        title = heading if heading[0].isupper() else "Flags"
        lists.append(absl_flags.FLAGS.module_help(heading).replace(heading, title, 1))
    return "\n".join([*lists, "\n--flagfile=FILE reads flags from a file, one per line.\n"])


class _HelpFlag(absl_flags.BooleanFlag):
    def __init__(self, name, text, make_help, **options):
        super().__init__(name, False, text, **options)
        self._make_help = make_help

    def parse(self, argument):
        """Prints the help at once, whatever follows on the command line."""
        super().parse(argument)
        if self.value:
            print(self._make_help(), end="", flush=True)
            raise SystemExit(0)
