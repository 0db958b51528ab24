"""Which text of a record is drawn, and what evaluation is given."""

import numpy as np
import pytest

from multimodal.data.captions import captions, draw, listed

SPOKEN = {"en": "cat", "de": ["Katze", "Mieze", " "], "fr": "", "it": None}


def _shares(spoken, languages=(), templates=(), count=4000):
    rng = np.random.default_rng(0)
    texts = [draw(spoken, dict(languages), templates, rng) for _ in range(count)]
    return {text: texts.count(text) / count for text in set(texts)}


def test_one_several_and_by_language():
    assert captions("a", {}) == {"": ["a"]}
    assert captions(["a", b"b", ""], {"en": 1.0}) == {"": ["a", "b"]}
    assert captions(SPOKEN, {}) == {"en": ["cat"], "de": ["Katze", "Mieze"]}
    assert captions(SPOKEN, {"de": 1.0, "en": 0.0, "pl": 2.0}) == {"de": ["Katze", "Mieze"]}
    assert listed(captions(SPOKEN, {"de": 1, "en": 2}), ("a {}", "b")) == (
        ["a cat", "a Katze", "a Mieze"],
        ["en", "de", "de"],
    )


@pytest.mark.parametrize(
    ("value", "languages", "reason"),
    [
        (" ", {}, "empty caption"),
        ([], {}, "empty caption"),
        (SPOKEN, {"fr": 1.0, "pl": 1.0}, "no caption in fr, pl"),
        ({}, {}, "no caption in any language"),
        ({"en": 3}, {}, "text is neither a string nor a list of strings: 3"),
        (None, {}, "text is neither"),
        (b"\xff", {}, "text is not UTF-8: "),
    ],
)
def test_what_is_no_caption(value, languages, reason):
    with pytest.raises(ValueError, match=reason):
        captions(value, languages)


def test_draws_follow_the_weights():
    def near(found, wanted):  # 4 standard deviations
        assert found.keys() == wanted.keys()
        assert all(abs(found[t] - p) < 4 * (p * (1 - p) / 4000) ** 0.5 for t, p in wanted.items())

    near(_shares({"": ["a", "b", "c"]}), {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    spoken = captions(SPOKEN, {})
    near(_shares(spoken), {"cat": 1 / 2, "Katze": 1 / 4, "Mieze": 1 / 4})
    weights = {"en": 1.0, "de": 3.0}
    near(_shares(spoken, weights), {"cat": 1 / 4, "Katze": 3 / 8, "Mieze": 3 / 8})
    near(_shares({"": ["a"]}, (), ("1 {}", "2 {}")), {"1 a": 1 / 2, "2 a": 1 / 2})
