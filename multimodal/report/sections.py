"""The parts of the page: results, curves, retrieved pictures and texts, confusion matrices."""

import base64
from collections.abc import Mapping
from typing import Any

from multimodal.report.chart import line_chart
from multimodal.report.history import Series
from multimodal.report.markup import Markup, join, tag
from multimodal.report.table import Row, is_share, rows_of, show, show_ends

# Curves that every run has, in the order of the page; others follow under "More curves".
CURVES = {
    "train/loss": "Loss",
    "train/examples_per_second": "Examples per second",
    "train/learning_rate": "Learning rate",
    "train/gradient_norm": "Gradient norm",
    "train/input_wait": "Share of time waiting for input",
    "train/mfu": "Model FLOPs utilisation",
}
_LARGEST_MATRIX = 16  # classes; of more the commonest confusions are listed
_TICK = Markup('<span class="tick" role="img" aria-label="right">✓</span>')
_NAMES = {
    "image_to_text": "image to text",
    "text_to_image": "text to image",
    "accuracy": "accuracy",
    "accuracy_top5": "accuracy, first 5",
    "mean_per_class_recall": "mean recall of a class",
}


def results(name: str, metrics: Mapping[str, float]) -> Markup:
    """One evaluator's numbers: a bar for each share, with its 95 % interval and a mark at the
    chance level."""
    rows, groups, counts = [], {}, []
    for row in rows_of(metrics):
        base, _, group = row.name.partition("/")
        if not is_share(base):
            counts.append(f"{show(row.name, row.value)} {row.name.replace('_', ' ')}")
        elif group:
            field, _, member = group.partition("=")
            label = f"{_words(base)} by {field.replace('_', ' ')}"
            groups.setdefault(label, []).append(_bar(member, row))
        else:
            rows.append(_bar(_words(base), row))
    for label, members in groups.items():
        rows += [tag("tr", tag("th", label, colspan=4), class_="groups"), *members]
    names = ("", "value", "", "chance")
    head = tag("tr", *(tag("th", name, class_="number") for name in names))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="results")
    return tag(
        "section",
        tag("h3", name),
        tag("p", ", ".join(counts), class_="quiet"),
        table,
        class_="card",
    )


def _words(metric: str) -> str:
    head, _, k = metric.partition("_R@")
    return _NAMES.get(head, head.replace("_", " ")) + (f" R@{k}" if k else "")


def _bar(label: str, row: Row) -> Markup:
    metric, value, ends, chance = row
    marks = [] if chance is None else [tag("b", style=f"left:{100 * chance:.2f}%")]
    told = [show(metric, value)]
    if ends is not None:
        low, high = ends
        place = f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"
        marks.append(tag("span", style=place))
        told.append(tag("small", show_ends(metric, ends), title="95 % interval"))
    fill = tag("i", style=f"width:{100 * value:.2f}%")
    return tag(
        "tr",
        tag("th", label, scope="row"),
        tag("td", *told, class_="number"),
        tag("td", tag("div", fill, *marks, class_="bar"), class_="wide"),
        tag("td", "" if chance is None else show(metric, chance), class_="quiet number"),
    )


def curves(history: Mapping[str, Series]) -> Markup:
    """The training curves that the log holds."""
    known = [_curve(title, history[key]) for key, title in CURVES.items() if key in history]
    rest = sorted(k for k in history if k.startswith("train/") and k not in CURVES)
    others = [figure for k in rest if (figure := _curve(k.removeprefix("train/"), history[k]))]
    more = (
        [tag("details", tag("summary", "More curves"), tag("div", *others, class_="charts"))]
        if others
        else []
    )
    return join([tag("div", *known, class_="charts"), *more])


def _curve(title: str, series: Series) -> Markup:
    chart = line_chart({title: series})
    if not chart:
        return Markup("")
    broken = sum(value != value or abs(value) == float("inf") for _, value in series)
    last = f"{series[-1][1]:.4g}" + (f", {broken} not finite" if broken else "")
    caption = tag("figcaption", title, " ", tag("span", last, class_="quiet"))
    return tag("figure", caption, chart, class_="chart")


def evaluation_curves(history: Mapping[str, Series]) -> Markup:
    """R@1 and accuracy over the steps, a chart for each evaluator measured more than once."""
    charts: dict[str, dict[str, Series]] = {}
    for key, series in history.items():
        kind, _, rest = key.partition("/")
        name, _, metric = rest.partition("/")
        if kind == "eval" and metric in ("image_to_text_R@1", "text_to_image_R@1", "accuracy"):
            charts.setdefault(name, {})[_words(metric)] = series
    figures = []
    for name, lines in charts.items():
        if chart := line_chart(lines, share=True):
            keys = [tag("span", line, class_=f"key line{i % 4}") for i, line in enumerate(lines)]
            figures.append(
                tag("figure", tag("figcaption", name, " ", *keys), chart, class_="chart")
            )
    return tag("div", *figures, class_="charts") if figures else Markup("")


def retrieval(details: Mapping[str, Any]) -> Markup:
    """Texts with the pictures found for them, then pictures with the texts found for them."""
    images = details["images"]
    to_image = [_text_query(query, images) for query in details["text_to_image"]]
    to_text = [_image_query(query, images) for query in details["image_to_text"]]
    return join(
        [
            tag("h4", "Pictures found for a text"),
            tag("div", *to_image, class_="queries"),
            tag("h4", "Texts found for a picture"),
            tag("div", *to_text, class_="queries"),
        ]
    )


def _text_query(query: Mapping[str, Any], images: Mapping[str, str]) -> Markup:
    found = [
        tag(
            "li",
            _picture(images[r["image"]], "retrieved picture"),
            tag("span", f"{r['score']:.3f}", _TICK if r["right"] else "", class_="score"),
            class_="right" if r["right"] else None,
        )
        for r in query["results"]
    ]
    missed = not any(r["right"] for r in query["results"])
    return tag(
        "div",
        tag("p", f"“{query['text']}”", class_="query"),
        tag("ol", *found, class_="pictures"),
        _miss("Its own picture", len(found)) if missed else "",
        class_="card",
    )


def _image_query(query: Mapping[str, Any], images: Mapping[str, str]) -> Markup:
    found = [
        tag(
            "li",
            tag("span", f"{r['score']:.3f}", class_="score"),
            tag("span", r["text"]),
            _TICK if r["right"] else "",
            class_="right" if r["right"] else None,
        )
        for r in query["results"]
    ]
    missed = not any(r["right"] for r in query["results"])
    texts = tag("ol", *found, class_="texts")
    note = _miss("A text of its own", len(found)) if missed else ""
    picture = _picture(images[query["image"]], "query picture")
    return tag("div", picture, tag("div", texts, note), class_="card beside")


def _miss(what: str, count: int) -> Markup:
    return tag("p", f"{what} is not among the first {count}.", class_="quiet")


def _picture(data: str, alt: str) -> Markup:
    width = int.from_bytes(base64.b64decode(data[:32])[16:20], "big")  # in the PNG's header
    kind = "coarse" if width < 64 else None
    return tag("img", src=f"data:image/png;base64,{data}", alt=alt, class_=kind)


def confusion(details: Mapping[str, Any]) -> Markup:
    """True classes in rows, predicted ones in columns; shade: share of the row."""
    classes, counts = details["classes"], details["confusion"]
    if len(classes) > _LARGEST_MATRIX:
        return _commonest(classes, counts)
    head = tag("tr", tag("th", "true \\ predicted"), *(tag("th", tag("span", c)) for c in classes))
    rows = []
    for name, row in zip(classes, counts, strict=True):
        shares = [count / (sum(row) or 1) for count in row]
        cells = [
            tag(
                "td",
                f"{count:g}" if count else "",
                style=f"--share:{share:.3f}",
                class_="strong" if share > 0.5 else None,
                title=f"{name} taken for {other}: {100 * share:.1f} %",
            )
            for other, count, share in zip(classes, row, shares, strict=True)
        ]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="confusion")
    return tag("div", table, class_="card scroll")


def _commonest(classes: list[str], counts: list[list[float]]) -> Markup:
    wrong = [
        (count, classes[i], classes[j])
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    wrong.sort(key=lambda item: -item[0])
    rows = [
        tag("tr", tag("td", a), tag("td", b), tag("td", f"{count:g}", class_="number"))
        for count, a, b in wrong[:20]
    ]
    head = tag("tr", tag("th", "true"), tag("th", "predicted"), tag("th", "count"))
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("div", tag("p", "The commonest confusions"), table, class_="card scroll")
