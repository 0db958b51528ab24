"""Reads sentences about scenes with regular expressions and pixels' centres: written apart from
the package's own logic, to check it."""

import re

SHAPES = ["circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart"]
COLOURS = ["red", "orange", "yellow", "green", "cyan", "blue", "pink", "black"]
SIZES = {"small": 0, "tiny": 0, "mid": 1, "medium": 1, "big": 2, "large": 2}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
ROWS = {"top": -1, "bottom": 1}
COLUMNS = {"left": -1, "right": 1}


def things(record):
    """Objects of a record as dicts; row and column come from the drawn centre."""
    alone = record["num_objects"] == 1
    out = []
    for i in range(record["num_objects"]):
        x, y = record["centres"][i]
        x1, _, x2, _ = record["boxes"][i]
        near = 0.4 * (1 - (x2 - x1)) / 2 if alone else 0.1

        def side(value, near=near):
            return 0 if abs(value - 0.5) < near else (-1 if value < 0.5 else 1)

        out.append(
            {
                "shape": SHAPES[record["shapes"][i]],
                "colour": COLOURS[record["colours"][i]],
                "size": int(record["sizes"][i]),
                "row": side(y),
                "column": side(x),
            }
        )
    return out


def read(text):
    """All attributes that a noun phrase names."""
    words = re.findall(r"[a-z]+", text)
    said = {}
    for word in words:
        singular = word[:-2] if word == "crosses" else word.removesuffix("s")
        if word in SHAPES or singular in SHAPES:
            said["shape"] = word if word in SHAPES else singular
        if word in COLOURS:
            said["colour"] = word
        if word in SIZES:
            said["size"] = SIZES[word]
    if {"top", "bottom", "left", "right", "centre"} & set(words):
        said["row"] = next((ROWS[w] for w in words if w in ROWS), 0)
        said["column"] = next((COLUMNS[w] for w in words if w in COLUMNS), 0)
    return said


def matching(text, record):
    said = read(text)
    return [t for t in things(record) if all(t[name] == value for name, value in said.items())]


def _beside(first, relation, second):
    return {
        "left of": first["column"] < second["column"],
        "right of": first["column"] > second["column"],
        "above": first["row"] < second["row"],
        "below": first["row"] > second["row"],
    }[relation]


_RELATION = r"the (.+) (?:is )?(left of|right of|above|below) the (.+)"


def is_true(statement, record):
    if found := re.fullmatch(r"there (?:is|are) exactly (\w+) (.+)", statement):
        return len(matching(found[2], record)) == NUMBERS[found[1]]
    if found := re.fullmatch(r"there is no (.+)", statement):
        return not matching(found[1], record)
    if found := re.fullmatch(r"there is an? (.+)", statement):
        return bool(matching(found[1], record))
    if found := re.fullmatch(r"all objects are (\w+)", statement):
        return len(matching(found[1], record)) == record["num_objects"]
    if found := re.fullmatch(_RELATION.replace("(?:is )?", "is "), statement):
        (first,), (second,) = matching(found[1], record), matching(found[3], record)
        return _beside(first, found[2], second)
    found = re.fullmatch(r"the (.+) is (.+)", statement)
    (thing,) = matching(found[1], record)
    said = read(found[2])
    assert said
    return all(thing[name] == value for name, value in said.items())


def answer(question, record):
    if found := re.fullmatch(r"how many (.+) are there\?", question):
        return str(len(matching(found[1], record)))
    if found := re.fullmatch(r"is there an? (.+)\?", question):
        return "yes" if matching(found[1], record) else "no"
    if found := re.fullmatch("is " + _RELATION + r"\?", question):
        (first,), (second,) = matching(found[1], record), matching(found[3], record)
        return "yes" if _beside(first, found[2], second) else "no"
    if found := re.fullmatch(r"what (colour|shape) is the (.+)\?", question):
        (thing,) = matching(found[2], record)
        return thing[found[1]]
    if found := re.fullmatch(r"what size is the (.+)\?", question):
        (thing,) = matching(found[1], record)
        return ("small", "mid", "big")[thing["size"]]
    found = re.fullmatch(r"where is the (.+)\?", question)
    (thing,) = matching(found[1], record)
    vertical = {-1: "top", 0: "", 1: "bottom"}[thing["row"]]
    sideways = {-1: "left", 0: "", 1: "right"}[thing["column"]]
    return f"{vertical} {sideways}".strip() or "centre"
