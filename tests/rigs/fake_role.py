"""A role without any work, for tests of the supervisor: answers every connection with its pid.

What the first bytes of a connection say: `hang` blocks the loop asleep, `spin` burns the processor,
`die` ends the process, `index` ends it as a damaged index does, `fault` raises; anything else is a
connection that holds until the end.
"""

import asyncio
import os
import socket
import time

from engine.telemetry.metrics import Counter, Gauge
from workers.frame.child import EXIT_INDEX, Child
from workers.frame.spec import ReceiverSpec


async def run(child: Child) -> None:
    loop = asyncio.get_running_loop()
    tasks = []
    if isinstance(child.spec, ReceiverSpec):
        if child.spec.ae_title == "BROKEN":
            raise OSError(5, "the journal cannot be read")
        for number in child.spec.listen_descriptors:
            listener = socket.socket(fileno=number)
            tasks.append(loop.create_task(_accept(child, listener)))
    child.ready()
    await child.draining.wait()
    while child.counters.get(Gauge.ASSOCIATIONS_ACTIVE) and loop.time() < child.drain_deadline:
        await asyncio.sleep(0.01)


async def _accept(child: Child, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()
    accepting = loop.create_task(child.draining.wait())
    while True:
        connect = loop.create_task(loop.sock_accept(listener))
        done, _ = await asyncio.wait({connect, accepting}, return_when="FIRST_COMPLETED")
        if accepting in done:
            connect.cancel()
            listener.close()
            return
        connection, _ = connect.result()
        task = loop.create_task(_serve(child, connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _serve(child: Child, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    child.counters.add(Counter.CONNECTIONS)
    active = child.counters.get(Gauge.ASSOCIATIONS_ACTIVE)
    child.counters.set(Gauge.ASSOCIATIONS_ACTIVE, active + 1)
    spec = child.spec
    assert isinstance(spec, ReceiverSpec)
    await loop.sock_sendall(connection, f"{os.getpid()} {spec.ae_title}\n".encode())
    while word := await loop.sock_recv(connection, 100):
        if word == b"hang":
            time.sleep(3600)
        elif word == b"spin":
            while True:
                pass
        elif word == b"die":
            os._exit(9)
        elif word == b"index":
            os._exit(EXIT_INDEX)
        elif word == b"fault":
            loop.call_soon(loop.stop)
    active = child.counters.get(Gauge.ASSOCIATIONS_ACTIVE)
    child.counters.set(Gauge.ASSOCIATIONS_ACTIVE, active - 1)
    connection.close()
