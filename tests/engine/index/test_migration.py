"""What the migration of an index of 0.2.0 adds: words of each modality, whose a study is given."""

from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from engine.dictionary.attributes import PATIENT_ID
from engine.dictionary.patient_mark import patient_identity
from engine.dictionary.query_level import QueryLevel
from engine.index import corrections, records
from engine.index.corrections import Target
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from tests.rigs.two_patients import lay_out_release_0_2_0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """0.2.0's rows, with CARLA's study of PT and CT series, given to C2 by its own correction. What
    0.2.0 wrote of two modalities in one value is one word."""
    lay_out_release_0_2_0(tmp_path)
    environment = lmdb.open(str(tmp_path / "index"), max_dbs=64)
    with environment.begin(write=True) as transaction:
        tables = {
            name: environment.open_db(name.encode(), transaction)
            for name in ("studies", "words", "corrections")
        }
        for key, value in [*transaction.cursor(db=tables["studies"])]:
            study = records.decode_study(value)
            if study.uid != "2.2":
                continue
            number = records.NUMBER.unpack(key)[0]
            for word in records.modality_words(number, study):
                transaction.delete(word, db=tables["words"])
            study.modalities = {"PT\\CT": 1}
            transaction.put(key, records.encode(study), db=tables["studies"])
        given = records.encode({PATIENT_ID: "C2"})
        transaction.put(corrections.key_of(Target("study", "2.2")), given, db=tables["corrections"])
    environment.close()
    return tmp_path


@pytest.mark.parametrize("modality", ["PT", "CT"])
def test_each_modality_of_a_value_is_found(directory: Path, modality: str) -> None:
    with closing(IndexWriter(directory)) as writer, writer.reader().view() as view:
        keys = {"ModalitiesInStudy": modality, "StudyInstanceUID": "2.2"}
        assert len([*find(view, Query(QueryLevel.STUDY, keys))]) == 1
        words = {key for key, _ in view.keys_with_prefix("words", records.MODALITY_WORD)}
        for number, study in view.studies():
            assert words >= {*records.modality_words(number, study)}


def test_whose_study_was_given_is_known(directory: Path) -> None:
    with closing(IndexWriter(directory)) as writer, writer.reader().view() as view:
        rows = [
            *view.keys_with_prefix(
                "given_studies", corrections.given_prefix(patient_identity("CARLA", ""))
            )
        ]
        assert [bytes(value) for _, value in rows] == [b"2.2"]
        assert [*view.keys_with_prefix("given_studies", b"")] == rows, "and of no other"
