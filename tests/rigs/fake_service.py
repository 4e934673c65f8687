"""A supervisor of fake roles, as a process of its own: `python -m tests.rigs.fake_service FILE`."""

import os
import sys
from pathlib import Path

import uvloop

from engine.config.loading import load_config
from engine.errors import OperatorError
from workers.supervision.supervisor import Supervisor

MODULES = {
    "receiver": "tests.rigs.fake_role",
    "indexer": "tests.rigs.fake_role",
    "stats": "tools.stats.stats",
}


def main() -> int:
    path = Path(sys.argv[1])
    try:
        supervisor = Supervisor(
            lambda: load_config(path, os.environ),
            os.environ,
            "test",
            ready=lambda line: print(line, flush=True),
            modules=MODULES,
        )
        return uvloop.run(supervisor.run())
    except OperatorError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
