"""One change of one attribute, as fields of a JSON object."""

from engine.index.corrections import Edit


def change_fields(edit: Edit) -> dict[str, object]:
    """Of what, from what and to what; who changed it and when is the caller's to say."""
    return {
        "whose": edit.whose,
        "identifier": edit.identifier,
        "issuer": edit.issuer,
        "patient": edit.patient,
        "keyword": edit.keyword,
        "old": edit.old,
        "new": edit.new,
    }
