"""What tests of the sender stand on: files to send, an outbox with them, and its lanes at work."""

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pydicom

from engine.outbox.files import copy_in, examine, fresh_name, make_outbox
from engine.outbox.records import Delivery, State
from engine.outgoing.outgoing import Taken
from engine.pixels.transcode import OtherDecoder, no_other
from engine.settings.timeouts import Timeouts
from tests.material import samples
from tests.material.waiting import within
from workers.scu.association import Peer
from workers.sender.attempt import Destination
from workers.sender.lanes import Lanes
from workers.sender.ledger import Booked, Ledger, Policy

POLICY: Final = Policy(retry_count=1, retry_pause_s=1, delivered_days=7)


def ct_files(directory: Path, count: int, extra_bytes: int = 0) -> list[Path]:
    """Copies of a small CT with UIDs of their own, longer by a private value."""
    dataset = pydicom.dcmread(samples.original("CT_small.dcm"))
    if extra_bytes:
        dataset.private_block(0x0099, "TEST", create=True).add_new(1, "OB", bytes(extra_bytes))
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        uid = f"1.2.826.0.1.3680043.10.1.{number + 1}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        path = directory / f"{number:05}.dcm"
        dataset.save_as(path)
        paths.append(path)
    return paths


def destination(
    port: int,
    name: str = "pacs",
    reuses: bool = False,
    timeout_s: float = 1.0,
    syntaxes: tuple[str, ...] = (),
    sop_classes: tuple[str, ...] = (),
) -> Destination:
    """On this machine."""
    peer, taken = Peer(name, "PACS", "127.0.0.1", port), Taken(syntaxes, sop_classes)
    return Destination(peer, "SCP_AE", Timeouts.each(timeout_s), taken, reuses)


class Office:
    """An outbox and the lanes that empty it, without a process or a loop around them."""

    def __init__(
        self, data_directory: Path, lanes: int = 5, other: OtherDecoder = no_other
    ) -> None:
        (data_directory / "index").mkdir(parents=True, exist_ok=True)
        self.data_directory = data_directory
        self.ledger = Ledger(data_directory)
        self.lanes = Lanes(lambda: None, lanes, other)
        self.booked: list[Booked] = []
        self._threads = [
            threading.Thread(target=self.lanes.run, args=(number,), daemon=True)
            for number in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def queue(self, paths: Iterable[Path], *names: str) -> list[int]:
        """Spool files and queue them to these destinations."""
        make_outbox(self.data_directory)
        numbers = []
        for path in paths:
            copy = fresh_name()
            copy_in(path, self.data_directory, copy)
            examined = examine(path, [])
            for name in names:
                new = examined.delivery(name, "user", copy)
                numbers.append(
                    self.ledger.writer.commit(
                        lambda outbox, new=new: outbox.enqueue(new, time.time_ns())
                    )
                )
        return numbers

    def run(
        self, destinations: Iterable[Destination], timeout_s: float = 20.0, away: int = 0
    ) -> None:
        """Until nothing waits, or retries, or is sent, but for what waits for so many destinations
        that are away."""
        self.lanes.open_for({one.peer.name: one for one in destinations})
        begun = time.monotonic()
        while (
            self.turn()
            or self.under_way(but=self.ledger.away if away else ())
            or (len(self.ledger.away) < away)
        ):
            assert time.monotonic() - begun < within(timeout_s), self.states()
            time.sleep(0.01)

    def turn(self, policy: Policy = POLICY) -> bool:
        """One keeping of books; whether there was anything in it."""
        self.ledger.look()
        self.lanes.ask_now(self.ledger.to_ask())
        self.ledger.keep(*self.lanes.collect())
        leased, booked = self.ledger.keep_books(self.lanes.wanted(), policy)
        self.lanes.put(leased)
        self.booked += booked
        return bool(booked)

    def under_way(self, but: Collection[str] = ()) -> int:
        """Deliveries that are not at their end, but for those to some destinations."""
        states = (State.WAITING, State.SENDING, State.RETRYING)
        return sum(
            count
            for (name, state), count in self.ledger.counts.items()
            if state in states and name not in but
        )

    def states(self) -> Mapping[tuple[str, State], int]:
        """Deliveries by destination and state."""
        with self.ledger.writer.view() as outbox:
            return outbox.counts()

    def delivery(self, number: int) -> Delivery:
        """As it stands now."""
        with self.ledger.writer.view() as outbox:
            found = outbox.delivery(number)
        assert found is not None
        return found

    def close(self) -> None:
        """End the lanes and the outbox."""
        self.lanes.close()
        self.lanes.interrupt()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self.ledger.close()


@contextmanager
def office(directory: Path, lanes: int = 5, other: OtherDecoder = no_other) -> Iterator[Office]:
    """One that ends with its block."""
    opened = Office(directory, lanes, other)
    try:
        yield opened
    finally:
        opened.close()
