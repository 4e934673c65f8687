"""`scai_gateway`: the one name that an installed wheel has in site-packages.

In a wheel the packages `engine`, `workers`, `native` and `tools` lie within it, so that no other
distribution's `tools` can overwrite ours, nor ours theirs. The commands begin here and put this
directory first on the way to modules; what they start inherits it (workers/frame/environment.py).
In a checkout the packages are found as they stand, and there is nothing to put.
"""

import sys
from pathlib import Path
from typing import NoReturn

_HERE = Path(__file__).resolve().parent
if (_HERE / "engine").is_dir() and str(_HERE) not in sys.path:
    sys.path.insert(0, str(_HERE))


def main() -> NoReturn:
    """The command `scai`."""
    from tools.cli import main as run

    run()


def supervisor_main() -> NoReturn:
    """The command `scai-supervisor`."""
    from tools.cli import supervisor_main as run

    run()
