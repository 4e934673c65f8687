"""Destinations that fail in every way, fed by rules of the running service.

Each instance ends in the right state, with its reason and after the right number of attempts. Then
all destinations heal, the user says `scai queue retry --all`, and everything arrives as it was
received: nothing is lost, and what was sent before is none the worse for being sent again.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.outbox.records import Delivery, State
from tests.material import wire
from tests.material.waiting import eventually, free_ports, within
from tests.peers.peer import Peer
from tests.peers.peer_scripts import Scp, aborting, rejecting, silent
from tests.peers.peer_scripts import closing as hanging_up
from tests.peers.receivers import AVAILABLE, Pynetdicom, Storescp, remote
from tests.peers.scripted_peer import Script, ScriptedPeer, accept_only
from tests.peers.tap import data_set_of_file
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
RETRIES = 2
MOVING = {State.WAITING, State.SENDING, State.RETRYING}
MIDDLE = 20_000
PIXELS = bytes(range(250)) * 1200
ROOT = "1.2.826.0.1.3680043.10.7"
SETTINGS = {
    "application_timeout_s": 1,
    "response_timeout_s": 1,
    "retry_count": RETRIES,
    "send": {"retry_pause_s": 1},
    "prefetch_scp": {"enabled": False},
}


@dataclass(frozen=True)
class Case:
    """A destination's behaviour at each connection (then it is well), and what shall come of it."""

    scripts: Sequence[Script]
    state: State
    attempts: int
    words: str = ""  # in the reason
    status: int = -1
    more: Mapping[str, Any] = field(default_factory=dict)  # of the remote AE
    unreached: int = 0  # connections that came to nothing, and used no attempt


def lasting(script: Script, words: str, status: int = -1, **more: Any) -> Case:
    """For as long as there are attempts."""
    return Case([script] * (RETRIES + 1), State.FAILED, RETRIES + 1, words, status, more)


def passing(script: Script, **more: Any) -> Case:
    """Only at first."""
    return Case([script], State.DELIVERED, 2, "", 0, more)


def away(script: Script, times: int) -> Case:
    """It says nothing of the instance, more often than there are attempts."""
    return Case([script] * times, State.DELIVERED, 1, "", 0, unreached=times)


def hopeless(script: Script, words: str) -> Case:
    """No retry can mend it."""
    return Case([script], State.FAILED, 1, words)


def tolerable(script: Script, status: int = 0, words: str = "") -> Case:
    """Delivered all the same."""
    return Case([script], State.DELIVERED, 1, words, status)


UNREACHED: dict[str, Script] = {
    "silent": silent,
    "closes": hanging_up,
    "aborts": aborting(2, 0),
    "rejects for now": rejecting(2, 3, 2),
}
TROUBLE: dict[str, tuple[Script, str]] = {
    "aborts in the middle": (Scp(fault="abort", fault_bytes=MIDDLE), "aborted by the peer"),
    "resets in the middle": (Scp(fault="reset", fault_bytes=MIDDLE), "the connection"),
    "closes in the middle": (Scp(fault="close", fault_bytes=MIDDLE), "the connection"),
    "hangs in the middle": (Scp(fault="hang", fault_bytes=MIDDLE), "within 1 s"),
    "aborts after the data": (Scp(fault="abort"), "aborted by the peer"),
    "vanishes after the data": (Scp(fault="close"), "closed"),
    "resets after the data": (Scp(fault="reset"), "the connection"),
    "hangs after the data": (Scp(fault="hang"), "no response within 1 s"),
}


def failing_with(status: int) -> Scp:
    return Scp(statuses=[status], comment=b"the peer's words")


CASES: dict[str, Case] = {
    **{name: away(script, RETRIES + 2) for name, script in UNREACHED.items()},
    **{f"{name}, always": lasting(*trouble) for name, trouble in TROUBLE.items()},
    **{f"{name}, once": passing(trouble[0]) for name, trouble in TROUBLE.items()},
    **{
        f"{status:04X}, always": lasting(failing_with(status), f"{status:04X}", status)
        for status in (0xA700, 0xA900, 0xC000, 0x0110)
    },
    **{f"{status:04X}, once": passing(failing_with(status)) for status in (0xA700, 0xC001)},
    **{
        f"{status:04X}": tolerable(failing_with(status), status, f"{status:04X}")
        for status in (0xB000, 0xB006, 0xB007)
    },
    "A700 in the middle": lasting(
        Scp(fault="early", fault_bytes=MIDDLE, maximum=4096), "A700", 0xA700
    ),
    "vanishes after the data, reused": passing(Scp(fault="close"), associations="reuse"),
    "aborts after the data, reused": lasting(
        Scp(fault="abort"), "aborted by the peer", associations="reuse"
    ),
    "rejects for good": hopeless(rejecting(1, 1, 7), "called AE title not recognized"),
    "takes no such class": hopeless(Scp(decide=accept_only()), "context"),
    "never grants the release": tolerable(Scp(release_fault="hang")),
    "closes at the release": tolerable(Scp(release_fault="close")),
    "collides at the release": tolerable(Scp(release_fault="collide")),
}


def instance(number: int, patient: str) -> tuple[str, bytes]:
    """For the rule that looks at the patient's name."""
    uid = f"{ROOT}.{number}"
    study = f"{ROOT}.9.{number}"
    return uid, wire.small_data_set(uid, study=study, pixels=PIXELS, patient=patient)


def rule(number: int, name: str) -> dict[str, Any]:
    return {"name": f"rule {number}", "when": {"PatientName": f"CASE^{number}"}, "to": [name]}


def store_each(gateway: Gateway, names: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """One instance for each destination; what was acknowledged, by destination."""
    sent = {}
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for number, name in enumerate(names):
            uid, data_set = instance(number, f"CASE^{number}")
            assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
            sent[name] = uid, data_set
        assert peer.release()
    return sent


@dataclass
class Trial:
    """The peers, what each was to be sent, and how the deliveries stood at their end."""

    gateway: Gateway
    peers: dict[str, ScriptedPeer]
    sent: dict[str, tuple[str, bytes]]
    ended: dict[str, Delivery]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with ExitStack() as stack:
        peers = {
            name: stack.enter_context(ScriptedPeer(*case.scripts, Scp()))
            for name, case in CASES.items()
        }
        remotes = [
            {"name": name, "ae_title": "PEER", "host": "127.0.0.1", "port": peers[name].port}
            | dict(case.more)
            for name, case in CASES.items()
        ]
        rules = [rule(number, name) for number, name in enumerate(CASES)]
        settings = {**SETTINGS, "remotes": remotes, "rules": rules}
        directory = tmp_path_factory.mktemp("faults")
        gateway = stack.enter_context(closing(Gateway(directory / "gateway", settings)))
        gateway.start()
        sent = store_each(gateway, [*CASES])
        ended = {each.destination: each for each in gateway.wait_settled(90, len(CASES))}
        yield Trial(gateway, peers, sent, ended)


@pytest.mark.parametrize("name", [*CASES])
def test_ends_in_its_state(trial: Trial, name: str) -> None:
    case, delivery = CASES[name], trial.ended[name]
    assert delivery.sop_instance_uid == trial.sent[name][0]
    assert delivery.origin.startswith("rule ")
    assert (delivery.state, delivery.attempts) == (case.state, case.attempts), delivery.reason
    assert delivery.status == case.status
    assert delivery.warning == (case.state is State.DELIVERED and case.status != 0)
    assert case.words in delivery.reason
    assert bool(delivery.reason) == (case.state is State.FAILED or case.status != 0)
    assert len(trial.peers[name].links) == case.attempts + case.unreached, "connections"


def test_and_everything_arrives_in_the_end(trial: Trial) -> None:
    """Of what was sent again, the peer has seen the same bytes each time."""
    failed = [name for name, case in CASES.items() if case.state is State.FAILED]
    done = trial.gateway.command("queue", "retry", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    settled = {each.destination: each for each in trial.gateway.wait_settled(60, len(CASES))}
    assert {name: settled[name].state for name in CASES} == dict.fromkeys(CASES, State.DELIVERED)
    assert all(settled[name].attempts == 1 for name in failed), "they started over"
    for name, (uid, data_set) in trial.sent.items():
        peer = trial.peers[name]
        assert peer.stored[uid].data == data_set
        seen = [request for request in peer.commands if request.field == wire.C_STORE_RQ]
        assert {(one.text(0x1000), one.data) for one in seen} == {(uid, data_set)}
    log = trial.gateway.log_file.read_text()
    assert "the peer's words" not in log
    assert "CASE^" not in log


# name -> (storescp's options, the end of the delivery, words of its reason)
STORESCP_FAULTS: dict[str, tuple[tuple[str, ...], tuple[State, int], str]] = {
    "refuses": (("--refuse",), (State.FAILED, 1), "rejected permanently"),
    "aborts during": (("--abort-during",), (State.FAILED, RETRIES + 1), "aborted by the peer"),
    "aborts after": (("--abort-after",), (State.FAILED, RETRIES + 1), "aborted by the peer"),
    "sleeps after": (("--sleep-after", "2"), (State.DELIVERED, 1), ""),
}
# It sleeps for each PDU of what it was sent, also when we are long gone, and answers nobody until
# then: after the first attempt it is away, which uses none.
SLEEPER = "sleeps during"


@pytest.mark.skipif(not AVAILABLE, reason="no foreign receivers")
def test_storescp_with_its_own_faults(tmp_path: Path) -> None:
    """DCMTK's storescp, told to fail."""
    with ExitStack() as stack:
        receivers = {}
        options_of = {name: options for name, (options, _, _) in STORESCP_FAULTS.items()}
        options_of[SLEEPER] = ("--sleep-during", "2")
        for name, options in options_of.items():
            receiver = Storescp(tmp_path / name, *options)
            receivers[name] = stack.enter_context(closing(receiver))
        remotes = [remote(name, receiver) for name, receiver in receivers.items()]
        rules = [rule(number, name) for number, name in enumerate(receivers)]
        settings = {**SETTINGS, "remotes": remotes, "rules": rules}
        gateway = stack.enter_context(closing(Gateway(tmp_path / "gateway", settings)))
        gateway.start()
        sent = store_each(gateway, [*receivers])

        def told() -> dict[str, Delivery]:
            found = {each.destination: each for each in gateway.deliveries()}
            others = [each.state for name, each in found.items() if name != SLEEPER]
            settled = len(others) == len(STORESCP_FAULTS) and not set(others) & MOVING
            return found if settled and found[SLEEPER].attempts else {}

        ended: dict[str, Delivery] = eventually(told, 60, "each has met with its fault")
        for name, (_, end, words) in STORESCP_FAULTS.items():
            delivery = ended[name]
            assert (delivery.state, delivery.attempts) == end, (name, delivery.reason)
            assert words in delivery.reason
        assert ended[SLEEPER].state is not State.DELIVERED
        for receiver in receivers.values():
            receiver.kill()
            receiver.options = ()
            receiver.start()
        assert gateway.command("queue", "retry", "--all").returncode == 0
        settled = gateway.wait_settled(60, len(receivers))
        assert {each.state for each in settled} == {State.DELIVERED}
        for name, (uid, data_set) in sent.items():
            kept = receivers[name].kept()
            assert kept.keys() == {uid}
            assert data_set_of_file(kept[uid].read_bytes()) == data_set


@pytest.mark.skipif(not AVAILABLE, reason="no foreign receivers")
def test_what_was_kept_but_not_answered_is_sent_again(tmp_path: Path) -> None:
    """pynetdicom keeps an instance and aborts: the second time it replaces itself."""
    with ExitStack() as stack:
        receiver = Pynetdicom(tmp_path / "receiver", [wire.CT_IMAGE], [wire.EXPLICIT], aborts=1)
        stack.enter_context(closing(receiver))
        settings = {**SETTINGS, "remotes": [remote("it", receiver)], "rules": [rule(0, "it")]}
        settings["response_timeout_s"] = 10
        gateway = stack.enter_context(closing(Gateway(tmp_path / "gateway", settings)))
        gateway.start()
        uid, data_set = store_each(gateway, ["it"])["it"]
        retrying = {("it", State.RETRYING): 1}
        eventually(lambda: gateway.delivery_counts() == retrying, 20, "the first attempt failed")
        assert receiver.kept().keys() == {uid}
        (delivery,) = gateway.wait_settled(30)
        assert (delivery.state, delivery.attempts) == (State.DELIVERED, 2)
        kept = receiver.kept()
        assert kept.keys() == {uid}
        assert data_set_of_file(kept[uid].read_bytes()) == data_set


@pytest.mark.skipif(not AVAILABLE, reason="no foreign receivers")
def test_one_slow_destination_never_delays_another(tmp_path: Path) -> None:
    """The same instances to a storescp, alone at first, and then twice while three others that get
    them too answer after three seconds, never, or are not there: when nothing is known of them
    yet, and when it is. What the storescp gets never waits for one answer of the others."""
    answer_s = 3.0
    with ExitStack() as stack:
        quick = stack.enter_context(closing(Storescp(tmp_path / "quick")))
        slow = stack.enter_context(ScriptedPeer(Scp(slow_s=answer_s)))
        dead = stack.enter_context(ScriptedPeer(silent))
        ports = {"slow": slow.port, "dead": dead.port, "absent": free_ports(1)[0]}
        others = [
            {"name": name, "ae_title": "PEER", "host": "127.0.0.1", "port": port}
            for name, port in ports.items()
        ]
        settings = {
            **SETTINGS,
            "application_timeout_s": 4,
            "response_timeout_s": 4,
            "remotes": [remote("quick", quick), *others],
            "rules": [
                {"name": "alone", "when": {"PatientName": "ALONE"}, "to": ["quick"]},
                {"name": "all", "when": {"PatientName": "ALL"}, "to": ["quick", *ports]},
            ],
        }
        gateway = stack.enter_context(closing(Gateway(tmp_path / "gateway", settings)))
        gateway.start()
        alone = seconds_for_sixty(gateway, 1, "ALONE")
        unknown = seconds_for_sixty(gateway, 2, "ALL")
        eventually(lambda: "dead is away" in gateway.command("status").stdout, 20, "it is known")
        known = seconds_for_sixty(gateway, 3, "ALL")
        took = (alone, unknown, known, gateway.delivery_counts())
        assert max(unknown, known) < 2 * alone + answer_s / 2, took
        assert ("absent", State.DELIVERED) not in gateway.delivery_counts()


def seconds_for_sixty(gateway: Gateway, run: int, patient: str) -> float:
    """Until "quick" has sixty more, from the first C-STORE on."""
    begun = time.monotonic()
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for number in range(60):
            uid, data_set = instance(10_000 * run + number, patient)
            assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
    while gateway.delivery_counts().get(("quick", State.DELIVERED), 0) < 60 * run:
        assert time.monotonic() - begun < within(30), gateway.delivery_counts()
        time.sleep(0.02)
    return time.monotonic() - begun
