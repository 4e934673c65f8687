"""What to tell the operator when a port cannot be listened on. Called by whoever binds it."""

import errno

from engine.errors import OperatorError


def bind_problem(name: str, address: str, port: int, error: OSError) -> OperatorError:
    """The message for `error`, met when `name` ("SCP_AE:104", "stats") was to listen there."""
    place = f"port {port} of {address or 'all interfaces'}"
    where = f"{name}: {place}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return OperatorError(
            f"needs a privilege this user does not have. Three ways out:\n"
            f"  1. another port: set `port` in the configuration (11112 is customary) and tell "
            f"the modalities;\n"
            f"  2. open ports from {port} upwards to every user of this machine:\n"
            f"     sudo sysctl net.ipv4.ip_unprivileged_port_start={port}\n"
            f"     (a file in /etc/sysctl.d keeps it over a restart);\n"
            f"  3. the capability CAP_NET_BIND_SERVICE for this service alone: in its unit\n"
            f"     AmbientCapabilities=CAP_NET_BIND_SERVICE (the drop-in "
            f"ops/systemd/low-ports.conf), or,\n"
            f"     for every program this Python runs,\n"
            f'     sudo setcap cap_net_bind_service=+ep "$(readlink -f "$(command -v python3)")"',
            where,
        )
    if error.errno == errno.EADDRINUSE:
        return OperatorError(
            f"is in use by another program. Who it is: sudo ss -ltnp 'sport = :{port}'\n"
            f"  Stop that program, or set another `port` in the configuration.",
            where,
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return OperatorError(
            "this machine does not have that address. Which it has: ip address\n"
            '  Correct `address` in the configuration, or set it to "" for all interfaces.',
            where,
        )
    if error.errno == errno.EAFNOSUPPORT:
        return OperatorError(
            "this machine does not speak that kind of address (IPv6 switched off?).\n"
            "  Correct `address` in the configuration.",
            where,
        )
    return OperatorError(f"cannot be listened on: {error.strerror or error}", where)
