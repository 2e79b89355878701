"""python tools/explain_regularizer.py --help: see srn_tf/commands/explain_regularizer.py."""

from checkout import start

if __name__ == "__main__":
    start("explain_regularizer")
