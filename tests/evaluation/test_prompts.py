"""Class names and templates in the forms that people have them."""

import json

import pytest

from multimodal.errors import UserError
from multimodal.evaluation.prompts import prompt, read_classes, read_templates


@pytest.fixture
def file(tmp_path):
    def write(content, name="file.json"):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_names_as_a_list_or_a_table_from_label_to_name(file):
    assert read_classes(file(["cat", "dog"])) == (("cat", "dog"), ())
    assert read_classes(file({"7": "cat", "n02": "dog"})) == (("cat", "dog"), ("7", "n02"))


def test_tables_by_data_set_as_in_clip_benchmark(file):
    several = file({"pets": ["cat", "dog"], "cars": ["{c}", "a {c}"]})
    assert read_classes(f"{several}:pets")[0] == ("cat", "dog")
    assert read_templates(f"{several}:cars") == ("{c}", "a {c}")
    assert read_templates(file({"only": ["a {c}"]})) == ("a {c}",)


def test_templates_one_a_line_or_as_a_list(file):
    assert read_templates(file("a {}.\n\n the {c}!  \n", "t.txt")) == ("a {}.", "the {c}!")
    assert read_templates(file(["a {}."])) == ("a {}.",)
    assert prompt("a {c} and {}", "cat") == "a cat and cat"


def test_a_colon_in_a_files_own_name(file):
    assert read_templates(file("{}", "a:b")) == ("{}",)


@pytest.mark.parametrize(
    "content, words",
    [
        ('["cat", ', "is not JSON"),
        ("7", "neither a list of names nor"),
        ({"a": "cat", "b": 3}, "neither a list of names nor"),
        (["cat"], "1 of at least two"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, "choose one of its 2 lists .*:NAME, such as a"),
    ],
    ids=str,
)
def test_classes_that_cannot_be_used(file, content, words):
    with pytest.raises(UserError, match=words):
        read_classes(file(content))


def test_templates_that_cannot_be_used(file, tmp_path):
    for content, name, words in (
        ("a photo", "t.txt", "'a photo' has no {}"),
        ("\n", "t.txt", "no template"),
        ([1], "t.json", "not a list of texts"),
        (b"\xff\xfe{}".decode("latin1"), "t.json", "not JSON"),
    ):
        with pytest.raises(UserError, match=words):
            read_templates(file(content, name))
    with pytest.raises(UserError, match="no entry 'b'; did you mean 'bb'"):
        read_templates(file({"bb": ["{}"]}) + ":b")
    with pytest.raises(UserError, match="cannot read .*nowhere.txt: No such file"):
        read_templates(str(tmp_path / "nowhere.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_templates(str(tmp_path / "binary.txt"))
