"""What the sender writes for frames, native or not, is what their parts say, byte for byte."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from engine import limits
from engine.errors import LocalError
from engine.outgoing import pixels as outgoing_pixels
from engine.outgoing.outgoing import Frames, open_outgoing, parts
from engine.settings.timeouts import Timeouts
from native import _core
from tests.material.jpeg_encoder import Form, encode, picture
from tests.rigs.listeners import Listener, fragments, loopback
from tests.rigs.outgoing_files import EXPLICIT, IMPLICIT, sent
from tests.rigs.outgoing_images import image
from workers.scu.association import ScuAssociation
from workers.sender.writer import DataSetWriter

COMMAND: Final = bytes(range(150))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with loopback() as both:
        yield both


def written(
    pair: tuple[socket.socket, socket.socket],
    paths: list[Path],
    syntax: str,
    pdu_bytes_max: int = limits.pdu_bytes_advertised,
) -> list[bytes]:
    """The data sets that arrive, one after another by one writer."""
    ours, theirs = pair
    listener = Listener(theirs)
    association: Any = SimpleNamespace(
        socket=ours, pdu_bytes_max=pdu_bytes_max, timeouts=Timeouts.each(5.0)
    )
    writer = DataSetWriter()
    try:
        for path in paths:
            with open_outgoing(path) as outgoing:
                given = parts(outgoing, syntax, {})
                complete = writer.write(
                    cast(ScuAssociation, association), 5, COMMAND, given, outgoing.descriptor
                )
                assert complete
    finally:
        ours.shutdown(socket.SHUT_WR)
        listener.join(10)
    arrived: list[bytes] = []
    data = bytearray()
    assert writer.sent_bytes == len(listener.stream)
    for _, control, fragment in fragments(bytes(listener.stream)):
        if control & 1:
            continue
        assert len(fragment) == pdu_bytes_max - 6 or control == 2
        data += fragment
        if control == 2:
            arrived.append(bytes(data))
            data.clear()
    assert not data
    return arrived


def lossless(directory: Path, shapes: list[tuple[int, int, int, int]]) -> Path:
    """Frames of (rows, columns, samples, precision), all of one shape."""
    rows, columns, samples, precision = shapes[0]
    frames = [encode(picture(*shape, seed), Form(precision)) for seed, shape in enumerate(shapes)]
    colour = {"PhotometricInterpretation": "RGB", "PlanarConfiguration": 0} if samples > 1 else {}
    directory.mkdir()
    bits = 8 if precision <= 8 else 16
    return image(directory, frames, (rows, columns, samples, bits), **colour)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("pdu_bytes_max", [4096, limits.pdu_bytes_advertised, 65536])
def test_frames_of_every_size(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, syntax: str, pdu_bytes_max: int
) -> None:
    """Below and above a PDU and the buffer, odd ones, in colour; one writer for all."""
    paths = [
        lossless(tmp_path / str(number), shapes)
        for number, shapes in enumerate(
            (
                [(5, 7, 1, 8)],
                [(5, 7, 1, 8)] * 3,
                [(16, 16, 1, 12)] * 40,
                [(64, 64, 3, 8)] * 3,
                [(300, 301, 1, 16)] * 4,
                [(8, 8, 1, 12)],
            )
        )
    ]
    assert written(pair, paths, syntax, pdu_bytes_max) == [sent(path, syntax) for path in paths]


@pytest.mark.parametrize("fragments_per_frame", [1, 3])
@pytest.mark.parametrize("has_table", [True, False])
def test_frames_in_fragments(
    pair: tuple[socket.socket, socket.socket],
    tmp_path: Path,
    fragments_per_frame: int,
    has_table: bool,
) -> None:
    pictures = [picture(40, 50, 1, 12, seed) for seed in range(5)]
    frames = [encode(each, Form(12)) for each in pictures]
    path = image(tmp_path, frames, (40, 50, 1, 16))
    content = path.read_bytes()
    cut = encapsulate(frames, fragments_per_frame=fragments_per_frame, has_bot=has_table)
    path.write_bytes(content.replace(encapsulate(frames), cut))
    (arrived,) = written(pair, [path], EXPLICIT)
    assert arrived == sent(path, EXPLICIT)
    assert b"".join(each.tobytes() for each in pictures) in arrived


def test_planes_and_rarer_kinds_are_decoded_elsewhere(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The native decoder gives up in the middle of an image: the rest goes the other way."""
    pictures = [picture(20, 30, 3, 8, seed).astype(np.uint16) for seed in range(3)]
    frames = [encode(each, Form(8)) for each in pictures]
    rare = bytearray(frames[1])
    sampling = rare.index(b"\xff\xc3") + 11
    assert rare[sampling] == 0x11
    rare[sampling] = 0x22  # halved chroma
    (tmp_path / "planes").mkdir()
    colour = {"PhotometricInterpretation": "RGB"}
    planes = image(tmp_path / "planes", frames, (20, 30, 3, 8), PlanarConfiguration=1, **colour)
    mixed = image(
        tmp_path,
        [frames[0], bytes(rare), frames[2]],
        (20, 30, 3, 8),
        PlanarConfiguration=0,
        **colour,
    )
    asked: list[int] = []
    real = Frames.decoded

    def decoded(self: Frames, first: int = 0) -> Iterator[bytes | bytearray]:
        asked.append(first)
        if first:
            yield b"what libjpeg makes of them"
        else:
            yield from real(self, first)

    monkeypatch.setattr(outgoing_pixels.Frames, "decoded", decoded)
    by_plane, by_pixel = written(pair, [planes, mixed], EXPLICIT)
    assert asked == [0, 1]
    assert by_plane == sent(planes, EXPLICIT)
    first = pictures[0].astype(np.uint8).tobytes()
    assert first + b"what libjpeg makes of them" in by_pixel


def test_what_is_wrong_with_a_frame_is_said(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    frame = encode(picture(16, 16, 1, 12), Form(12))
    paths = []
    for name, frames, shape in (
        ("cut off", [frame, frame[:60]], (16, 16, 1, 16)),
        ("other rows", [frame, frame], (17, 16, 1, 16)),
        ("too few bytes", [frame], (6000, 6000, 1, 16)),
        ("too many", [frame, frame + bytes(2 << 20)], (16, 16, 1, 16)),
    ):
        (tmp_path / name).mkdir()
        paths.append(image(tmp_path / name, frames, shape))
    for path, words in zip(
        paths,
        ("pixel data: frame 2:", "pixel data: frame 1: .* rows", "frame 1", "larger than any"),
        strict=True,
    ):
        with pytest.raises(LocalError, match=words):
            written(socket.socketpair(), [path], EXPLICIT)


def test_a_file_that_shrinks_while_its_frames_are_sent(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    frame = encode(picture(16, 16, 1, 12), Form(12))
    path = image(tmp_path, [frame] * 3, (16, 16, 1, 16))
    ours, _ = pair
    with open_outgoing(path) as outgoing:
        frames = next(part for part in parts(outgoing, EXPLICIT, {}) if isinstance(part, Frames))
        with path.open("r+b") as file:
            file.truncate(frames.spans(2)[0][0] + 10)
        sender = _core.DataSetSender(limits.send_buffer_bytes)
        sender.begin(1, 16378, COMMAND)
        way = (ours.fileno(), -1, 1000)
        shape = (16, 16, 1, 16)
        one = _core.FrameSender(limits.decoded_frame_bytes_max)
        for number in (0, 1):
            done = one.send(sender, outgoing.descriptor, frames.spans(number), *shape, *way)
            assert done == _core.SENDING_SENT
        with pytest.raises(OSError, match="shorter"):
            one.send(sender, outgoing.descriptor, frames.spans(2), *shape, *way)


def test_a_frame_that_is_too_large_gets_no_room(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    path = image(tmp_path, [encode(picture(16, 16, 1, 12), Form(12))], (16, 16, 1, 16))
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    sender.begin(1, 16378, COMMAND)
    with path.open("rb") as file, open_outgoing(path) as outgoing:
        frames = next(part for part in parts(outgoing, EXPLICIT, {}) if isinstance(part, Frames))
        with pytest.raises(ValueError, match="a frame of 512 bytes is too large"):
            _core.FrameSender(511).send(
                sender,
                file.fileno(),
                frames.spans(0),
                *(16, 16, 1, 16),
                *(pair[0].fileno(), -1, 1000),
            )


def test_a_peer_that_speaks_in_the_middle_of_frames_is_heard(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = pair
    path = lossless(tmp_path / "image", [(300, 300, 1, 16)] * 3)
    theirs.sendall(b"something")
    association: Any = SimpleNamespace(
        socket=ours, pdu_bytes_max=16378, timeouts=Timeouts.each(5.0), fault=lambda error: None
    )
    with open_outgoing(path) as outgoing:
        given = parts(outgoing, EXPLICIT, {})
        assert not DataSetWriter().write(association, 5, COMMAND, given, outgoing.descriptor)
