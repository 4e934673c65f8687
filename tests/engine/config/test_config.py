"""The configuration: defaults of the conformance statement, and everything that must be refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import limits
from engine.config.loading import Config, parse_config
from engine.dictionary.contexts import TRANSFER_SYNTAX_NAMES
from engine.settings.timeouts import Timeouts
from engine.settings.values import KINDS
from tests.rigs.configurations import only_problem, problems

_ct = "1.2.840.10008.5.1.4.1.1.2"
_implicit = "1.2.840.10008.1.2"


def test_defaults_are_the_statements() -> None:
    config = parse_config("").config
    storage, prefetch, secured = config.storage_scp, config.prefetch_scp, config.secured_scp
    assert (storage.enabled, storage.ae_title, storage.port) == (True, "SCP_AE", 104)
    assert (prefetch.enabled, prefetch.ae_title, prefetch.port) == (True, "PrefetchAP", 3840)
    assert (secured.enabled, secured.ae_title, secured.port) == (False, "SCP_AE", 2762)
    assert config.query_retrieve_scu.ae_title == "PrefetchAP"
    assert config.calling_ae_title == "SCP_AE"
    assert (config.application_timeout_s, config.retry_count) == (5, 1)
    assert config.durability == "sync"
    three = (_implicit, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70")
    expected = {
        _ct: three,
        "1.2.840.10008.5.1.4.1.1.4": three,
        "1.2.840.10008.5.1.4.1.1.2.1": three,
        "1.2.840.10008.5.1.4.1.1.7": (_implicit,),
        "1.2.840.10008.1.1": (_implicit,),
    }
    for entity in (storage, prefetch, secured):
        contexts = {c.abstract_syntax: c.transfer_syntaxes for c in entity.contexts}
        assert contexts == expected
        assert entity.allowed_hosts == ()


def test_storage_aes_are_those_enabled_with_the_statements_limits() -> None:
    both = parse_config("").config.storage_aes()
    assert [(e.name, e.table, e.settings.associations) for e in both] == [
        ("SCP_AE:104", "storage_scp", 5),
        ("PrefetchAP:3840", "prefetch_scp", 1),
    ]
    one = parse_config("[storage_scp]\nenabled = false").config.storage_aes()
    assert [e.name for e in one] == ["PrefetchAP:3840"]


def test_calling_titles_are_two_and_can_be_one() -> None:
    config = parse_config('calling_ae_title = "GATEWAY"').config
    assert (config.calling_ae_title, config.query_retrieve_scu.ae_title) == (
        "GATEWAY",
        "PrefetchAP",
    )
    one = parse_config('calling_ae_title = "A"\n[query_retrieve_scu]\nae_title = "A"').config
    assert one.calling_ae_title == one.query_retrieve_scu.ae_title == "A"


def test_the_steps_of_our_associations_have_times_of_their_own() -> None:
    config = parse_config("").config
    assert config.timeouts == Timeouts(connect_s=5, association_s=5, response_s=60, release_s=5)
    assert config.query_retrieve_scu.query_timeout_s == 60
    config = parse_config("""
        application_timeout_s = 1
        connect_timeout_s = 2
        response_timeout_s = 3
        release_timeout_s = 4
        [[remotes]]
        name = "quick"
        ae_title = "QUICK"
        host = "127.0.0.1"
        port = 104
        [[remotes]]
        name = "slow"
        ae_title = "SLOW"
        host = "127.0.0.1"
        port = 105
        response_timeout_s = 900
    """).config
    quick, slow = (remote.timeouts(config.timeouts) for remote in config.remotes)
    assert quick == Timeouts(connect_s=2, association_s=1, response_s=3, release_s=4)
    assert slow == quick._replace(response_s=900)


_every_setting = f"""
        data_directory = "/srv/scai"
        durability = "os"
        calling_ae_title = "GATEWAY"
        application_timeout_s = 60
        retry_count = 10
        idle_timeout_s = 1
        drain_timeout_s = 0
        reserve_mib = 0
        ring_mib = 1
        [storage_scp]
        enabled = true
        ae_title = " STORE "
        address = "2001:DB8::0001"
        port = 11112
        called_ae_titles = ["STORE", "OLD NAME"]
        calling_ae_titles = ["CT1"]
        allowed_hosts = ["10.1.2.3", "10.2.0.0/16", "2001:db8::/32"]
        core = 3
        contexts = [
          {{ abstract_syntax = "{_ct}", transfer_syntaxes = ["{_implicit}"] }},
          {{ abstract_syntax = "1.3.6.1.4.1.5962.1", transfer_syntaxes = ["1.2.840.10008.1.2.5"] }},
        ]
        [tls]
        profile = "extended"
        key_store = "keys.p12"
        key_store_password = "one two"
        trust_store = "trust.jks"
        trust_store_password = "three"
        client_authentication = "none"
        [query_retrieve_scu]
        ae_title = "PRIORS"
        [stats]
        enabled = true
        address = "0.0.0.0"
        port = 9999
        allow_remote = true
        [log]
        level = "debug"
        instances = false
        [index]
        core = 0
        [[remotes]]
        name = "archive"
        ae_title = "PACS"
        host = "pacs.example.org"
        port = 104
        transfer_syntaxes = ["1.2.840.10008.1.2.4.70"]
        character_sets = ["ISO_IR 192", "ISO 2022 IR 149"]
        original_attributes = true
        [[remotes]]
        name = "workstation"
        ae_title = "WS"
        host = "10.0.0.9"
        port = 11112
    """


def test_every_setting_can_be_given() -> None:
    config = parse_config(_every_setting).config
    storage = config.storage_scp
    assert storage.ae_title == "STORE"  # titles compare without the spaces around them
    assert storage.address == "2001:db8::1"
    assert storage.core == 3
    assert storage.called_ae_titles == ("STORE", "OLD NAME")
    assert storage.allowed_hosts == ("10.1.2.3/32", "10.2.0.0/16", "2001:db8::/32")
    assert [c.transfer_syntaxes for c in storage.contexts] == [
        (_implicit,),
        ("1.2.840.10008.1.2.5",),
    ]
    assert [r.name for r in config.remotes] == ["archive", "workstation"]
    assert config.remotes[0].transfer_syntaxes == ("1.2.840.10008.1.2.4.70",)
    assert config.remotes[0].character_sets == ("ISO_IR 192", "ISO 2022 IR 149")
    assert [remote.original_attributes for remote in config.remotes] == [True, False]
    assert config.tls.key_store_password == "one two"
    assert "one two" not in repr(config)
    assert config.prefetch_scp == Config().prefetch_scp
    assert config.ring_bytes == limits.ring_bytes_min


_out_of_range = [
    ("application_timeout_s", 0, "1 to 60"),
    ("application_timeout_s", 61, "1 to 60"),
    ("connect_timeout_s", 0, "1 to 60"),
    ("response_timeout_s", 0, "1 to 3600"),
    ("response_timeout_s", 3601, "1 to 3600"),
    ("release_timeout_s", 61, "1 to 60"),
    ("retry_count", 0, "1 to 10"),
    ("retry_count", 11, "1 to 10"),
    ("idle_timeout_s", 0, "1 to 86400"),
    ("drain_timeout_s", -1, "0 to 600"),
    ("reserve_mib", -1, "0 to"),
    ("ring_mib", 0, "1 to 256"),
    ("ring_mib", 257, "1 to 256"),
    ("storage_scp.port", 0, "1 to 65535"),
    ("storage_scp.port", 65536, "1 to 65535"),
    ("storage_scp.core", -1, "0 to 4095"),
    ("stats.port", 65536, "1 to 65535"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), _out_of_range)
def test_a_number_out_of_range_is_told_its_range(name: str, value: int, allowed: str) -> None:
    found = only_problem(f"{name} = {value}")
    assert found.startswith(f"line 1: {name} = {value}: must be")
    assert allowed in found


_wrong_types = [
    ("application_timeout_s", '"5"', "whole number"),
    ("application_timeout_s", "5.0", "whole number"),
    ("application_timeout_s", "true", "whole number"),
    ("storage_scp.enabled", "1", "true or false"),
    ("storage_scp.enabled", '"yes"', "true or false"),
    ("storage_scp.ae_title", "5", "AE title"),
    ("storage_scp.allowed_hosts", '"10.0.0.1"', "a list"),
    ("storage_scp.allowed_hosts", "[1]", "IP address or network"),
    ("storage_scp.contexts", "{}", "a list of tables"),
    ("storage_scp", "104", "must be a table"),
    ("remotes", "[1]", "must be a table"),
    ("durability", '"SYNC"', "did you mean sync?"),
    ("log.level", '"warn"', "did you mean warning?"),
    ("storage_scp.core", '"atuo"', "did you mean auto?"),
    ("data_directory", "1979-05-27", "a path"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), _wrong_types)
def test_a_value_of_the_wrong_type_is_told_the_right_one(
    name: str, value: str, allowed: str
) -> None:
    assert allowed in only_problem(f"{name} = {value}")


_wrong_texts = [
    ("storage_scp.ae_title", "", "empty"),
    ("storage_scp.ae_title", "    ", "only spaces"),
    ("storage_scp.ae_title", "SEVENTEEN_LETTERS", "has 17 characters"),
    ("storage_scp.ae_title", r"A\\B", "backslash"),
    ("storage_scp.ae_title", r"A\u0007B", r"'\x07'"),
    ("storage_scp.ae_title", "RÖNTGEN", "ASCII"),
    ("storage_scp.address", "localhost", "127.0.0.1"),
    ("storage_scp.address", "10.0.0.256", "IPv4 or IPv6"),
    ("stats.address", "127.0.0.1:80", "IPv4 or IPv6"),
    ("data_directory", "", "empty"),
    ("data_directory", "~/data", "~ is not expanded"),
    ("data_directory", r"a\u0000b", "NUL"),
    ("tls.key_store", "~", "~ is not expanded"),
]


@pytest.mark.parametrize(("name", "value", "why"), _wrong_texts)
def test_a_wrong_text_is_told_why(name: str, value: str, why: str) -> None:
    assert why in only_problem(f'{name} = "{value}"')


_wrong_items = [
    ("called_ae_titles", r"A\\B", "backslash"),
    ("calling_ae_titles", " ", "only spaces"),
    ("allowed_hosts", "10.1.2.3/16", '"10.1.0.0/16"'),
    ("allowed_hosts", "scanner", "10.1.2.0/24"),
]


@pytest.mark.parametrize(("name", "item", "why"), _wrong_items)
def test_a_wrong_item_of_a_list_is_told_by_its_position(name: str, item: str, why: str) -> None:
    good = "10.0.0.1" if name == "allowed_hosts" else "GOOD"
    found = only_problem(f'storage_scp.{name} = ["{good}", "{item}"]')
    assert f"storage_scp.{name}[1] = " in found
    assert why in found


_wrong_contexts = [
    ("1.2.840.10008.5.1.4.1.1.02", _implicit, "leading zero"),
    ("CT", _implicit, "is no UID"),
    ("1." * 32 + "1", _implicit, "has 65 characters"),
    ("1.2.840.10008.5.1.4.1.2.2.1", _implicit, "neither a storage SOP class nor Verification"),
    ("1.2.840.10008.5.1.4.1.1.200.4", _implicit, "neither a storage SOP class"),
    (_ct, "1.2.840.10008.1.2.2", "Big Endian"),
    (_ct, "1.2.840.10008.1.2.1.99", "Deflated"),
    (_ct, "1.2.840.10008.1.2.4.7", "did you mean 1.2.840.10008.1.2.4.70?"),
    (_ct, "explicit vr little-endian", 'write the UID "1.2.840.10008.1.2.1"'),
    (_ct, "9.9", "no transfer syntax this product knows"),
]


@pytest.mark.parametrize(("abstract", "transfer", "why"), _wrong_contexts)
def test_a_wrong_context_is_told_why(abstract: str, transfer: str, why: str) -> None:
    context = f'{{ abstract_syntax = "{abstract}", transfer_syntaxes = ["{transfer}"] }}'
    found = only_problem(f"storage_scp.contexts = [{context}]")
    assert why in found
    assert found.startswith("line 1: storage_scp.contexts[0].")


@pytest.mark.parametrize(
    ("written", "why"),
    [("ISO IR 192", "did you mean ISO_IR 192?"), ("unicode_escape", "is no character set")],
)
def test_a_wrong_character_set_is_told(written: str, why: str) -> None:
    remote = '[[remotes]]\nname = "a"\nae_title = "A"\nhost = "a"\nport = 1\n'
    assert why in only_problem(f'{remote}character_sets = ["{written}"]')


def test_contexts_must_be_said_once_and_not_be_empty() -> None:
    one = f'{{ abstract_syntax = "{_ct}", transfer_syntaxes = ["{_implicit}"] }}'
    none = '{ abstract_syntax = "1.2.840.10008.1.1", transfer_syntaxes = [] }'
    twice = f'{{ abstract_syntax = "1.3.6", transfer_syntaxes = ["{_implicit}", "{_implicit}"] }}'
    assert "accepts nothing" in only_problem("storage_scp.contexts = []")
    assert "already contexts[0]" in only_problem(f"storage_scp.contexts = [{one}, {one}]")
    assert "one transfer syntax or more" in only_problem(f"storage_scp.contexts = [{none}]")
    assert "twice" in only_problem(f"storage_scp.contexts = [{twice}]")


_unknown = [
    ("durabilty = 1", "durabilty: unknown setting; did you mean durability?"),
    ("[storage]\nport = 1", "storage: unknown setting; did you mean storage_scp?"),
    ("[storage_scp]\nprot = 1", "storage_scp.prot: unknown setting; did you mean port?"),
    ("[storage_scp]\nring_mib = 1", "belongs to the top of the file, before the first [table]"),
    ("[storage_scp]\nallow_remote = true", "it belongs to [stats]"),
    ("max_pdu = 16384", "the conformance statement fixes the PDU size, 16378 bytes"),
    ("[storage_scp]\nassociation = 9", "unknown setting; did you mean associations?"),
    ("[storage_scp]\nasync_window = 2", "fixes the number of outstanding operations, 1"),
    ('implementation_class_uid = "1.2"', "fixes the implementation's identity"),
    ("zzzz = 1", "known here: data_directory, durability"),
    (r'"a\u001bb" = 1', r"'a\x1bb'"),
]


@pytest.mark.parametrize(("text", "expected"), _unknown)
def test_an_unknown_key_is_told_what_would_be_right(text: str, expected: str) -> None:
    assert expected in only_problem(text)


_same_port = [
    ("", "", True),
    ("", "10.0.0.1", True),
    ("10.0.0.1", "10.0.0.1", True),
    ("0.0.0.0", "10.0.0.1", True),
    ("::", "10.0.0.1", True),
    ("10.0.0.1", "10.0.0.2", False),
    ("0.0.0.0", "2001:db8::1", False),
    ("::1", "127.0.0.1", False),
]


@pytest.mark.parametrize(("one", "other", "collides"), _same_port)
def test_one_port_for_two_aes_is_refused_where_they_would_meet(
    one: str, other: str, collides: bool
) -> None:
    text = f"""
        [storage_scp]
        address = "{one}"
        port = 7000
        [prefetch_scp]
        address = "{other}"
        port = 7000
    """
    expected = ["line 7: prefetch_scp.port: 7000 is already the port of [storage_scp]; "]
    assert [p[: len(expected[0])] for p in problems(text)] == (expected if collides else [])


def test_the_port_of_the_statistics_is_one_of_them() -> None:
    text = "[storage_scp]\nport = 9104\n"
    assert "stats.port: 9104 is already the port of [storage_scp]" in only_problem(text)
    assert problems(text + "[stats]\nenabled = false\n") == []
    # An AE that does not listen holds no port.
    assert problems("[stats]\nport = 2762\n") == []


def test_two_aes_of_one_name_are_refused() -> None:
    text = """
        storage_scp = { address = "10.0.0.1", port = 104 }
        prefetch_scp = { address = "10.0.0.2", port = 104, ae_title = "SCP_AE" }
    """
    assert "nobody can tell them apart" in only_problem(text)


def test_nothing_to_serve_is_refused() -> None:
    text = "storage_scp.enabled = false\nprefetch_scp.enabled = false\n"
    assert "nothing to serve" in only_problem(text)


def test_protection_that_is_not_there_is_refused() -> None:
    assert "needs tls.key_store" in only_problem("secured_scp.enabled = true")


def test_statistics_leave_the_machine_only_if_told_to() -> None:
    for address in ("", "0.0.0.0", "10.1.1.1", "::"):
        text = f'stats.address = "{address}"\n'
        assert "stats.allow_remote = true" in only_problem(text)
        assert problems(text + "stats.allow_remote = true") == []
    for address in ("127.0.0.2", "::1"):
        assert problems(f'stats.address = "{address}"') == []


def test_passwords_are_checked_and_never_repeated() -> None:
    text = '[tls]\nkey_store = "k"\nkey_store_password = "geheim-ü"\ntrust_store_password = "xyzzy"'
    found = problems(text)
    assert len(found) == 2
    assert "ASCII" in found[0]
    assert "tls.trust_store is not" in found[1]
    assert "geheim" not in str(found)
    assert "xyzzy" not in str(found)
    assert "4711" not in only_problem("[tls]\nkey_store_password = 4711")


def test_remotes_are_complete_and_have_names_of_their_own() -> None:
    found = problems('[[remotes]]\nname = "a"\n\n[[remotes]]\nname = "b"\nport = 1\n')
    assert found == [
        "line 1: remotes[0].ae_title: is missing; it is required",
        "line 1: remotes[0].host: is missing; it is required",
        "line 1: remotes[0].port: is missing; it is required",
        "line 4: remotes[1].ae_title: is missing; it is required",
        "line 4: remotes[1].host: is missing; it is required",
    ]
    one = 'ae_title = "A"\nhost = "h"\nport = 1\n'
    text = f'[[remotes]]\nname = "Pacs"\n{one}[[remotes]]\nname = "PACS"\n{one}'
    assert only_problem(text).startswith("line 7: remotes[1].name: 'PACS' is already the name")


_hosts = [
    ("pacs", True),
    ("pacs.example.org.", True),
    ("10.0.0.1", True),
    ("fe80::1", True),
    ("pacs:104", False),
    ("10.0.0.1:104", False),
    ("10.0.0.300", False),
    ("-pacs", False),
    ("a..b", False),
    ("", False),
    ("a" * 64, False),
    ("pacs example", False),
    ("http://pacs", False),
]


@pytest.mark.parametrize(("host", "good"), _hosts)
def test_hosts_of_remotes(host: str, good: bool) -> None:
    text = f'[[remotes]]\nname = "a"\nae_title = "A"\nport = 1\nhost = "{host}"\n'
    assert (problems(text) == []) == good


def test_transfer_syntaxes_are_real_and_readable_by_the_index() -> None:
    from pydicom.uid import UID

    for uid in TRANSFER_SYNTAX_NAMES:
        known = UID(uid)
        assert known.is_transfer_syntax
        assert known.is_little_endian
        assert not known.is_deflated


def test_every_kind_that_is_named_exists() -> None:
    def kinds(model: type[msgspec.Struct]) -> set[str]:
        found: set[str] = set()
        for info in msgspec.structs.fields(model):
            inner, meta = info.type.__origin__, info.type.__metadata__[0]
            assert meta.description, info.name
            found.add(str(meta.extra["kind"]))
            inner = getattr(inner, "__args__", (inner,))[0]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                found |= kinds(inner)
        return found

    assert kinds(Config) - {""} <= set(KINDS)


@given(
    st.recursive(
        st.none().map(lambda _: True) | st.integers() | st.text(max_size=20) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([i.name for i in msgspec.structs.fields(Config)])
                | st.text(max_size=10),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_value_breaks_the_reader(value: object) -> None:
    from engine.config.reader import Reading

    for name in ("storage_scp", "remotes", "durability", "port", "tls"):
        reading = Reading({})
        config = reading.read_table(Config, Config(), {name: value}, ())
        assert isinstance(config, Config)
        for problem in reading.problems:
            assert all(c.isprintable() for c in str(problem))
