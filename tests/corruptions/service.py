"""A trial with the whole service: `scai run` on the damaged directory, judged by what it says."""

import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.corruptions.corruption import Corruption
from tests.corruptions.material import Made
from tests.corruptions.starting import digest_of
from tests.corruptions.trial import Outcome, Verdict
from tests.material.waiting import eventually, free_ports
from tests.rigs.gateway import Gateway

_WAIT_S: Final = 60.0
_COMMAND_S: Final = 300.0  # on a machine that does other things
_WAY_ON: Final = "scai verify"


def judge_service(made: Made, copy: Path, done: Corruption) -> Verdict:
    """Start it, wait until it is ready or says that the index is damaged, ask it, stop it."""
    (port,) = free_ports(1)  # nobody listens there
    remote = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port}
    settings = {"remotes": [remote], "rules": [{"name": "all", "to": ["archive"]}]}
    gateway = Gateway(copy.parent / "service", settings, data_directory=copy)
    try:
        return _judged(gateway, made, done)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        return Verdict(Outcome.WRONG, [f"scai run: {error}"[:2000]])
    finally:
        gateway.close()


def _judged(gateway: Gateway, made: Made, done: Corruption) -> Verdict:
    try:
        gateway.start(_WAIT_S)
    except AssertionError:
        if gateway.process is None or gateway.process.poll() is not None:
            raise
    log = gateway.log()
    crashes = [line for line in log if "killed by" in str(line.get("text", ""))]
    if crashes:
        return Verdict(Outcome.WRONG, [f"scai run: {crashes[0]}"])
    if not _becomes_ready(gateway):
        text = gateway.log_tail(200)
        if _WAY_ON in text and done.is_of_index:
            return Verdict(Outcome.REFUSED, [], "index: told by scai run")
        return Verdict(Outcome.WRONG, [f"scai run is not ready: {gateway.log_tail(5)}"])
    verified = gateway.command("verify", "--content", "--all", wait_s=_COMMAND_S)
    said = f"{verified.stdout}\n{verified.stderr}\n{json.dumps(gateway.log())}"
    if verified.returncode not in (0, 1):
        if _WAY_ON in said and done.is_of_index:
            return Verdict(Outcome.REFUSED, [], "index: told by scai verify")
        return Verdict(Outcome.WRONG, [f"scai verify: {said[:1000]}"])
    lost = _missing(gateway, made)
    numbers = {uid: number for (_, number), uid in made.records.items()}
    wrong = [
        f"scai run: {uid} is {what} and nobody says so"
        for uid, what in lost.items()
        if not re.search(rf"\b{re.escape(uid)}\b", said) and not _is_told(said, numbers.get(uid))
    ]
    wrong += [f"scai run: {uid} was not touched" for uid in lost if not _may_lack(done, uid, said)]
    if gateway.stop() != 0:
        wrong.append("scai run: it did not stop in order")
    if wrong:
        return Verdict(Outcome.WRONG, wrong)
    if lost:
        return Verdict(Outcome.NAMED)
    return Verdict(Outcome.TOLD if verified.returncode else Outcome.WHOLE)


def _becomes_ready(gateway: Gateway) -> bool:
    """Or says that the index is damaged."""

    def is_decided() -> bool:
        return gateway.ready() or _WAY_ON in gateway.log_tail(200)

    with suppress(AssertionError):
        eventually(is_decided, _WAIT_S, "it is ready or says why not")
    return gateway.ready()


def _missing(gateway: Gateway, made: Made) -> dict[str, str]:
    """Once everything that will be taken in was."""
    found: dict[str, str] = {}

    def is_stable() -> bool:
        before, now = dict(found), _missing_now(gateway, made)
        found.clear()
        found.update(now)
        return not now or now == before

    eventually(is_stable, _WAIT_S, "what is there stays the same")
    return found


def _missing_now(gateway: Gateway, made: Made) -> dict[str, str]:
    rows, wrong = gateway.find(), {}
    for uid, expected in made.acknowledged.items():
        if uid not in rows:
            wrong[uid] = "not in the index"
        elif digest_of(gateway.stored_file(rows[uid])) != expected:
            wrong[uid] = "another file, or none"
    return wrong


def _is_told(said: str, number: int | None) -> bool:
    """Whether a range of lost records has it."""
    if number is None:
        return False
    ranges = re.findall(r"records (\d+)(?: to (\d+))?", said)
    ranges += re.findall(r'"first": (\d+), "last": (\d+)', said)
    return any(int(first) <= number <= int(last or first) for first, last in ranges)


def _may_lack(done: Corruption, uid: str, said: str) -> bool:
    """Files whose rows a damaged index lost are unknown files until `scai verify --repair`."""
    return uid in done.costs or (done.is_of_index and uid in said)
