"""Which status a peer is told for which fault of ours: lack of room apart from all else."""

import errno

import pytest

from workers.receiver.storage_fault import low_disk, standing_fault, storage_fault


@pytest.mark.parametrize("chosen", [0xA700, 0x0110])
@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE],
)
def test_a_lack_of_room_has_the_chosen_status(code: int, chosen: int) -> None:
    assert storage_fault(code, chosen).status == chosen
    assert standing_fault("The index cannot go on", code, chosen).status == chosen
    assert low_disk(chosen).status == chosen


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.EROFS, errno.EACCES, errno.ENODATA, errno.EBADMSG, errno.EUCLEAN]
)
def test_any_other_fault_is_a_processing_failure(code: int) -> None:
    assert storage_fault(code, 0xA700).status == 0x0110
    assert standing_fault("The journal cannot be read", code, 0xA700).status == 0x0110


def test_the_comment_says_what_it_was() -> None:
    assert storage_fault(errno.ENOSPC, 0xA700).comment == "Storage is full"
    assert storage_fault(errno.EBADMSG, 0xA700).comment == "Storage failed: Bad message"
    fault = standing_fault("The index cannot go on", errno.ENOSPC, 0xA700)
    assert fault.comment == "The index cannot go on: No space left on device"
