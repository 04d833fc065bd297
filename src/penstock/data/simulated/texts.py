"""Titles and descriptions of simulated items, written from their topic and style."""

from dataclasses import dataclass

import numpy as np

from penstock.data.simulated.vocabulary import CATEGORIES, MAKERS, STYLES

Words = tuple[str, ...]

TITLES = (
    "{adjective} {noun} {detail}",
    "{noun} {detail}, {adjective}",
    "{maker} {adjective} {noun} {detail}",
    "{adjective} {noun} by {maker}",
    "{noun} {detail} – {adjective}, {maker}",
)
PLAIN_TITLES = ("{noun} {detail}", "{maker} {noun} {detail}", "{noun} by {maker}, {detail}")
BODIES = (
    "A {noun} {detail}. There is another one {other}. {note}",
    "{note} {maker} sells this {noun} to people who like {topic}: {detail}, {other}.",
    "For everybody who loves {topic}: {noun} {detail}. {note}",
)


@dataclass(frozen=True)
class Topic:
    """One topic of one category, with its words."""

    name: str
    category: str
    nouns: Words
    details: Words


@dataclass(frozen=True)
class Text:
    """What a buyer reads."""

    title: str
    body: str
    maker: str


def topics() -> list[Topic]:
    """All topics, in the vocabulary's order."""
    return [
        Topic(name, category, _split(nouns), _split(details))
        for category, group in CATEGORIES.items()
        for name, (nouns, details) in group.items()
    ]


def write_text(topic: Topic, style: str | None, rng: np.random.Generator) -> Text:
    """Draw a title and a description; `style` None gives a plain one."""
    detail, other = rng.choice(topic.details, size=2, replace=False)
    words = {"noun": str(rng.choice(topic.nouns)), "detail": str(detail), "other": str(other), "topic": topic.name}
    words["maker"] = str(rng.choice(_split(MAKERS)))
    if style is None:
        words["note"] = "As good as you would expect."
        title = str(rng.choice(PLAIN_TITLES))
    else:
        adjectives, words["note"] = STYLES[style]
        words["adjective"] = str(rng.choice(_split(adjectives)))
        title = str(rng.choice(TITLES))
    return Text(_sentence(title.format(**words)), _sentence(str(rng.choice(BODIES)).format(**words)), words["maker"])


def _split(words: str) -> Words:
    return tuple(words.split(", "))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
