"""Configurations as texts, and what is found wrong with them."""

from engine.config.loading import ConfigurationError, parse_config


def problems(text: str) -> list[str]:
    """What is wrong with a text, a line each; empty when nothing is."""
    try:
        parse_config(text)
    except ConfigurationError as error:
        return [str(problem) for problem in error.problems]
    return []


def only_problem(text: str) -> str:
    """The one thing that is wrong."""
    found = problems(text)
    assert len(found) == 1, found
    return found[0]
