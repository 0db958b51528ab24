"""The page of a made-up run folder, read back with a parser of its own."""

import base64
import html.parser
import io
import json

import numpy as np
import pytest
from PIL import Image

from multimodal.errors import UserError
from multimodal.report import details
from multimodal.report.page import write_report

HOSTILE = """</p><script>alert(1)</script><img src=x onerror="alert(2)"> 'a' & "b" ${body}"""
NAME = """<img src=x onerror="alert(3)">"""  # an evaluator's; it has no slash


class _Page(html.parser.HTMLParser):
    """Tags with their attributes, and all the text outside of style sheets."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(text)
        self.text = "\n".join(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag, **wanted):
        return [
            a
            for t, a in self.tags
            if t == tag and all(v in (a.get(k) or "").split() for k, v in wanted.items())
        ]


def _png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def run(tmp_path):
    rows = [
        {
            "step": step,
            "train/loss": 4 / step,
            "train/examples_per_second": 300.0 + step,
            "train/gradient_norm": 1.0 if step != 30 else float("nan"),
            "train/learning_rate": 1e-3,
            "train/input_wait": 0.0125,
            "train/odd <b>name</b>": float(step),
        }
        for step in range(10, 101, 10)
    ]
    for step in (50, 100):
        rows.append(
            {
                "step": step,
                "eval/scenes/image_to_text_R@1": step / 128,
                "eval/scenes/chance/image_to_text_R@1": 1 / 256,
                "eval/scenes/image_to_text_R@1/low": step / 128 - 0.0625,
                "eval/scenes/image_to_text_R@1/high": step / 128 + 0.03125,
                "eval/scenes/text_to_image_R@1/num_objects=3": 0.4375,
                "eval/scenes/chance/text_to_image_R@1/num_objects=3": 1 / 256,
                "eval/scenes/examples": 256,
                f"eval/{NAME}/accuracy": 0.8125,
                f"eval/{NAME}/chance/accuracy": 0.5,
            }
        )
    lines = [json.dumps(row) for row in rows] + ['{"step": 110, "train/lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    config = {"name": HOSTILE, "steps": 200, "batch_size": 64, "model": {"kind": "dual_encoder"}}
    (tmp_path / "config.json").write_text(json.dumps(config | {"note": HOSTILE}))
    details.save_facts(tmp_path, {"parameters": "1,234", "devices": HOSTILE})
    found = [{"image": str(i), "score": 0.9 - i / 10, "right": i == 1} for i in range(5)]
    missed = [{"image": str(i), "score": 0.5, "right": False} for i in range(5)]
    texts = [{"text": f"{HOSTILE} {i}", "score": 0.77, "right": i < 2} for i in range(5)]
    retrieved = {
        "kind": "retrieval",
        "text_to_image": [
            {"text": HOSTILE, "results": found},
            {"text": "nothing right", "results": missed},
        ],
        "image_to_text": [{"image": "0", "results": texts}],
        "images": {str(i): _png(40 * i) for i in range(5)},
    }
    details.save_details(tmp_path, "scenes", 50, {"kind": "zero_shot", "classes": []})
    details.save_details(tmp_path, "scenes", 100, retrieved)
    classes = {"kind": "zero_shot", "classes": [HOSTILE, "cat"], "confusion": [[7, 3], [0, 41.0]]}
    details.save_details(tmp_path, NAME, 100, classes)
    return tmp_path


@pytest.fixture
def page(run):
    return _Page(write_report(run).read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_nothing_runs(run, page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "form", "base"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href"):
                assert value.startswith("data:"), (tag, value)
    style = (run / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'")


def test_texts_are_shown_as_they_are(page):
    # title, name, a fact, the query, five captions, a class in its row and in its column
    assert page.text.count(HOSTILE) == 11
    assert page.text.count(json.dumps(HOSTILE)) == 2  # settings
    assert page.text.count(NAME) == 3
    assert "odd <b>name</b>" in page.text
    assert ("b", {}) not in page.tags


def test_numbers_stand_beside_their_chance_levels(page):
    for shown in ("78.1 %", "0.4 %", "43.8 %", "81.2 %", "50.0 %", "256 examples", "100 of 200"):
        assert shown in page.text, shown
    assert page.text.count("39.1 %") == 1  # an older evaluation: in its curve only
    assert "text to image R@1 by num objects" in page.text
    assert "71.9 to 81.2" in page.text and "/low" not in page.text and " low" not in page.text
    assert "1,234" in page.text


def test_curves_are_drawn(page):
    for title in ("Loss", "Examples per second", "Learning rate", "Gradient norm", "More curves"):
        assert title in page.text
    assert len(page.all("svg")) == 6 + 2
    paths = [a["d"] for a in page.all("path")]
    assert all(path.count("L") in (1, 8, 9) for path in paths)
    assert "nan" not in " ".join(paths).lower()
    assert "1 not finite" in page.text


def test_retrieved_pictures_and_the_right_ones(page):
    assert len(page.all("img")) == 5 + 5 + 1
    assert len(page.all("li", **{"class": "right"})) == 1 + 2
    assert "not among the first 5" in page.text
    assert "0.800" in page.text and "0.770" in page.text


def test_confusion_counts(page):
    cells = [a for a in page.all("td") if "taken for" in a.get("title", "")]
    assert [a["style"] for a in cells] == [
        f"--share:{s}" for s in ("0.700", "0.300", "0.000", "1.000")
    ]
    assert cells[1]["title"] == f"{HOSTILE} taken for cat: 30.0 %"
    assert "41" in page.text.splitlines()


def test_many_classes_are_a_list_of_confusions(run):
    confusion = np.eye(40, dtype=int) * 9
    confusion[3, 5] = 4
    names = [f"class{i}" for i in range(40)]
    saved = {"kind": "zero_shot", "classes": names, "confusion": confusion.tolist()}
    details.save_details(run, "many", 100, saved)
    text = _Page(write_report(run).read_text()).text.splitlines()
    at = text.index("class3")
    assert text[at : at + 3] == ["class3", "class5", "4"] and "class7" not in text


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')
    page = _Page(write_report(tmp_path).read_text())
    assert tmp_path.name in page.text and "Results" not in page.text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither config.json nor metrics.jsonl"):
        write_report(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        write_report(tmp_path)


def test_classifications_by_kind(run):
    for kind in ("zero_shot", "classification"):
        content = {"kind": kind, "classes": ["cat", "dog"], "confusion": [[7, 3], [0, 41.0]]}
        details.save_details(run, kind, 100, content)
    titles = _Page(write_report(run).read_text(encoding="utf-8")).text.split("\n")
    assert "Zero-shot classification" in titles and "Classification" in titles
