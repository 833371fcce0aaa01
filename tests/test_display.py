"""Pictures show the numbers of the fit, of data of every kind; nothing is imported for them before they are drawn."""

import copy
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from helpers import Items, auto, fast, noisy_blobs
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from skcoteach.display import LabelIssuesDisplay, LabelQualityDisplay, TrainingCurvesDisplay  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error")

N = 200  # examples of the table


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted(table):
    return fast().fit(*table)


@pytest.fixture(scope="module")
def found():
    return auto().fit(*noisy_blobs("pair", 0.2)[:2])


def each_display(clf, ax=None):
    """All of them, on data that are as long as the table."""
    yield lambda: TrainingCurvesDisplay.from_estimator(clf, ax=ax)
    yield lambda: LabelQualityDisplay.from_estimator(clf, ax=ax)
    yield lambda: LabelIssuesDisplay.from_estimator(clf, np.zeros((N, 4, 4)), ax=ax)
    yield lambda: LabelIssuesDisplay.from_estimator(clf, np.zeros((N, 2)), ax=ax)


def with_issues(clf, quality, is_issue, given="a", predicted="b", index=None):
    """A fitted estimator that says this of its labels."""
    columns = {"is_label_issue": is_issue, "label_quality": quality, "given_label": given, "predicted_label": predicted}
    clf = copy.copy(clf)
    clf.get_label_issues = lambda: pd.DataFrame(columns, index=index)
    return clf


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axes.get_lines()}


def cells(display):
    """Of a table that was drawn, row by row."""
    (drawn,) = display.axes_[0].tables
    found = {place: cell.get_text().get_text() for place, cell in drawn.get_celld().items()}
    rows, columns = map(max, zip(*found))
    return [[found[row, column] for column in range(columns + 1)] for row in range(rows + 1)]


# --- curves ----------------------------------------------------------------------------------------------------------


def test_the_curves_are_those_of_the_history(found):
    display = TrainingCurvesDisplay.from_estimator(found)
    for name in ("accuracy", "loss", "agreement", "changed", "forget_rate"):
        assert_array_equal(getattr(display, name), [entry[name] for entry in found.history_])
    assert_array_equal(display.epochs, range(found.n_iter_))
    assert display.noise_rate == found.noise_rate_
    assert display.val_accuracy is display.val_loss is display.best_epoch is None
    top, middle, bottom = map(lines, display.axes_)
    for i in (0, 1):
        assert_array_equal(top[f"network {i + 1}"], display.accuracy[:, i])
        assert_array_equal(middle[f"network {i + 1}"], display.loss[:, i])
    assert_array_equal(top["agreement of both"], display.agreement)
    assert_array_equal(bottom["forget rate"], display.forget_rate)
    assert_array_equal(bottom[f"noise rate {found.noise_rate_:.3f}"], [found.noise_rate_] * 2)
    assert [axes.get_ylabel() for axes in display.axes_] == ["accuracy on\ngiven labels", "loss", "forget rate"]
    assert [texts(axes) for axes in display.axes_] == [list(top), list(middle), list(bottom)]


def test_without_an_estimate_there_is_no_noise_rate(fitted):
    display = TrainingCurvesDisplay.from_estimator(fitted)
    assert display.noise_rate is None
    assert texts(display.axes_[2]) == ["forget rate"]


def test_what_a_validation_set_says_is_drawn_where_it_is_known(fitted):
    clf = copy.copy(fitted)
    known = {"val_accuracy": 0.75, "val_loss": 9.0}
    clf.history_ = [entry | (known if entry["epoch"] < 3 else {}) for entry in fitted.history_]
    clf.best_epoch_ = 2
    display = TrainingCurvesDisplay.from_estimator(clf)
    for name, value in known.items():
        assert_array_equal(getattr(display, name), [value, value, value, np.nan])
    top, middle, bottom = display.axes_
    assert_array_equal(lines(top)["validation"], display.val_accuracy)
    assert_array_equal(lines(top)["predictions changed"], display.changed)
    assert_array_equal(lines(middle)["validation"], display.val_loss)
    assert middle.get_ylim()[1] > 9
    (best,) = (line for line in bottom.get_lines() if line.get_label() == "best epoch 2")
    assert list(best.get_xdata()) == [2, 2] and "best epoch 2" in texts(bottom)


def test_one_epoch_is_seen(table):
    display = TrainingCurvesDisplay.from_estimator(fast(epochs=1).fit(*table))
    assert all(line.get_marker() == "o" for axes in display.axes_ for line in axes.get_lines())
    display.figure_.draw_without_rendering()
    low, high = display.axes_[2].get_xlim()
    assert [tick for tick in display.axes_[2].get_xticks() if low < tick < high] == [0]


def test_curves_go_on_with_partial_fit_and_outlive_the_training_data(fitted, table):
    clf = copy.deepcopy(fitted).partial_fit(*table).forget_training_data()
    assert len(TrainingCurvesDisplay.from_estimator(clf).loss) == 5


# --- quality ---------------------------------------------------------------------------------------------------------


def test_every_label_is_in_the_histogram_and_issues_are_marked(fitted):
    issues = fitted.get_label_issues()
    assert 0 < issues["is_label_issue"].sum() < N
    display = LabelQualityDisplay.from_estimator(fitted)
    assert_array_equal(display.label_quality, fitted.label_quality_)
    assert_array_equal(display.is_label_issue, issues["is_label_issue"])
    of_issues, of_others = display.ax_.containers
    for bars, quality in ((of_issues, issues["is_label_issue"]), (of_others, ~issues["is_label_issue"])):
        heights, edges = np.histogram(fitted.label_quality_[quality], len(bars), range=(0, 1))
        assert_allclose([bar.get_x() for bar in bars], edges[:-1])
        assert_array_equal([bar.get_height() for bar in bars], heights)
    assert [bar.get_y() for bar in of_others] == [bar.get_height() for bar in of_issues]
    n_issues = issues["is_label_issue"].sum()
    assert texts(display.ax_) == [f"label issues: {n_issues}", f"others: {N - n_issues}"]


def test_a_single_issue_among_many_is_seen(fitted):
    quality = np.r_[0.123, np.ones(10**5)]
    display = LabelQualityDisplay(quality, quality < 0.5).plot()
    (marks,) = display.ax_.get_lines()
    assert_allclose(marks.get_xdata(), [0.123])
    assert texts(display.ax_) == ["label issues: 1", "others: 100,000"]


# --- issues ----------------------------------------------------------------------------------------------------------


def test_issues_come_first_and_the_lowest_quality(fitted):
    quality = np.linspace(0.1, 0.9, N)
    is_issue = np.isin(np.arange(N), [150, 7, 60])
    display = LabelIssuesDisplay.from_estimator(with_issues(fitted, quality, is_issue), np.zeros((N, 4, 4)), 6)
    assert display.positions.tolist() == [7, 60, 150, 0, 1, 2]
    assert display.n_label_issues == 3
    assert_array_equal(display.issues["label_quality"], quality[display.positions])
    thick = [axes.spines["top"].get_linewidth() > 2 for axes in display.axes_]
    assert thick == [True] * 3 + [False] * 3
    assert [axes.get_title() for axes in display.axes_] == [f"a → b\n{quality[i]:.3f}" for i in display.positions]


@pytest.mark.parametrize(
    ("n_found", "n_shown", "title"),
    [
        (30, 9, "Label issues: 9 of 30"),
        (9, 9, "Label issues: all 9"),
        (2, 9, "Label issues: all 2 (framed); other labels of low quality: 7"),
        (0, 9, "Label issues: none; other labels of low quality: 9"),
        (1200, 9, "Label issues: 9 of 1,200"),
    ],
)
def test_the_title_says_what_is_shown(n_found, n_shown, title, fitted):
    n = max(n_found, n_shown)
    clf = with_issues(fitted, np.linspace(0, 1, n), np.arange(n) < n_found)
    n_issues = n_shown if n > n_shown else 10**6
    display = LabelIssuesDisplay.from_estimator(clf, np.zeros((n, 4, 4)), n_issues)
    assert display.ax_.get_title(loc="left") == f"{title}\ngiven → predicted, label quality"
    assert len(display.axes_) == n_shown


def test_rows_of_issues_are_tinted(fitted):
    clf = with_issues(fitted, np.linspace(0, 1, N), np.arange(N) < 1)
    display = LabelIssuesDisplay.from_estimator(clf, np.zeros((N, 2)), 2)
    assert display.ax_.get_title(loc="left") == "Label issues: all 1 (tinted); other labels of low quality: 1"
    drawn = display.axes_[0].tables[0].get_celld()
    white = matplotlib.colors.to_rgba("white")
    assert [drawn[row, 1].get_facecolor() == white for row in (0, 1, 2)] == [True, False, True]


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (N, 5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (N, 5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (GREY, GREY),
        (GREY[:, None], GREY),
        (GREY[..., None], GREY),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (torch.from_numpy(COLOUR).permute(0, 3, 1, 2), COLOUR),
        (GREY / 255, GREY / 255),
        (list(torch.from_numpy(GREY / 255)), GREY / 255),
        ([(x, "label") for x in GREY], GREY),
        ([Image.fromarray(x) for x in GREY], GREY),
        ([Image.fromarray(x) for x in COLOUR], COLOUR),
        ([Image.fromarray(x).convert("P") for x in GREY], np.stack([GREY] * 3, axis=-1)),
        (Items(GREY[:, None]), GREY),
        (GREY > 127, (GREY > 127).astype(float)),
    ],
    ids=itertools.count(),
)
def test_images_of_every_kind_are_shown_as_they_are(X, expected, fitted):
    display = LabelIssuesDisplay.from_estimator(fitted, X, 5)
    for axes, image, position in zip(display.axes_, display.examples, display.positions, strict=True):
        assert_array_equal(image, expected[position])
        (shown,) = axes.get_images()
        assert_array_equal(shown.get_array(), expected[position])
        assert shown.get_clim() == (0, 255 if image.dtype == np.uint8 else 1)


@pytest.mark.parametrize("X", [RNG.normal(size=(N, 3, 5, 7)), RNG.normal(size=(N, 5, 7)) * 1000, GREY.astype(int)])
def test_numbers_of_any_range_go_from_black_to_white(X, fitted):
    display = LabelIssuesDisplay.from_estimator(fitted, X, 5)
    shown = X[display.positions]
    expected = (shown - shown.min()) / (shown.max() - shown.min())
    assert_allclose(display.examples, np.moveaxis(expected, 1, 3) if X.ndim == 4 else expected)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_images_of_one_value_can_be_drawn(value, fitted):
    LabelIssuesDisplay.from_estimator(fitted, np.full((N, 4, 4), value), 2).figure_.canvas.draw()


def test_images_of_several_sizes_can_be_drawn(fitted):
    images = [Image.fromarray(GREY[0]).resize((4 + i % 3, 9)) for i in range(N)]
    display = LabelIssuesDisplay.from_estimator(fitted, images, 7)
    assert [image.shape for image in display.examples] == [(9, 4 + i % 3) for i in display.positions]


def test_tables_of_every_kind_are_shown(fitted, table):
    X, _ = table
    numbers = X[:, :2].astype(np.float64)
    frame = pd.DataFrame(numbers, columns=["x0", "x1"])
    kinds = (numbers, torch.from_numpy(numbers), sparse.csr_array(numbers), frame, pl.from_pandas(frame), list(numbers))
    for kind in (*kinds, sparse.coo_array(numbers), numbers.tolist()):
        display = LabelIssuesDisplay.from_estimator(fitted, kind, 4)
        issues = display.issues
        assert_array_equal(display.examples.to_numpy(), numbers[display.positions])
        drawn = cells(display)
        assert drawn[0] == ["", "given", "predicted", "quality", "x0", "x1"]
        for row, position in zip(drawn[1:], display.positions, strict=True):
            given, predicted = issues.loc[position, ["given_label", "predicted_label"]]
            assert row[:3] == [str(position), str(given), str(predicted)]
            assert row[4:] == [f"{number:.4g}" for number in numbers[position]]


def test_texts_are_a_table(fitted):
    sentences = [f"sentence {i}\n of the text" for i in range(N)]
    for X in (sentences, np.array(sentences), np.array(sentences, dtype=object), pd.Series(sentences, name="X")):
        display = LabelIssuesDisplay.from_estimator(fitted, X, 3)
        assert [row[4] for row in cells(display)] == ["X", *(f"sentence {i} of the text" for i in display.positions)]


def test_long_texts_take_the_room_that_is_left_and_lose_their_middle(fitted):
    display = LabelIssuesDisplay.from_estimator(fitted, [f"{i} of {'many words ' * 20}is the end" for i in range(N)], 3)
    for row, position in zip(cells(display)[1:], display.positions, strict=True):
        assert row[4].startswith(f"{position} of many words") and row[4].endswith("is the end")
        assert 50 < len(row[4]) < 80 and "…" in row[4]
    display.figure_.canvas.draw()
    (drawn,) = display.axes_[0].tables
    for place, cell in drawn.get_celld().items():
        assert cell.get_text().get_window_extent().width <= cell.get_window_extent().width, place


def test_a_data_frame_shows_its_index(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdefgh"), index=[f"row {i}" for i in range(N)])
    display = LabelIssuesDisplay.from_estimator(fast().fit(frame, y), frame, 3)
    assert [row[0] for row in cells(display)] == ["", *(f"row {i}" for i in display.positions)]
    assert display.examples.equals(frame.iloc[display.positions])


def test_so_it_does_where_a_step_before_has_dropped_it(table):
    X, y = table
    frame = pd.DataFrame(X, index=[f"row {i}" for i in range(N)])
    display = LabelIssuesDisplay.from_estimator(fast().fit(X, y), frame, 3)
    assert [row[0] for row in cells(display)] == ["", *(f"row {i}" for i in display.positions)]


def test_columns_that_do_not_fit_are_counted(fitted):
    X = pd.DataFrame(np.full((N, 40), 123456.0), columns=[f"a column named {i}" for i in range(40)])
    display = LabelIssuesDisplay.from_estimator(fitted, X, 3)
    n_columns = len(cells(display)[0]) - 4
    assert 1 <= n_columns <= 5
    assert f"\n{40 - n_columns} of 40 columns do not fit in" in display.ax_.get_title(loc="left")


LONG = np.array([f"the class of all those that are like number {i}" for i in range(3)])


def overlap(figure, artists):
    """Pairs of artists that are drawn over each other."""
    figure.draw_without_rendering()
    boxes = [artist.get_window_extent().padded(-0.5) for artist in artists]
    return [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("n_shown", [1, 25, 60])
@pytest.mark.parametrize("given", ["7", LONG[0]])
def test_no_text_lies_on_another_or_on_an_image(layout, n_shown, given, fitted):
    clf = with_issues(fitted, np.zeros(N), np.ones(N, bool), given=given, predicted=given)
    _, (_, right) = plt.subplots(1, 2, figsize=(11, 8), layout=layout)
    for ax in (None, right):
        display = LabelIssuesDisplay.from_estimator(clf, GREY, n_shown, ax=ax)
        images = [axes.get_images()[0] for axes in display.axes_]
        titles = [axes.title for axes in display.axes_]
        assert not overlap(display.figure_, [*images, *titles, display.ax_._left_title])


def test_no_cell_is_wider_than_its_column(fitted):
    clf = with_issues(fitted, np.zeros(N), np.ones(N, bool), given=LONG[0], predicted="WWWWWW")
    display = LabelIssuesDisplay.from_estimator(clf, np.full((N, 50), 0.123456))
    display.figure_.draw_without_rendering()
    for cell in display.axes_[0].tables[0].get_celld().values():
        assert cell.get_text().get_window_extent().width <= cell.get_window_extent().width


def test_legends_lie_beside_the_curves(found):
    for ax in (None, plt.subplots(1, 2, figsize=(12, 6))[1][1]):
        display = TrainingCurvesDisplay.from_estimator(found, ax=ax)
        boxes = [axes.patch for axes in display.axes_] + [axes.get_legend() for axes in display.axes_]
        assert not overlap(display.figure_, boxes)
        assert all(box.get_window_extent().x1 <= display.figure_.bbox.x1 for box in boxes)


def test_names_with_dollars_are_no_formulas(fitted):
    clf = with_issues(fitted, np.zeros(N), np.ones(N, bool), given="$_{", predicted="$_{$")
    for X in (GREY, np.zeros((N, 2))):
        LabelIssuesDisplay.from_estimator(clf, X, 2).figure_.canvas.draw()
    LabelIssuesDisplay.from_estimator(clf, pd.DataFrame({"$_{$": ["$_{$"] * N}), 2).figure_.canvas.draw()


# --- axes ------------------------------------------------------------------------------------------------------------


def test_without_ax_every_plot_is_a_new_figure(fitted):
    for draw in each_display(fitted):
        display = draw()
        first = display.figure_
        assert display.plot() is display
        assert display.figure_ is not first and len(plt.get_fignums()) == 2
        plt.close("all")


def test_an_ax_is_drawn_into_and_its_neighbours_are_not(fitted):
    for number in range(4):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
        display = list(each_display(fitted, right))[number]()
        assert display.ax_ is right and display.figure_ is figure and len(plt.get_fignums()) == 1
        assert not left.has_data()
        for axes in getattr(display, "axes_", []):
            box = axes.get_window_extent()
            assert right.bbox.x0 - 1 <= box.x0 < box.x1 <= right.bbox.x1 + 1
            assert right.bbox.y0 - 1 <= box.y0 < box.y1 <= right.bbox.y1 + 1
        plt.close("all")


def test_drawn_twice_into_the_same_ax_there_is_one_picture(fitted):
    for number in (0, 2, 3):
        _, ax = plt.subplots()
        display = list(each_display(fitted, ax))[number]()
        n_axes = len(ax.child_axes)
        display.plot(ax=ax)
        assert n_axes == len(ax.child_axes) == len(display.axes_)
        ax.clear()
        display.plot(ax=ax)
        assert n_axes == len(ax.child_axes)
    _, ax = plt.subplots()
    assert len(texts(LabelQualityDisplay.from_estimator(fitted, ax=ax).plot(ax).ax_)) == 2


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_an_ax_without_a_place_in_a_grid_or_in_a_part_of_a_figure_will_do(layout, fitted):
    for number in range(4):
        free = plt.figure().add_axes((0.1, 0.2, 0.6, 0.6))
        in_part = plt.figure(layout=layout).subfigures(1, 2)[1].subplots()
        for ax in (free, in_part):
            display = list(each_display(fitted, ax))[number]()
            assert display.ax_ is ax
            display.figure_.canvas.draw()


def test_an_ax_that_another_display_was_drawn_into_is_refused(fitted):
    _, ax = plt.subplots()
    TrainingCurvesDisplay.from_estimator(fitted, ax=ax)
    for draw in each_display(fitted, ax):
        with pytest.raises(ValueError, match="ax is switched off"):
            draw()


def test_an_ax_that_is_none_is_refused(fitted):
    _, axes = plt.subplots(1, 2)
    for draw in each_display(fitted, axes):
        with pytest.raises(TypeError, match="ax is a ndarray; a single Axes of matplotlib is expected"):
            draw()


# --- errors ----------------------------------------------------------------------------------------------------------


def test_they_need_a_fit():
    for draw in each_display(fast()):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            draw()


def test_of_single_examples_they_need_fit_and_that_it_is_not_forgotten(fitted, table):
    X, y = table
    for clf in (fast().partial_fit(X, y, classes=[0, 1, 2]), copy.deepcopy(fitted).forget_training_data()):
        _, *of_examples = each_display(clf)
        for draw in of_examples:
            with pytest.raises(NotFittedError, match="holds nothing of single examples"):
                draw()


def test_what_contains_a_classifier_is_none(fitted):
    for draw in each_display(make_pipeline(fitted)):
        with pytest.raises(TypeError, match=r"of a CoTeachingClassifier, not of a Pipeline. Give .*pipeline\[-1\]"):
            draw()


@pytest.mark.parametrize("X", [np.zeros((7, 8)), np.zeros((N + 1, 3, 3)), pd.DataFrame({"a": [1]}), [np.zeros(3)] * 7])
def test_x_of_another_length_is_refused(X, fitted):
    with pytest.raises(ValueError, match=rf"X has {len(X)} examples, but clf was fitted to {N}"):
        LabelIssuesDisplay.from_estimator(fitted, X)


def test_x_in_another_order_is_refused(table):
    X, y = table
    frame = pd.DataFrame(X, index=np.arange(N)[::-1] * 2)
    clf = fast().fit(frame.to_numpy(), pd.Series(y, index=frame.index))
    LabelIssuesDisplay.from_estimator(clf, frame.reset_index(drop=True), 3)
    with pytest.raises(ValueError, match="in another order"):
        LabelIssuesDisplay.from_estimator(clf, frame.sort_index(), 3)


@pytest.mark.parametrize("shape", [(N, 5, 5, 5), (N, 2, 9, 9), (N, 3, 8, 8, 8)])
def test_what_is_no_picture_is_refused(shape, fitted):
    with pytest.raises(ValueError, match="X has examples of shape .* hand over what to show"):
        LabelIssuesDisplay.from_estimator(fitted, np.zeros(shape))


@pytest.mark.parametrize(("n_issues", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("9", TypeError)])
def test_n_issues_counts(n_issues, error, fitted):
    with pytest.raises(error, match="n_issues"):
        LabelIssuesDisplay.from_estimator(fitted, np.zeros((N, 2)), n_issues)


# --- without matplotlib ----------------------------------------------------------------------------------------------


def test_the_package_does_not_import_matplotlib():
    code = "import sys, skcoteach; skcoteach.display.LabelIssuesDisplay; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_need_no_matplotlib_and_drawing_says_what_does(fitted, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    display = LabelQualityDisplay(np.array([0.5, 1.0]), np.array([True, False]))
    assert display.label_quality.mean() == 0.75
    for draw in (display.plot, *each_display(fitted)):
        with pytest.raises(ImportError, match=r"Display needs matplotlib to draw: pip install matplotlib"):
            draw()
