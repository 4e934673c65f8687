"""Whether a correction can be sent with what it was made for: asked when it is made, not then.

A value goes out in the character set of its instance, or in one that can be declared in its place
(`dictionary/saying.py`). A series tells the character set of its instances.
"""

from collections.abc import Iterable

from engine.dictionary.attributes import BY_TAG, SPECIFIC_CHARACTER_SET
from engine.dictionary.saying import said
from engine.errors import OperatorError
from engine.index.corrections import to_be_sent
from engine.index.environment import View
from engine.index.records import Series, Study
from engine.index.rows import present


def check_sayable(
    view: View, studies: Iterable[int], series: Iterable[int], allowed: tuple[str, ...]
) -> None:
    """OperatorError when what corrects one of these could not be sent; `allowed`: the character
    sets that every remote AE takes beyond the conformance statement's."""
    for number in studies:
        study = present(view.study(number), "it was corrected")
        for _, one in view.series_of(number):
            check_series(study, one, allowed)
    for number in series:
        one_series = present(view.series(number), "it was corrected")
        check_series(view.study_of_series(number), one_series, allowed)


def check_series(study: Study, series: Series, allowed: tuple[str, ...]) -> None:
    """Of one series, with the corrections that its study carries."""
    texts = {
        tag: (BY_TAG[tag].vr, text)
        for tag, text in to_be_sent(study, series).items()
        if not text.isascii()
    }
    own = series.attributes.get(SPECIFIC_CHARACTER_SET, "")
    if said(texts, own.encode("latin-1", "replace"), allowed) is not None:
        return
    raise OperatorError(
        f"cannot be sent: series {series.uid} is in character set {own or 'ISO_IR 6'}, in which "
        "it cannot be said, nor can it behind it in ISO_IR 100 or ISO 2022 IR 87. What else may "
        "be declared are the `character_sets` that every remote AE of the configuration has",
        ", ".join(BY_TAG[tag].keyword for tag in texts),
    )
