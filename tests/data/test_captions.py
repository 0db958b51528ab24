"""Which text of a record is drawn, and what evaluation is given."""

import numpy as np
import pytest

from multimodal.config import Tags
from multimodal.data.captions import captions, draw, listed, tags

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


def test_tags_go_after_the_text_or_in_its_place():
    def drawn(spoken, given, mixing, count=4000):
        rng = np.random.default_rng(1)
        texts = [draw(spoken, {}, (), rng, tags(given), mixing) for _ in range(count)]
        return {text: texts.count(text) / count for text in set(texts)}

    found = drawn({"": ["cat"]}, ["a", "b", " "], Tags(share=0.5, most=3))
    one, two = 1 / 16, 1 / 16  # half x half x (one or two of them) x (which, in which order)
    wanted = {"cat": 1 / 2}
    for words, share in (("a", one), ("b", one), ("a, b", two), ("b, a", two)):
        wanted |= {words: share, f"cat: {words}": share}
    assert found.keys() == wanted.keys()
    assert all(abs(found[t] - p) < 4 * (p * (1 - p) / 4000) ** 0.5 for t, p in wanted.items())

    spoken, given = {"en": ["cat"], "de": ["Katze"]}, {"en": ["pet"], "de": [], "fr": ["animal"]}
    always = Tags(share=1.0, most=1)
    assert set(drawn(spoken, given, always)) == {"pet", "cat: pet", "Katze"}
    assert set(drawn(spoken, ["x"], always)) == {"x", "cat: x", "Katze: x"}
    assert set(drawn(spoken, None, always)) == {"cat", "Katze"}
    with pytest.raises(ValueError, match="text is neither a string nor a list"):
        tags({"en": 3})
