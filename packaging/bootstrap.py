"""Start here: `./starling` runs this file with whatever Python it finds.

It makes the environment and hands over to it. Only the standard library, and only words that old Pythons can read
too, so that they can say that they are too old; the rest is in installing/.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one file that runs on a Python too old for the rest
    sys.stderr.write("Starling needs Python 3.11 to 3.13; this is %d.%d.\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(1)


def main():
    # type: () -> int
    """Run the words of the command line in the checkout that this file lies in."""
    from pathlib import Path

    from installing.home import Home
    from installing.start import start

    try:
        return start(Home(Path(os.path.realpath(__file__)).parent.parent), sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
