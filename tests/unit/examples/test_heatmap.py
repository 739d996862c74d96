"""The heat map of characters says what the numbers say."""

from examples.heatmap import draw, shade


def test_darker_is_more() -> None:
    """Shades grow with the weight, and the ends are nothing and full."""
    assert [shade(weight) for weight in (0.0, 0.5, 1.0)] == [" ", "▒", "█"]


def test_every_target_token_is_a_row() -> None:
    """A 2 x 3 alignment is a head and two rows, its weights under their source tokens."""
    lines = draw(["I", "love", "you"], ["ich", "dich"], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).splitlines()
    assert lines[0].split() == ["I", "love", "you"]
    assert lines[1].split() == ["ich", "███"]
    assert lines[2].split() == ["dich", "███"]
    assert lines[2].index("█") == lines[0].index("you")
