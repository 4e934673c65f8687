"""The conformance statement: what it says of numbers is what is built, and its proofs exist."""

import re
from pathlib import Path

from engine import limits
from engine.config.loading import Config
from engine.dictionary import uids
from engine.dictionary.contexts import SOP_CLASS_NAMES

_tests = Path(__file__).parent.parent
_statement = (_tests.parent / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_every_proof_exists() -> None:
    proofs = set(re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", _statement))
    assert len(proofs) > 20
    missing = []
    for file, name in sorted(proofs):
        path = _tests / file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not text or (name and not re.search(rf"^\s*(async )?def {name}\(", text, re.MULTILINE)):
            missing.append(f"{file}::{name}" if name else file)
    assert not missing


def test_every_row_of_a_table_of_behaviour_has_a_proof() -> None:
    proving = False
    rows = 0
    for line in _statement.splitlines():
        if not line.startswith("|"):
            proving = False
        elif line.endswith("| proof |"):
            proving = True
        elif proving and not line.startswith("|---"):
            rows += 1
            assert re.search(r"`(\w+/)*test_\w+\.py(::\w+)?` \|$", line), line
    assert rows > 40


def test_its_numbers_are_those_of_the_product() -> None:
    config = Config()
    for number in (
        limits.pdu_bytes_advertised,
        limits.pdu_bytes_tolerated,
        limits.idle_timeout_s_default,
    ):
        assert re.search(rf"\b{number}\b", _statement)
    assert f"{uids.implementation_class}, {uids.implementation_version} " in _statement
    for entity, most in (
        (config.storage_scp, limits.associations_storage_max),
        (config.prefetch_scp, limits.associations_prefetch_max),
    ):
        assert f"| {entity.ae_title} | {entity.port} | {most}" in _statement


def test_its_contexts_are_the_default() -> None:
    short = {
        "1.2.840.10008.1.2": "Implicit VR LE",
        "1.2.840.10008.1.2.1": "Explicit VR LE",
        "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
    }
    for context in Config().storage_scp.contexts:
        syntaxes = ", ".join(short[uid] for uid in context.transfer_syntaxes)
        name = SOP_CLASS_NAMES[context.abstract_syntax]
        assert f"| {name} | {context.abstract_syntax} | {syntaxes} |" in _statement
