"""The index: an LMDB environment, what is in it, and how it is opened, changed and read.

LMDB's own rules, which everything here keeps:
- One process changes it at a time, the others wait for their turn (`Environment.change`); readers
  never wait, nor does anybody for them. Records are the indexer's (`IndexWriter` has a lock file);
  sender, retriever and commands change tables of their own.
- Opened once in a process and never across a fork; processes here are started by exec.
- A reader that died leaves its slot behind and would pin old pages: the writer looks for them
  (`IndexWriter.check_readers`). Reading needs write access to the lock file.
- A read transaction pins the pages it sees, so none is held longer than one answer takes; whoever
  walks the whole index does it in portions.
- The map grows in whoever changes; all others meet MapResizedError at their next transaction and
  follow.
- Keys have at most 511 bytes and at least one: see `lmdb_key` in engine/index/keys.py.
- Not on a network file system.

Each commit is one fdatasync; the meta page is left to the next commit (`metasync=False`), so a
power cut may undo the last commit, never more, and never damages anything. The journal still has
what was undone, and the position in it goes back with it.

A commit whose sync failed left nothing, and is made again as a whole. But that sync was also for
the meta page of the commit before it, which the kernel may have dropped by then and takes for clean
(docs/decisions/0024-a-failed-sync-is-not-believed.md). A power cut could then undo two commits,
whose pages are in use again. So the meta pages are written again before anything is committed after
a failure, and by whoever opens the index to change it: the failure may have been told to a process
that died.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, cast

import lmdb

from engine.dictionary.patient_mark import MARK_CHARACTERS
from engine.errors import OperatorError
from engine.files.tree import instance_path, sync_directory
from engine.index import migration, records
from engine.index.damage import IndexDamagedError
from engine.index.records import Instance, Patient, Position, Series, Study
from engine.index.rows import ascending, present, text_of
from engine.limits import index_map_bytes_initial, index_map_growth_factor, index_readers_max

T = TypeVar("T")
INDEX_DIRECTORY: Final = "index"
Tables = Mapping[str, lmdb._Database]
# What a disk or an index may do to whoever writes; everything else is a fault of ours.
INDEX_FAULTS: Final = (OSError, lmdb.Error, OperatorError)
# Those among them that say that its pages are none: trying again does not help.
INDEX_DAMAGE: Final = (
    IndexDamagedError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
)
_META_PAGES: Final = 2  # LMDB's: its file begins with them, and commits use them in turn


class NoIndexError(OperatorError):
    """Nothing was ever stored here."""


def fault_code(error: Exception) -> int:
    """The errno that is published for a fault of disk or index."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, lmdb.DiskError | lmdb.MapFullError):
        return errno.ENOSPC
    if isinstance(error, lmdb.ReadonlyError):
        return errno.EROFS
    return errno.EIO


class Environment:
    """The opened LMDB environment and its tables."""

    def __init__(self, data_directory: Path, writable: bool) -> None:
        self.path = data_directory / INDEX_DIRECTORY
        if not writable and not _has_begun(self.path / "data.mdb"):
            raise NoIndexError("there is no index here yet: nothing was stored", str(self.path))
        try:
            self.lmdb = lmdb.open(
                str(self.path),
                map_size=index_map_bytes_initial if writable else 0,
                max_dbs=len(records.TABLES),
                max_readers=index_readers_max,
                mode=0o600,
                readonly=not writable,
                create=writable,
                metasync=False,
            )
            self.tables: dict[str, lmdb._Database] = {}
            self._doubtful = writable  # the disk may lack the last meta page
            self._refuse_without_tables()
            self._open_tables(writable)
        except (lmdb.NotFoundError, lmdb.ReadonlyError) as error:
            if not os.access(self.path / "data.mdb", os.R_OK | (os.W_OK if writable else 0)):
                what = "changed" if writable else "read"
                raise OperatorError(
                    f"may not be {what} by this user: run the command as the service's user",
                    str(self.path),
                ) from error
            # The writer has made the file and not yet its tables.
            raise NoIndexError("there is no index here yet", str(self.path)) from error
        except (lmdb.LockError, PermissionError) as error:
            raise OperatorError(
                "may not be read by this user: readers need write access to lock.mdb",
                str(self.path),
            ) from error
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise IndexDamagedError(str(error)) from error
        with self.begin() as transaction:
            stored = transaction.get(b"format", db=self.tables["meta"])
        if stored == records.FORMAT_BEFORE and writable:
            self.change(lambda changed: migration.migrate(changed, self.tables))
        elif stored not in (None, records.FORMAT, records.FORMAT_BEFORE):
            raise OperatorError("was written by another release of this software", str(self.path))

    def _refuse_without_tables(self) -> None:
        """The first commit made all tables. Where there was one and they are gone, whoever writes
        would begin anew, and whoever reads would find that nothing was stored."""
        if not self.lmdb.info()["last_txnid"]:
            return
        with self._begin(write=False) as transaction:
            try:
                self.lmdb.open_db(records.TABLES[0].encode(), transaction, create=False)
            except lmdb.NotFoundError as error:
                raise IndexDamagedError("none of its tables") from error

    def _open_tables(self, writable: bool) -> None:
        """The first writer makes all at once. An index of an earlier release has not all of them
        until then; to its readers the others are empty."""
        if writable:
            with self._begin(write=True) as transaction:
                for name in records.TABLES:
                    self.tables[name] = self.lmdb.open_db(name.encode(), transaction)
            return
        for name in records.TABLES:
            if name in self.tables:
                continue
            try:
                self.tables[name] = self.lmdb.open_db(name.encode(), create=False)
            except lmdb.NotFoundError:
                if name == records.TABLES[0]:
                    raise

    def _begin(self, write: bool) -> lmdb.Transaction:
        try:
            return self.lmdb.begin(write=write)
        except lmdb.MapResizedError:
            self.lmdb.set_mapsize(0)
            return self.lmdb.begin(write=write)

    def begin(self, write: bool = False) -> lmdb.Transaction:
        if len(self.tables) < len(records.TABLES):
            self._begin(write=False).abort()  # follows a map that has grown
            self._open_tables(writable=False)
        return self._begin(write)

    def change(
        self, work: Callable[[lmdb.Transaction], T], again: Callable[[], None] = lambda: None
    ) -> T:
        """Run `work` in a transaction and commit it. On any error nothing of it remains.

        When the map was full it has grown, `again` is called, and `work` is run again: so `work`
        touches nothing but its transaction.
        """
        while True:
            self._believe()
            try:
                with self.begin(write=True) as transaction:
                    return work(transaction)
            except lmdb.MapFullError:
                size = self.lmdb.info()["map_size"]
                self.lmdb.set_mapsize(size * index_map_growth_factor)
                again()
            except (lmdb.Error, OSError):
                self._doubtful = True
                raise

    def sync(self) -> None:
        """What was committed survives a power cut from here on."""
        self._believe()
        try:
            self.lmdb.sync(True)
        except (lmdb.Error, OSError):
            self._doubtful = True
            raise

    def _believe(self) -> None:
        """After a failure: write the meta pages again, while nobody else changes them."""
        if not self._doubtful:
            return
        page_bytes = self.lmdb.stat()["psize"]
        with self.begin(write=True) as transaction:
            descriptor = os.open(self.path / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
            try:
                pages = os.pread(descriptor, _META_PAGES * page_bytes, 0)
                if os.pwrite(descriptor, pages, 0) != len(pages):
                    raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
                transaction.abort()
        self._doubtful = False

    def close(self) -> None:
        self.lmdb.close()


def create_environment(data_directory: Path) -> Environment:
    """The environment to be changed, made if there is none. LMDB syncs its file; the directories
    that lead to it are synced here."""
    directory = data_directory / INDEX_DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = Environment(data_directory, writable=True)
    for made in (directory, data_directory):
        sync_directory(made)
    return environment


class View:
    """One consistent state of the index. Good until the `with` it came from ends."""

    def __init__(self, transaction: lmdb.Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    def _get(self, table: str, key: bytes) -> bytes | None:
        if table not in self._tables:
            return None
        return cast(bytes | None, self._transaction.get(key, db=self._tables[table]))

    def stored(self, table: str, key: bytes) -> bytes | None:
        """A row as it lies; for rooms above that keep rows of their own here."""
        return self._get(table, key)

    def keys_from(self, table: str, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of a table in order, from the first key not below `start`."""
        if table not in self._tables:
            return
        cursor = self._transaction.cursor(db=self._tables[table])
        if cursor.set_range(start) if start else cursor.first():
            yield from ascending(cast(Iterator[tuple[bytes, bytes]], cursor.iternext()))

    def keys_with_prefix(self, table: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self.keys_from(table, prefix):
            if not key.startswith(prefix):
                return
            yield key, value

    def study_numbers_latest_first(self, first: str, last: str) -> Iterator[int]:
        """Studies of a range of days (both included; "" for no bound), the latest first."""
        cursor = self._transaction.cursor(db=self._tables["words"])
        kind = records.DATE_WORD
        end = kind + last.encode() + b"\xff"
        if not (cursor.set_range(end) and cursor.prev()) and not cursor.last():
            return
        start = kind + first.encode()
        for key in cast(Iterator[bytes], cursor.iterprev(values=False)):
            if key < start or not key.startswith(kind):
                return
            yield records.study_of_word(key)

    def study_numbers(self, prefix: bytes) -> Iterator[int]:
        """Studies by a word that begins so; the caller compares the whole value."""
        for key, _ in self.keys_with_prefix("words", prefix):
            yield records.study_of_word(key)

    def studies(self) -> Iterator[tuple[int, Study]]:
        """All studies by number; for what is rare enough to look at each."""
        for key, value in self.keys_from("studies", b""):
            yield records.NUMBER.unpack(key)[0], records.decode_study(value)

    # --- records ---
    def patient_number(self, patient_id: str, issuer: str) -> int | None:
        """Of a patient by the identifier received."""
        value = self._get("patient_ids", records.patient_key(patient_id, issuer))
        return None if value is None else records.NUMBER.unpack(value)[0]

    def patient(self, number: int) -> Patient | None:
        value = self._get("patients", records.NUMBER.pack(number))
        return None if value is None else records.decode_patient(value)

    def study(self, number: int) -> Study | None:
        value = self._get("studies", records.NUMBER.pack(number))
        return None if value is None else records.decode_study(value)

    def studies_of_uid(self, uid: str, alone: str = "") -> list[tuple[int, int]]:
        """(study, its patient) of each study of a UID: one for each patient that has it. `alone`:
        the SOP Instance UID of an instance that has no Study Instance UID."""
        prefix = records.study_uid_prefix(uid, alone)
        found = [
            records.PAIR.unpack(value)
            for key, value in self.keys_with_prefix("study_uids", prefix)
            if len(key) == len(prefix) + records.NUMBER.size
        ]
        before = None if found else self._get("study_uids", records.uid_key(uid))
        if before is None or len(before) != records.NUMBER.size:
            return found
        # An index that 0.2.0 wrote, and nobody has opened for writing since.
        number = records.NUMBER.unpack(before)[0]
        study = self.study(number)
        return [] if study is None else [(number, study.patient)]

    def series(self, number: int) -> Series | None:
        value = self._get("series", records.NUMBER.pack(number))
        return None if value is None else records.decode_series(value)

    def series_numbers_by_uid(self, uid: str) -> list[int]:
        """Usually one; more when peers used one UID in several studies."""
        prefix = records.series_uid_prefix(uid)
        return [
            records.NUMBER.unpack(value)[0]
            for _, value in self.keys_with_prefix("series_uids", prefix)
        ]

    def series_of(self, study: int) -> Iterator[tuple[int, Series]]:
        for key, _ in self.keys_with_prefix("members", records.NUMBER.pack(study)):
            number = records.PAIR.unpack(key)[1]
            series = self.series(number)
            if series is not None:
                yield number, series

    def instances_of(self, series: int) -> Iterator[Instance]:
        for _, value in self.keys_with_prefix("instances", records.NUMBER.pack(series)):
            yield records.decode_instance(value)

    def instance_keys(self, sop_instance_uid: str) -> list[bytes]:
        """Usually one; one for each patient that has an instance of this UID."""
        plain = self._get("sop_uids", records.uid_key(sop_instance_uid))
        prefix = records.marked_prefix(sop_instance_uid)
        marked = [
            key
            for name, key in self.keys_with_prefix("sop_uids", prefix)
            if len(name) == len(prefix) + MARK_CHARACTERS
        ]
        return marked if plain is None else [plain, *marked]

    def instances_of_uid(self, sop_instance_uid: str) -> list[tuple[int, Instance]]:
        """(number of its series, the instance): usually one, one for each patient that has it."""
        found = []
        for key in self.instance_keys(sop_instance_uid):
            value = self._get("instances", key)
            if value is not None:
                series = records.INSTANCE_KEY.unpack(key)[0]
                found.append((series, records.decode_instance(value)))
        return found

    def instance(self, sop_instance_uid: str, mark: str = "") -> tuple[int, Instance] | None:
        """(number of its series, the instance) of one with this mark."""
        key = self._get("sop_uids", records.instance_uid_key(sop_instance_uid, mark))
        value = None if key is None else self._get("instances", key)
        if key is None or value is None:
            return None
        return records.INSTANCE_KEY.unpack(key)[0], records.decode_instance(value)

    def marks_of(self, sop_instance_uid: str) -> dict[str, str]:
        """{patient's mark: the mark of the patient's instance of this UID}."""
        return {
            self.study_of_series(series).patient_mark: instance.mark
            for series, instance in self.instances_of_uid(sop_instance_uid)
        }

    def instance_of(self, sop_instance_uid: str, patient: str) -> tuple[int, Instance] | None:
        """(number of its series, the instance) of the patient of this mark. "", as 0.2.0 had it:
        whoever's has the plain name."""
        found = self.instances_of_uid(sop_instance_uid)
        if not patient:
            return next((one for one in found if not one[1].mark), None)
        return next((one for one in found if self.whose(one[0]) == patient), None)

    def whose(self, series: int) -> str:
        """The mark of the patient whose series it is."""
        return self.study_of_series(series).patient_mark

    def may_be_joined(self, study: int) -> bool:
        """Whether it may hold instances of other patients than its own, as 0.2.0 let it: what
        their files say counts, until `scai verify --repair` has parted them."""
        return study < self.unparted()

    def unparted(self) -> int:
        """The first study of which that cannot be; 0: of none."""
        unparted = self._get("meta", records.UNPARTED)
        if unparted is None and self._get("meta", b"format") == records.FORMAT_BEFORE:
            numbers = self._get("meta", b"numbers")
            return 0 if numbers is None else records.decode_numbers(numbers).study
        return 0 if unparted is None else records.NUMBER.unpack(unparted)[0]

    def study_of_series(self, series: int) -> Study:
        """What a series that has instances belongs to."""
        in_series = present(self.series(series), "an instance's series is in the index")
        return present(self.study(in_series.study), "a series' study is in the index")

    def path_of(self, series: int, instance: Instance) -> str:
        """Where its file lies, relative to the tree."""
        in_series = present(self.series(series), "an instance's series is in the index")
        study = present(self.study(in_series.study), "a series' study is in the index")
        return instance_path(study.uid, in_series.uid, instance.sop_instance_uid, instance.mark)

    def instances_after(self, key: bytes, count: int) -> list[tuple[bytes, Instance]]:
        """A portion of all instances, in the order of their keys."""
        portion: list[tuple[bytes, Instance]] = []
        for found, value in self.keys_from("instances", key + b"\0" if key else b""):
            portion.append((found, records.decode_instance(value)))
            if len(portion) >= count:
                break
        return portion

    def correction(self, key: bytes) -> bytes | None:
        """What stands in `corrections`; see engine/index/corrections.py."""
        return self._get("corrections", key)

    def generation(self) -> bytes:
        """Changes whenever somebody else than the indexer has changed records."""
        return self._get("meta", b"generation") or b""

    # --- the whole ---
    def lacks(self, table: str, key: bytes) -> bool:
        return self._get(table, key) is None

    def count(self, table: str) -> int:
        if table not in self._tables:
            return 0
        entries: int = self._transaction.stat(self._tables[table])["entries"]
        return entries

    def position(self, journal: str) -> Position:
        value = self._get("meta", records.journal_key(journal))
        return Position() if value is None else records.decode_position(value)

    def positions(self) -> dict[str, Position]:
        """{journal: how far it was taken in}, of all that ever were."""
        prefix = records.journal_key("")
        return {
            key[len(prefix) :].decode(): records.decode_position(value)
            for key, value in self.keys_with_prefix("meta", prefix)
        }

    def policies(self) -> dict[str, str]:
        """{journal: what may replace what, as it was last configured}."""
        found = self.keys_with_prefix("meta", records.POLICY)
        return {text_of(key[len(records.POLICY) :]): text_of(value) for key, value in found}

    def removals(self) -> list[str]:
        return [text_of(key) for key, _ in self.keys_from("removals", b"")]


class IndexReader:
    """Reading, for everyone: find, verify, send, console. Keeps no transaction open by itself."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @contextmanager
    def view(self) -> Iterator[View]:
        with self._environment.begin() as transaction:
            yield View(transaction, self._environment.tables)

    def copy(self, directory: Path) -> None:
        """One state of the whole, as an index of its own in an empty directory, while others go on
        changing this one. OSError: it cannot be written there; it may lie in memory only yet."""
        try:
            self._environment.lmdb.copy(str(directory))
        except lmdb.Error as error:
            raise OSError(fault_code(error), str(error), str(directory)) from error

    def used_bytes(self) -> tuple[int, int]:
        """(size of the map, bytes of it in use)."""
        information = self._environment.lmdb.info()
        page_bytes = self._environment.lmdb.stat()["psize"]
        return information["map_size"], (information["last_pgno"] + 1) * page_bytes

    def close(self) -> None:
        self._environment.close()


def _has_begun(file: Path) -> bool:
    """Whether anything was written. An empty file is left by whoever was killed at its birth."""
    try:
        return file.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_index_reader(data_directory: Path) -> IndexReader:
    """Raises NoIndexError when nothing was stored yet, OperatorError when it may not be read."""
    if not os.access(data_directory, os.R_OK | os.X_OK):
        raise OperatorError("cannot be read, or is not there", str(data_directory))
    return IndexReader(Environment(data_directory, writable=False))
