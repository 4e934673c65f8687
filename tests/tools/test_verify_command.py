"""`scai verify --repair` after a kill: what the journals still hold is taken in by the rules and
policies that the service would have gone by.
"""

from pathlib import Path

from click.testing import CliRunner

from engine.index.environment import open_index_reader
from engine.outbox.view import OutboxView
from tests.rigs.indexer_box import Box
from tools.commands.verify import command

_REMOTE = '[[remotes]]\nname = "pacs"\nae_title = "P"\nhost = "127.0.0.1"\nport = 104\n'
_RULE = '[[rules]]\nname = "all"\nto = ["pacs"]\n'


def test_what_a_killed_service_left_is_routed_and_replaces_as_configured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    box = Box(data, ("storage_scp",))
    for fill in (b"a", b"b"):
        box.store("1.7", "storage_scp", fill=fill)
    box.close()
    file = tmp_path / "scai.toml"
    policy = '[storage_scp]\nreplace = "never"\n'
    file.write_text(f'data_directory = "{data}"\n{policy}{_REMOTE}{_RULE}')
    done = CliRunner().invoke(command, ["-c", str(file), "--repair"], standalone_mode=False)
    assert done.exception is None, done.output
    assert "may not replace what is there, kept as set_aside/storage_scp/2-1.7.dcm" in done.output
    [kept] = data.glob("set_aside/storage_scp/*")
    assert kept.read_bytes().endswith(b"b" * 50)
    [stored] = data.glob("store/*/*/*/*.dcm")
    assert stored.read_bytes().endswith(b"a" * 50)
    reader = open_index_reader(data)
    with reader.view() as view:
        queued = [
            each.destination for each in OutboxView.within(view).deliveries(None, None, "1.2", 0, 9)
        ]
    reader.close()
    assert queued == ["pacs"]
