"""python tools/knn.py --help: see srn_tf/commands/knn.py."""

from checkout import start

if __name__ == "__main__":
    start("knn")
