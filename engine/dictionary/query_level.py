"""The levels of the Study Root model: what a query answers with, what a retrieval brings."""

from enum import IntEnum


class QueryLevel(IntEnum):
    """Query/Retrieve Level (0008,0052); the names are its values."""

    STUDY = 1
    SERIES = 2
    IMAGE = 3
