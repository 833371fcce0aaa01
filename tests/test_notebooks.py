"""What is stored of the notebooks, and how ``make notebooks`` compares them. They are run there, not here."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
if not FOLDER.exists():
    pytest.skip("the notebooks are not installed with the package", allow_module_level=True)
specification = importlib.util.spec_from_file_location("check", FOLDER / "check.py")
check = importlib.util.module_from_spec(specification)
specification.loader.exec_module(check)

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"/home/|/root/|/Users/|/tmp/|site-packages|ipykernel_| at 0x|[A-Z]:\\")


def notebook_of(*cells):
    """One code cell for each source; those that start with "#check" are tagged."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    for cell in notebook.cells:
        if cell.source.startswith("#check"):
            cell.metadata["tags"] = ["check"]
    return notebook


# the comparison


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("accuracy 0.950", "accuracy 0.950"),
        ("accuracy 95.0%", "accuracy 93.2%"),
        ("1257 images", "1240 images"),
        ("-12.00 and 3e-4", "-12.2 and 4e-4"),
        ("rate 0.013 ± 0.004", "rate 0.016 ± 0.001"),
        ("a  0.9\nb 10.0", "a   0.9\nb  9.9"),
        ("[0. 1. 0.5]", "[0.  1.  0.505]"),
    ],
)
def test_numbers_within_two_percent_or_a_two_hundredth_and_any_blanks_are_the_same(stored, found):
    assert check.difference(stored, found) is None


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("accuracy 95.0%", "accuracy 92.1%"),
        ("accuracy 95.0%", "accuracy 97.9%"),
        ("1257 images", "1295 images"),
        ("3 of 7 fits", "4 of 7 fits"),
        ("rate 0.013", "rate 0.019"),
        ("change -0.5", "change 0.5"),
        ("1e-3", "1e3"),
    ],
)
def test_numbers_three_percent_off_and_other_counts_are_different_and_named(stored, found):
    assert re.fullmatch(r"\S+ instead of \S+", check.difference(stored, found))


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("same bits: True", "same bits: False"),
        ("0.1 0.2", "0.1"),
        ("0.1", "0.1 0.2"),
        ("0.1", ""),
        ("loss 0.1", "loss nan"),
        ("", "a warning"),
    ],
)
def test_other_words_and_missing_or_additional_numbers_are_different(stored, found):
    assert "words" in check.difference(stored, found)


def test_a_cell_tagged_check_is_compared_and_the_message_holds_both_texts():
    stored, found = (notebook_of("x = 1", "#check\nprint(x)") for _ in range(2))
    stored.cells[1].outputs = [nbformat.v4.new_output("stream", text="loss 1.00\n")]
    found.cells[1].outputs = [nbformat.v4.new_output("stream", text="loss 2.00\n")]
    (message,) = check.differences(stored, found)
    assert "cell 2" in message and "loss 1.00" in message and "loss 2.00" in message


def test_a_cell_without_the_tag_may_print_what_it_likes():
    stored, found = notebook_of("print(1)"), notebook_of("print(1)")
    stored.cells[0].outputs = [nbformat.v4.new_output("stream", text="12:00")]
    assert check.differences(stored, found) == []


def test_returned_values_are_compared_and_warnings_and_pictures_are_not():
    cell = nbformat.v4.new_code_cell()
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="Warning"),
        nbformat.v4.new_output("stream", text="a 1\n"),
        nbformat.v4.new_output("display_data", {"image/png": "..."}),
        nbformat.v4.new_output("execute_result", {"text/plain": "2", "text/html": "<b>2</b>"}),
    ]
    assert check.text_of(cell) == "a 1\n2"


# running


def test_notebooks_are_run_in_a_folder_of_their_own_and_stored_only_when_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "small.ipynb"
    notebook = notebook_of(
        "open('left behind', 'w'), print(__import__('time').time_ns())", "#check\nprint('accuracy', 0.9)"
    )
    notebook.metadata["authors"] = ["somebody"]
    nbformat.write(notebook, file)

    before = file.read_text()
    assert check.main([str(file)]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert file.read_text() == before

    assert check.main([str(file), "--write"]) == 0
    before = file.read_text()
    assert check.main([str(file)]) == 0
    assert file.read_text() == before
    stored = nbformat.read(file, as_version=4)
    assert check.text_of(stored.cells[1]) == "accuracy 0.9\n"
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert "execution" not in stored.cells[1].metadata
    assert [each.name for each in tmp_path.iterdir()] == ["small.ipynb"]


def test_a_cell_that_fails_is_told_and_nothing_is_stored(tmp_path, capsys):
    file = tmp_path / "small.ipynb"
    nbformat.write(notebook_of("1 / 0"), file)
    before = file.read_text()
    assert check.main([str(file), "--write"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert file.read_text() == before


# what is stored


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_stored_notebooks_were_run_from_top_to_bottom_and_tell_nothing_of_the_machine(file):
    notebook = nbformat.read(file, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [each for each in outputs if each.output_type == "error" or each.get("name") == "stderr"]
    texts = [each.get("text", "") + each.get("data", {}).get("text/plain", "") for each in outputs]
    assert not [text for text in texts if MACHINE.search(text)]
    assert file.stat().st_size < 400_000


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_cells_tagged_check_print_text_and_no_pictures(file):
    notebook = nbformat.read(file, as_version=4)
    checked = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
    assert checked
    for cell in checked:
        assert check.text_of(cell).strip()
        assert not [output for output in cell.outputs if "image/png" in output.get("data", {})]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_links_between_notebooks_lead_somewhere(file):
    text = "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (FOLDER / target).exists()
