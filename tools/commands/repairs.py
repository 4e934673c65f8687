"""Who carries out what a command wants of index and files: the indexer, or the command itself."""

from collections.abc import Sequence
from typing import Final

from engine.config.loading import Config
from engine.files.tree import StoreTree
from engine.index.environment import IndexReader, open_index_reader
from engine.index.writer import IndexWriter, WriterBusyError
from engine.intake.intake import Intake
from engine.verify.repair import Action, RepairResult, apply_actions, await_result, leave_request
from tools.commands.taking_in import take_in_journals

_actions_per_request: Final = 500
_request_wait_s: Final = 60.0


class Repairs:
    """Who carries repairs out: this process, if no service holds the index, or the indexer."""

    def __init__(self, config: Config, wanted: bool) -> None:
        self._config = config
        self._data_directory = data_directory = config.data_path
        self._wanted = wanted
        self._own: IndexWriter | None = None
        self._intake: Intake | None = None
        self._tree = StoreTree(data_directory)

    def __enter__(self) -> "Repairs":
        if self._wanted and self._data_directory.is_dir():  # otherwise there is nothing to repair
            try:
                self._own = IndexWriter(self._data_directory)
                self._intake = take_in_journals(self._config, self._own)
            except WriterBusyError:
                self._own = None  # the service runs: it is asked
        return self

    def __exit__(self, *_: object) -> None:
        if self._intake is not None:
            self._intake.close()
        if self._own is not None:
            self._own.close()

    def reader(self) -> IndexReader:
        """Its caller closes it."""
        if self._own is not None:
            return self._own.reader()
        return open_index_reader(self._data_directory)

    def apply(self, actions: Sequence[Action]) -> list[RepairResult]:
        """What became of each."""
        if self._own is not None:
            dispatcher = None if self._intake is None else self._intake.dispatcher
            arrived = None if dispatcher is None else dispatcher.arrived
            return apply_actions(self._own, self._tree, actions, arrived)
        outcomes: list[RepairResult] = []
        for start in range(0, len(actions), _actions_per_request):
            portion = actions[start : start + _actions_per_request]
            request = leave_request(self._data_directory, portion)
            outcomes += await_result(request, _request_wait_s)
        return outcomes
