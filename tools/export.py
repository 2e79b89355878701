"""python tools/export.py --help: see srn_tf/commands/export.py."""

from checkout import start

if __name__ == "__main__":
    start("export")
