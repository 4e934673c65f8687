"""The one door of every worker process: `python -P -m workers --control DESCRIPTOR`.

Started by the supervisor only. The descriptor is the child's end of a letterbox; the first message
in it says what the process is. Exit codes: see `workers/README.md`.
"""

import sys

from workers.frame.child import EXIT_BOOT, run_child


def main(arguments: list[str]) -> int:
    match arguments:
        case ["--control", number] if number.isdecimal():
            return run_child(int(number))
    print("this starts a worker of `scai run`; it is of no use by itself", file=sys.stderr)
    return EXIT_BOOT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
