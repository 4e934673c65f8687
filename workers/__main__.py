"""The one door of every worker process: `python -P -m workers --control DESCRIPTOR`.

Started by the supervisor only. The descriptor is the child's end of a letterbox; the first message
in it says what the process is. Exit codes: see `workers/README.md`. With `--decode` it decodes
frames for the process that started it (`workers/decoding`), and loads nothing that is not for that.
"""

import sys
from typing import Final

EXIT_BOOT: Final = 3  # as workers/frame/child.py has it


def main(arguments: list[str]) -> int:
    match arguments:
        case ["--decode"]:
            from workers.decoding.decoder import serve

            return serve()
        case ["--control", number] if number.isdecimal():
            from workers.frame.child import run_child

            return run_child(int(number))
    print("this starts a worker of `scai run`; it is of no use by itself", file=sys.stderr)
    return EXIT_BOOT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
