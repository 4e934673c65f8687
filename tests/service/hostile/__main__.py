"""The long proofs of this room, by hand: `python -m tests.service.hostile contest`.

contest  hostile hosts against scanners for the slots, simulated and against a real service
"""

import argparse
import tempfile
from pathlib import Path

from tests.rigs.gateway import Gateway
from tests.rigs.slot_contest import ATTACKS, Contest, shares
from tests.rigs.slot_contestants import play, undisturbed

ENOUGH = 0.95


def contest(warm_up_s: float, measured_s: float) -> bool:
    """Each kind of attack and all together; a line each. Whether the scanners had enough."""
    good = True
    print("| attack | simulated | real |\n|---|---|---|")
    for attacks in (*[(attack,) for attack in ATTACKS], ATTACKS):
        each = Contest(attacks=attacks, warm_up_s=warm_up_s, measured_s=measured_s)
        with tempfile.TemporaryDirectory() as directory:
            gateway = Gateway(Path(directory), {"log": {"instances": False}})
            try:
                rates = play(gateway.start().address, each)
            finally:
                gateway.close()
        real = [rate / undisturbed(each) for rate in rates]
        good &= min(real) >= ENOUGH
        name = attacks[0] if len(attacks) == 1 else "all"
        print(f"| {name} | {min(shares(each)):.2f} | {min(real):.2f} |", flush=True)
    return good


def main() -> int:
    """Exit status 1: it does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.hostile")
    parser.add_argument("what", choices=["contest"])
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds before it counts")
    parser.add_argument("--seconds", type=float, default=60.0, help="that are measured")
    given = parser.parse_args()
    return 0 if contest(given.warm_up, given.seconds) else 1


if __name__ == "__main__":
    raise SystemExit(main())
