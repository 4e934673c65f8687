"""What decoding one frame may cost: processor time, wall time and memory.

It follows from what the data set says of the frame and from the bytes it has, never from what the
stream claims of itself. A frame that needs more is not decoded, whatever it is.
"""

from typing import NamedTuple

from engine import limits
from engine.pixels.transcode import Shape


class Allowance(NamedTuple):
    """Seconds of processor and of wall time, and bytes of memory beyond the process's own."""

    cpu_s: int
    wall_s: float
    memory_bytes: int


def allowance_for(shape: Shape, compressed_bytes: int) -> Allowance:
    """For one frame of this shape that came in so many bytes."""
    cpu_s = limits.decoding_cpu_s_base + shape.frame_bytes // limits.decoding_bytes_per_cpu_s
    samples = shape.rows * shape.columns * shape.samples
    memory = limits.decoding_memory_bytes_base + 3 * compressed_bytes
    memory += limits.decoding_memory_bytes_per_sample * samples
    return Allowance(
        cpu_s,
        float(limits.decoding_wall_factor * cpu_s),
        min(memory, limits.decoding_memory_bytes_max),
    )
