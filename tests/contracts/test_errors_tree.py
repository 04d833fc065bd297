"""The tree drawn at the top of errors.py is the tree of the classes."""

import inspect
import re

from penstock import errors

DRAWN = re.compile(r"^(?P<stem>[│ ]*(?:├──|└──) )?(?P<name>[A-Z]\w+)")
STEP = len("├── ")


def drawn_parents(drawing: str) -> dict[str, str | None]:
    """Each class that is drawn, with the one it hangs from."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        match = DRAWN.match(line)
        if match is None or (match["stem"] is None and line != match["name"]):
            continue
        depth = len(match["stem"] or "") // STEP
        above[depth:] = [match["name"]]
        parents[match["name"]] = above[depth - 1] if depth else None
    return parents


def test_the_drawn_tree_is_the_class_tree() -> None:
    classes = [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.PenstockError) and value.__module__ == errors.__name__
    ]
    real = {value.__name__: None if value is errors.PenstockError else value.__bases__[0].__name__ for value in classes}
    assert drawn_parents(errors.__doc__ or "") == real


def test_a_missing_branch_would_be_noticed() -> None:
    drawing = "PenstockError\n├── DataError  x\n│   └── SchemaError  y\n└── GateError  z\n"
    assert drawn_parents(drawing) == {
        "PenstockError": None,
        "DataError": "PenstockError",
        "SchemaError": "DataError",
        "GateError": "PenstockError",
    }


def test_every_error_says_what_it_is_for() -> None:
    assert all(value.__doc__ for _, value in inspect.getmembers(errors, inspect.isclass))
