"""The intake of a data directory as its configuration has it, for whoever takes in while no service
runs: what a killed service left in its journals goes where the rules say, and replaces what it may.
"""

from engine.config.loading import Config
from engine.index.writer import IndexWriter
from engine.intake.dispatch import Dispatcher
from engine.intake.intake import Intake
from engine.prefetch.rules import PrefetchRules
from engine.rules.routing import Rules
from workers.supervision.plan import wanted_extra_tags


def configured_intake(config: Config, writer: IndexWriter) -> Intake:
    """It is its caller's to close."""
    intake = Intake(config.data_path, writer)
    intake.dispatcher = Dispatcher.of(
        intake.tree,
        Rules.compile(config.rules),
        wanted_extra_tags(config),
        PrefetchRules(config.prefetch),
    )
    intake.replace = {each.table: each.settings.replace for each in config.storage_aes()}
    return intake
