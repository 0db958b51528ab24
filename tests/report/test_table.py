"""The table of the terminal."""

from multimodal.report.table import results_table


def test_values_stand_beside_their_chance_levels():
    table = results_table(
        {
            "eval/scenes/image_to_text_R@1": 0.8125,
            "eval/scenes/chance/image_to_text_R@1": 1 / 256,
            "accuracy": 1.0,
            "chance/accuracy": 0.125,
            "examples": 1256.0,
            "eval/chances/accuracy": 0.5,
            "loss": 0.51234,
            "broken": float("nan"),
        }
    )
    rows = [line.split("  ") for line in table.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == ["metric", "value", "chance"] and set(table.splitlines()[1]) == {"-"}
    assert cells[2:] == [
        ["eval/scenes/image_to_text_R@1", "81.2 %", "0.4 %"],
        ["accuracy", "100.0 %", "12.5 %"],
        ["examples", "1,256"],
        ["eval/chances/accuracy", "50.0 %"],
        ["loss", "0.5123"],
        ["broken", "nan"],
    ]
    assert len({len(line) for line in table.splitlines()[:4]}) == 1


def test_intervals_have_a_column_of_their_own():
    table = results_table(
        {
            "a/accuracy": 0.5,
            "a/chance/accuracy": 0.1,
            "a/accuracy/low": 0.41234,
            "a/accuracy/high": 0.6,
            "a/accuracy/kind=low": 0.25,
            "a/examples": 1000.0,
        }
    )
    rows = [line.split("  ") for line in table.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == ["metric", "value", "95 %", "chance"]
    assert cells[2:] == [
        ["a/accuracy", "50.0 %", "41.2 to 60.0", "10.0 %"],
        ["a/accuracy/kind=low", "25.0 %"],
        ["a/examples", "1,000"],
    ]
