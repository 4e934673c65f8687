"""The service manager's notification protocol: one datagram for each word.

See sd_notify(3). Without a service manager ($NOTIFY_SOCKET unset) nothing is sent.
"""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells the service manager what state the service is in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the abstract name space.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog_pid = environment.get("WATCHDOG_PID", "")
        ours = watchdog_pid in ("", str(os.getpid()))
        wanted = environment.get("WATCHDOG_USEC", "") if ours else ""
        # Half of what the manager waits is what its manual asks for; a third leaves one to lose.
        self.watchdog_s = int(wanted) / 3e6 if wanted.isdecimal() else 0.0

    def send(self, *lines: str) -> bool:
        """False: nobody listens."""
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.setblocking(False)
            try:
                connection.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return False  # a manager that is gone or busy; it will ask by its watchdog
        return True

    def ready(self, text: str) -> bool:
        return self.send("READY=1", f"STATUS={text}")

    def reloading(self) -> bool:
        return self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, text: str) -> bool:
        return self.send("STOPPING=1", f"STATUS={text}")

    def alive(self) -> bool:
        return self.send("WATCHDOG=1")
