"""All that is wrong with a configuration is told in one round, and each thing once."""

import re

from tests.rigs.configurations import problems


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """
        durabilty = "sync"
        retry_count = 99
        [prefetch_scp]
        port = 9104
        core = "x"
        [storage_scp]
        ae_title = ""
        allowed_hosts = [
          "x",
        ]
    """
    found = problems(text)
    places = [re.match(r"line (\d+): ([^: ]+)", problem) for problem in found]
    assert [(int(place[1]), place[2]) for place in places if place] == [
        (2, "durabilty"),
        (3, "retry_count"),
        (5, "stats.port"),  # of which the file says nothing; the port it meets is on line 5
        (6, "prefetch_scp.core"),
        (8, "storage_scp.ae_title"),
        (9, "storage_scp.allowed_hosts[0]"),
    ]
    assert len(found) == 6


def test_what_is_wrong_in_one_table_hides_nothing_in_another() -> None:
    text = """
        [[remotes]]
        name = "a"
        host = "h"
        port = 0
        [[remotes]]
        name = "pacs"
        ae_title = "A"
        host = "h"
        port = 1
        tls = true
        [[rules]]
        name = "one"
        [rules.when]
        Modalty = "CT"
        [[rules]]
        name = "ONE"
        to = ["b"]
        [rules.when]
        StudyDate = { from = "20201301", to = "20200231" }
        Modality = ["CT\\\\MR", "", "MR"]
        [[prefetch]]
        name = "p"
        archive = "c"
        to = [7]
    """
    found = problems(text)
    places = [re.match(r"line (\d+): ([^: ]+)", problem) for problem in found]
    assert [(int(place[1]), place[2]) for place in places if place] == [
        (2, "remotes[0].ae_title"),
        (5, "remotes[0].port"),
        (11, "remotes[1].tls"),
        (12, "rules[0].to"),
        (15, "rules[0].when.Modalty"),
        (17, "rules[1].name"),
        (18, "rules[1].to"),
        (20, "rules[1].when.StudyDate"),
        (21, "rules[1].when.Modality"),
        (24, "prefetch[0].archive"),
        (25, "prefetch[0].to[0]"),
    ]
    assert len(found) == 11
    both = "'20201301' is no day of the calendar: month .*; '20200231' is no day of the calendar"
    assert any(re.search(both, problem) for problem in found)
    assert any("write a list; an empty value" in problem for problem in found)


def test_whose_name_is_wrong_may_be_the_one_that_is_meant() -> None:
    text = '[[remotes]]\nname = "{name}"\nae_title = "A"\nhost = "h"\nport = 1\n'
    rule = '[[rules]]\nname = "r"\nto = ["b"]\n'
    assert len(problems(text.format(name="") + rule)) == 1
    assert len(problems(text.format(name="a") + rule)) == 1
    assert len(problems(text.format(name="a") * 2 + rule)) == 1
    assert len(problems(text.format(name="b") + rule)) == 0
    assert len(problems("remotes = [7]\n" + rule)) == 1


def test_a_value_that_is_wrong_by_itself_causes_no_second_problem() -> None:
    # The default port, which stands in while the rest is checked, would meet the other.
    assert len(problems("storage_scp.port = 0\nprefetch_scp.port = 104\n")) == 1


def test_names_are_shown_as_people_wrote_them() -> None:
    text = '[[remotes]]\nname = "保管庫"\nae_title = "Ä"\nhost = "h"\nport = 1\n'
    text += '[[rules]]\nname = "CT \\u202e"\nto = ["保管"]\n'
    assert problems(text) == [
        "line 3: remotes[0].ae_title = 'Ä': an AE title must not contain 'Ä'; printable ASCII, no "
        "backslash",
        "line 7: rules[0].name = 'CT \\u202e': must be 1 to 64 printable characters",
        "line 8: rules[0].to: '保管' is no remote AE; did you mean 保管庫?; add it as [[remotes]]",
    ]
