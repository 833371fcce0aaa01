"""Pictures of a fitted classifier, as scikit-learn's displays: numbers first, drawn by ``plot``.

What is found out about labels is computed by the fit; here it is only shown. matplotlib (``pip install
'skcoteach[plot]'``) is imported when something is drawn, and not before.

The noise matrix needs no display of its own. scikit-learn's has a row for each true class, ``noise_matrix_`` a column:

>>> from sklearn.datasets import make_blobs
>>> from sklearn.metrics import ConfusionMatrixDisplay
>>> from skcoteach import CoTeachingClassifier
>>> X, y = make_blobs(n_samples=600, centers=3, random_state=0)
>>> y[::4] = (y[::4] + 1) % 3
>>> clf = CoTeachingClassifier(epochs=10, random_state=0).fit(X, y)
>>> display = ConfusionMatrixDisplay(clf.noise_matrix_.T, display_labels=clf.classes_)
>>> display = display.plot(values_format=".2f")
>>> _ = display.ax_.set(xlabel="Given label")  # P(given | true): rows sum to one
"""

import math
import textwrap
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from skcoteach._arrays import to_host
from skcoteach._classifier import CoTeachingClassifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["LabelIssuesDisplay", "LabelQualityDisplay", "TrainingCurvesDisplay"]

# Okabe and Ito's colours, which people see apart whatever kind of colour vision they have.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#000000"
GREY, TINT = "#A6A6A6", "#FBE2C8"
#: In inches: figures that are read at 700 pixels, and the room that a letter and a line of 8 points take.
WIDTH, LETTER, LINE = 7.0, 0.068, 0.145
#: Likewise, of an image: a label quality stands above it.
NARROWEST = 0.52


class TrainingCurvesDisplay:
    """How a training went, epoch by epoch: accuracy, loss, and how much was forgotten.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,), int
        From 0, as in ``history_``.
    accuracy, loss : ndarray of shape (n_epochs, 2), float64
        Of either network on the given labels.
    agreement, forget_rate : ndarray of shape (n_epochs,), float64
    changed, val_accuracy, val_loss : ndarray of shape (n_epochs,), float64, default=None
        The share of predictions that are not those of the epoch before, and what a validation set says. NaN: not known
        of this epoch.
    noise_rate : float, default=None
        The estimated share of wrong labels.
    best_epoch : int, default=None
        The epoch whose networks predict.

    Attributes
    ----------
    axes_ : ndarray of shape (3,) of matplotlib Axes
        With accuracies, losses and rates, from top to bottom.
    ax_ : matplotlib Axes
        What was divided into these.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skcoteach import CoTeachingClassifier
    >>> from skcoteach.display import TrainingCurvesDisplay
    >>> X, y = make_blobs(n_samples=600, centers=3, random_state=0)
    >>> clf = CoTeachingClassifier(epochs=10, random_state=0).fit(X, y)
    >>> display = TrainingCurvesDisplay.from_estimator(clf)
    >>> display.accuracy.shape
    (10, 2)
    """

    def __init__(
        self,
        *,
        epochs: np.ndarray,
        accuracy: np.ndarray,
        loss: np.ndarray,
        agreement: np.ndarray,
        forget_rate: np.ndarray,
        changed: np.ndarray | None = None,
        val_accuracy: np.ndarray | None = None,
        val_loss: np.ndarray | None = None,
        noise_rate: float | None = None,
        best_epoch: int | None = None,
    ) -> None:
        self.epochs = epochs
        self.accuracy = accuracy
        self.loss = loss
        self.agreement = agreement
        self.forget_rate = forget_rate
        self.changed = changed
        self.val_accuracy = val_accuracy
        self.val_loss = val_loss
        self.noise_rate = noise_rate
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(cls, clf: CoTeachingClassifier, *, ax: "Axes | None" = None) -> Self:
        """Draw what is in ``history_``.

        Parameters
        ----------
        clf : CoTeachingClassifier
            Fitted, by :meth:`~skcoteach.CoTeachingClassifier.partial_fit` if need be.
        ax : matplotlib Axes, default=None
            As for :meth:`plot`.

        Returns
        -------
        TrainingCurvesDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        """
        _check_is_fitted(cls, clf)
        display = cls(
            epochs=np.array([entry["epoch"] for entry in clf.history_]),
            accuracy=np.array([entry["accuracy"] for entry in clf.history_], dtype=np.float64),
            loss=np.array([entry["loss"] for entry in clf.history_], dtype=np.float64),
            agreement=np.array([entry["agreement"] for entry in clf.history_], dtype=np.float64),
            forget_rate=np.array([entry["forget_rate"] for entry in clf.history_], dtype=np.float64),
            changed=_where_known(clf.history_, "changed"),
            val_accuracy=_where_known(clf.history_, "val_accuracy"),
            val_loss=_where_known(clf.history_, "val_loss"),
            noise_rate=getattr(clf, "noise_rate_", None),
            best_epoch=getattr(clf, "best_epoch_", None),
        )
        return display.plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Divided into three; what this display has drawn there before is replaced. None: a new figure.

        Returns
        -------
        TrainingCurvesDisplay

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        ax = _checked(self, ax) if ax is not None else _new_axes(self, 6.0, layout="constrained")
        width, height = _size(ax)
        legend, gap = min(1.75 / width, 0.5), min(0.12 / height, 0.1)
        share = (1 + gap) / 3
        top, middle, bottom = _divided(self, ax, [(0, i * share, 1 - legend, share - gap) for i in (2, 1, 0)])
        for axes, curves, validation in ((top, self.accuracy, self.val_accuracy), (middle, self.loss, self.val_loss)):
            self._draw(axes, curves[:, 0], "network 1", BLUE)
            self._draw(axes, curves[:, 1], "network 2", ORANGE, linestyle="--")
            self._draw(axes, validation, "validation", BLACK)
        self._draw(top, self.agreement, "agreement of both", GREEN)
        self._draw(top, self.changed, "predictions changed", PURPLE)
        self._draw(bottom, self.forget_rate, "forget rate", VERMILION)
        if self.noise_rate is not None:
            bottom.axhline(self.noise_rate, color=BLACK, linestyle=":", label=f"noise rate {self.noise_rate:.3f}")
        if self.best_epoch is not None:
            for axes, name in ((top, None), (middle, None), (bottom, f"best epoch {self.best_epoch}")):
                axes.axvline(self.best_epoch, color=GREY, linestyle="-.", zorder=1, label=name)
        lossiest, highest = middle.dataLim.ymax, max(bottom.dataLim.ymax, 0.05)
        for axes, name, limits in (
            (top, "accuracy on\ngiven labels", (-0.02, 1.02)),
            (middle, "loss", (-0.02 * lossiest, 1.05 * lossiest)),
            (bottom, "forget rate", (-0.02 * highest, 1.1 * highest)),
        ):
            axes.set(xlim=(self.epochs[0] - 0.5, self.epochs[-1] + 0.5), ylim=limits, ylabel=name)
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(alpha=0.3)
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03), frameon=False, fontsize=9)
        for axes in (top, middle):
            axes.sharex(bottom)
            axes.tick_params(labelbottom=False)
        bottom.set_xlabel("epoch")
        return self

    def _draw(self, axes: "Axes", curve: np.ndarray | None, name: str, colour: str, **style: Any) -> None:
        if curve is not None:
            alone = "o" if np.isfinite(curve).sum() == 1 else ""  # of which there is no line
            axes.plot(self.epochs, curve, color=colour, label=name, marker=alone, **style)


class LabelQualityDisplay:
    """How likely the given labels are right: the distribution of their quality, label issues marked.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    label_quality : ndarray of shape (n_samples,), float64
        In [0, 1]; low is suspicious.
    is_label_issue : ndarray of shape (n_samples,), bool

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skcoteach import CoTeachingClassifier
    >>> from skcoteach.display import LabelQualityDisplay
    >>> X, y = make_blobs(n_samples=600, centers=3, random_state=0)
    >>> y[::4] = (y[::4] + 1) % 3
    >>> clf = CoTeachingClassifier(epochs=10, random_state=0).fit(X, y)
    >>> display = LabelQualityDisplay.from_estimator(clf)
    >>> display.label_quality.shape
    (600,)
    """

    def __init__(self, label_quality: np.ndarray, is_label_issue: np.ndarray) -> None:
        self.label_quality = label_quality
        self.is_label_issue = is_label_issue

    @classmethod
    def from_estimator(cls, clf: CoTeachingClassifier, *, ax: "Axes | None" = None) -> Self:
        """Draw what ``get_label_issues`` says of the training data.

        Parameters
        ----------
        clf : CoTeachingClassifier
            Fitted by :meth:`~skcoteach.CoTeachingClassifier.fit`.
        ax : matplotlib Axes, default=None
            As for :meth:`plot`.

        Returns
        -------
        LabelQualityDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted, or holds nothing of single examples.
        """
        _check_is_fitted(cls, clf)
        issues = clf.get_label_issues()
        return cls(issues["label_quality"].to_numpy(), issues["is_label_issue"].to_numpy()).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the histogram. Short lines below it mark label issues that are too few for a bar that is seen.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.

        Returns
        -------
        LabelQualityDisplay

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        ax = _checked(self, ax) if ax is not None else _new_axes(self, 3.5, layout="constrained")
        issues, others = self.label_quality[self.is_label_issue], self.label_quality[~self.is_label_issue]
        edges = np.linspace(0, 1, 41)
        for values, below, colour, name in ((issues, [], VERMILION, "label issues"), (others, issues, BLUE, "others")):
            heights, bottoms = np.histogram(values, edges)[0], np.histogram(below, edges)[0]
            ax.bar(
                edges[:-1],
                heights,
                np.diff(edges),
                bottoms,
                align="edge",
                color=colour,
                label=f"{name}: {len(values):,}",
            )
        seen = np.unique(issues.round(3))
        ax.plot(
            seen,
            np.full(len(seen), -0.02),
            "|",
            color=VERMILION,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
        )
        ax.set(xlabel="label quality (low is suspicious)", ylabel="examples", xlim=(0, 1))
        ax.tick_params(axis="x", pad=8)
        ax.grid(alpha=0.3, axis="y")
        ax.set_axisbelow(True)
        ax.legend(
            handles=ax.containers[-2:],
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            frameon=False,
            fontsize=9,
            borderaxespad=0.2,
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


class LabelIssuesDisplay:
    """The most suspicious examples, as pictures or as rows of a table, with their given and predicted labels.

    Label issues come first, by rising label quality. Where there are fewer than are to be shown, the labels of lowest
    quality follow. Label issues have a thick frame, or a tinted row.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    issues : DataFrame of n_shown rows
        Those of :meth:`~skcoteach.CoTeachingClassifier.get_label_issues` that are shown, in this order.
    positions : ndarray of shape (n_shown,), int
        Where they are in the training data.
    examples : list of n_shown ndarrays, or DataFrame of n_shown rows
        Images of shape (h, w), grey, or (h, w, 3 or 4), uint8 or float64 in [0, 1]. Or rows of a table.
    n_label_issues : int
        How many label issues there are, shown or not.

    Attributes
    ----------
    axes_ : ndarray of shape (n_shown,) or (1,) of matplotlib Axes
        One for each image, or that with the table.
    ax_ : matplotlib Axes
        What was divided into these.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcoteach import CoTeachingClassifier
    >>> from skcoteach.display import LabelIssuesDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> y[::4] = (y[::4] + 1) % 10
    >>> clf = CoTeachingClassifier(forget_rate=0.25, epochs=10, random_state=0).fit(X, y)
    >>> display = LabelIssuesDisplay.from_estimator(clf, X.reshape(-1, 8, 8), n_issues=10)
    >>> len(display.axes_)
    10
    >>> bool((display.positions % 4 == 0).mean() > 0.8)
    True
    """

    def __init__(
        self,
        issues: "DataFrame",
        positions: np.ndarray,
        examples: "list[np.ndarray] | DataFrame",
        *,
        n_label_issues: int,
    ) -> None:
        self.issues = issues
        self.positions = positions
        self.examples = examples
        self.n_label_issues = n_label_issues

    @classmethod
    def from_estimator(cls, clf: CoTeachingClassifier, X: Any, n_issues: int = 25, *, ax: "Axes | None" = None) -> Self:
        """Draw the most suspicious of the training data.

        Parameters
        ----------
        clf : CoTeachingClassifier
            Fitted by :meth:`~skcoteach.CoTeachingClassifier.fit`.
        X : array-like, tensor, data frame, sparse matrix, Dataset or list, of n_samples
            The training inputs in the order of ``fit``, or what to show of each. Images: of shape (n, h, w),
            (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels, or a list of such, of PIL's say. uint8, or numbers of
            any range: unless they lie in [0, 1], the smallest that is shown becomes black and the largest white.
            A table: of shape (n, n_columns), or a list of texts.
        n_issues : int, default=25
            How many are shown, at most.
        ax : matplotlib Axes, default=None
            As for :meth:`plot`.

        Returns
        -------
        LabelIssuesDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted, or holds nothing of single examples.
        ValueError
            If X has another length or order than the training data, or is neither images nor a table.
        """
        check_scalar(n_issues, "n_issues", Integral, min_val=1)
        _check_is_fitted(cls, clf)
        issues = clf.get_label_issues()
        _check_belongs(X, issues)
        if hasattr(X, "iloc") and not _is_named(issues):  # by a step of a pipeline before clf that returns arrays
            issues.index = X.index
        is_issue = issues["is_label_issue"].to_numpy()
        positions = np.lexsort((issues["label_quality"].to_numpy(), ~is_issue))[:n_issues]
        examples = _examples(X, positions)
        return cls(issues.iloc[positions], positions, examples, n_label_issues=int(is_issue.sum())).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the images or the table.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Divided into one for each image; what this display has drawn there before is replaced. None: a new figure.

        Returns
        -------
        LabelIssuesDisplay

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        return self._plot_images(ax) if isinstance(self.examples, list) else self._plot_table(ax)

    def _plot_images(self, ax: "Axes | None") -> Self:
        given, predicted = (self.issues[name].map(_text).tolist() for name in ("given_label", "predicted_label"))
        in_one_line = max(len(a) + len(b) for a, b in zip(given, predicted)) <= 6
        text = (2 if in_one_line else 3) * LINE + 0.08
        aspect = float(np.median([len(image) / image.shape[1] for image in self.examples]))
        n_shown = len(self.examples)
        if ax is None:
            n_columns = min(max(math.ceil(math.sqrt(1.6 * n_shown * aspect)), 3), 10)
            ax = _new_axes(self, math.ceil(n_shown / n_columns) * (WIDTH / n_columns * aspect * 0.9 + text) + 0.6)
        else:
            ax = _checked(self, ax)
        ax.set_axis_off()
        _entitle(ax, f"{self._summary('framed')}\ngiven → predicted, label quality")
        width, height = _size(ax)
        n_columns = max(
            range(1, max(min(n_shown, int(width / NARROWEST)), 1) + 1),
            key=lambda n: min(width / n, (height / math.ceil(n_shown / n) - text) / aspect),
        )
        across, down = 1 / n_columns, 1 / math.ceil(n_shown / n_columns)
        high = max(down - (text + 0.08) / height, down / 4)
        boxes = [
            ((i % n_columns + 0.05) * across, 1 - (i // n_columns) * down - text / height - high, 0.9 * across, high)
            for i in range(n_shown)
        ]
        room = int(width * across / LETTER) - 1
        for axes, image, a, b, quality, is_issue in zip(
            _divided(self, ax, boxes),
            self.examples,
            given,
            predicted,
            self.issues["label_quality"],
            self.issues["is_label_issue"],
        ):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
            axes.set(xticks=[], yticks=[], anchor="N")
            for spine in axes.spines.values():
                spine.set(color=VERMILION if is_issue else GREY, linewidth=2.5 if is_issue else 0.8)
            labels = f"{a} → {b}" if in_one_line else f"{_shortened(a, room)}\n→ {_shortened(b, room - 2)}"
            axes.set_title(f"{labels}\n{_rounded(quality)}", fontsize=8, pad=3, parse_math=False)
        return self

    def _plot_table(self, ax: "Axes | None") -> Self:
        table: Any = self.examples
        ax = _checked(self, ax) if ax is not None else _new_axes(self, (len(table) + 1) * 0.21 + 0.6)
        columns = [
            ["", *(_shortened(_text(label), 14) for label in self.issues.index)],
            ["given", *(_shortened(_text(label), 14) for label in self.issues["given_label"])],
            ["predicted", *(_shortened(_text(label), 14) for label in self.issues["predicted_label"])],
            ["quality", *map(_rounded, self.issues["label_quality"])],
        ]
        n_shown, room = 0, _size(ax)[0] / LETTER
        are_texts = table.shape[1] == 1 and isinstance(table.iat[0, 0], str)  # they take the room that is left
        most = max(20, int(room) - _letters([*columns, [""]])) if are_texts else 20
        for number in range(table.shape[1]):
            cells = [_shortened(_text(value), most) for value in (table.columns[number], *table.iloc[:, number])]
            if _letters([*columns, cells]) > room:
                break
            columns.append(cells)
            n_shown += 1
        (axes,) = _divided(self, ax, [(0, 0, 1, 1)])
        axes.set_axis_off()
        drawn = axes.table(
            [list(row) for row in zip(*(column[1:] for column in columns))],
            colLabels=[column[0] for column in columns],
            colWidths=[_letters([column]) / _letters(columns) for column in columns],
            cellLoc="right",
            bbox=(0, 0, 1, 1),
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        for (row, column), cell in drawn.get_celld().items():
            is_issue = row > 0 and self.issues["is_label_issue"].iloc[row - 1]
            cell.set(edgecolor="#E5E5E5", linewidth=0.5, facecolor=TINT if is_issue else "white")
            cell.get_text().set(parse_math=False, fontweight="bold" if row == 0 or column in (1, 2) else "normal")
            if are_texts and column == 4:
                cell.get_text().set(horizontalalignment="left")
        left_out = table.shape[1] - n_shown
        more = f"\n{left_out} of {table.shape[1]} columns do not fit in" if left_out else ""
        _entitle(ax, self._summary("tinted") + more)
        return self

    def _summary(self, marked: str) -> str:
        n_issues = int(self.issues["is_label_issue"].sum())
        n_others, n_found = len(self.issues) - n_issues, self.n_label_issues
        shown = "none" if not n_found else f"all {n_found:,}" if n_issues == n_found else f"{n_issues} of {n_found:,}"
        if not n_others:
            return f"Label issues: {shown}"
        mark = f" ({marked})" if n_issues else ""
        return f"Label issues: {shown}{mark}; other labels of low quality: {n_others}"


# --- numbers ---------------------------------------------------------------------------------------------------------


def _check_is_fitted(display: type, clf: Any) -> None:
    if not isinstance(clf, CoTeachingClassifier):
        raise TypeError(
            f"{display.__name__} is of a CoTeachingClassifier, not of a {type(clf).__name__}. Give the one in it: "
            "pipeline[-1], say, or search.best_estimator_."
        )
    check_is_fitted(clf)


def _where_known(history: list[dict], name: str) -> np.ndarray | None:
    """A value of each epoch, NaN where it is missing; None where it is missing everywhere."""
    if not any(name in entry for entry in history):
        return None
    return np.array([entry.get(name, np.nan) for entry in history], dtype=np.float64)


def _check_belongs(X: Any, issues: "DataFrame") -> None:
    """Refuse X of other examples, as far as can be seen."""
    n_examples = X.shape[0] if getattr(X, "shape", ()) else len(X)
    if n_examples != len(issues):
        raise ValueError(
            f"X has {n_examples} examples, but clf was fitted to {len(issues)}. X must be what it was fitted to, or "
            "what to show of each of these, in the same order."
        )
    named = hasattr(X, "iloc") and _is_named(issues)
    if named and not X.index.equals(issues.index) and X.index.symmetric_difference(issues.index).empty:
        raise ValueError("X has the index of what clf was fitted to, but in another order.")


def _is_named(issues: "DataFrame") -> bool:
    """Whether the rows have names, rather than numbers."""
    from pandas import RangeIndex

    return not isinstance(issues.index, RangeIndex)


def _examples(X: Any, positions: np.ndarray) -> "list[np.ndarray] | DataFrame":
    """These of X, as images ready to be drawn or as a table."""
    from pandas import DataFrame

    rows = positions.tolist()
    if hasattr(X, "iloc"):
        chosen = X.iloc[rows]
        return chosen if chosen.ndim == 2 else chosen.to_frame()
    if hasattr(X, "columns"):  # polars
        return DataFrame(X[rows].to_dict(as_series=False))
    if sparse.issparse(X):
        items = list(X.tocsr()[rows].toarray())
    elif getattr(X, "shape", ()):
        items = list(to_host(X)[rows])
    else:
        items = [_as_array(X[row]) for row in rows]
    if all(np.ndim(item) == 1 for item in items) and len({len(item) for item in items}) == 1:
        return DataFrame(np.stack(items), columns=[f"x{i}" for i in range(len(items[0]))])
    if all(np.ndim(item) == 0 for item in items):
        return DataFrame({"X": [np.asarray(item).item() for item in items]})
    return _in_range([_channels_last(item) for item in items])


def _as_array(item: Any) -> np.ndarray:
    """An item of a list or Dataset: a tensor, an array, an image of PIL, or a tuple that starts with one."""
    item = item[0] if isinstance(item, tuple) and item else item
    if hasattr(item, "convert") and item.mode not in ("1", "L", "I", "I;16", "F", "RGB", "RGBA"):  # a palette, say
        item = item.convert("RGB")
    return np.asarray(to_host(item))


def _channels_last(image: np.ndarray) -> np.ndarray:
    """Of shape (h, w), or (h, w, 3 or 4)."""
    if image.ndim == 3 and image.shape[0] in (1, 3, 4):
        image = np.moveaxis(image, 0, 2)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype.kind not in "buif" or image.ndim != 2 and (image.ndim != 3 or image.shape[2] not in (3, 4)):
        raise ValueError(
            f"X has examples of shape {image.shape} and dtype {image.dtype}. Images of shape (h, w), (h, w, c) or "
            "(c, h, w) with 1, 3 or 4 channels, or rows of a table are expected: hand over what to show of each "
            "example."
        )
    return image


def _in_range(images: list[np.ndarray]) -> list[np.ndarray]:
    """uint8 as it is, other numbers in [0, 1]."""
    if all(image.dtype == np.uint8 for image in images):
        return images
    images = [image.astype(np.float64) for image in images]
    finite = np.concatenate([image[np.isfinite(image)] for image in images])
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return images
    return [np.clip((image - low) / (high - low or 1.0), 0, 1) for image in images]


# --- text ------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A value as it is shown, in one line."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return " ".join(str(value).split())


def _shortened(text: str, n_letters: int) -> str:
    """Without its middle where it is too long: names often differ at their ends."""
    if len(text) <= n_letters:
        return text
    n_letters = max(n_letters - 1, 2)
    return f"{text[: (n_letters + 1) // 2]}…{text[-(n_letters // 2) :]}"


def _rounded(quality: float) -> str:
    return "< 0.001" if quality < 0.001 else f"{quality:.3f}"


def _letters(columns: Sequence[list[str]]) -> int:
    """How many letters wide these columns are, side by side."""
    return sum(max(map(len, column)) + 2 for column in columns)


# --- axes ------------------------------------------------------------------------------------------------------------


def _new_axes(display: object, height: float, layout: str | None = None) -> "Axes":
    """Those of a new figure of this height in inches; without a layout they fill it, but for a title of two lines."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{type(display).__name__} needs matplotlib to draw: pip install matplotlib") from error
    figure, ax = plt.subplots(figsize=(WIDTH, height), layout=layout)
    if layout is None:
        figure.subplots_adjust(left=0.02, right=0.98, bottom=0.1 / height, top=1 - 0.5 / height)
    return ax


def _checked(display: object, ax: Any) -> "Axes":
    """The user's, if something can be drawn there."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax is a {type(ax).__name__}; a single Axes of matplotlib is expected.")
    if not ax.axison and getattr(display, "ax_", None) is not ax:
        raise ValueError("ax is switched off, as one is that another display was drawn into. Give one of its own.")
    return ax


def _size(ax: "Axes") -> tuple[float, float]:
    """Width and height in inches, as the figure is laid out with what is in it now."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.execute(ax.figure.canvas.figure)
    return ax.bbox.width / ax.figure.dpi, ax.bbox.height / ax.figure.dpi


def _divided(display: Any, ax: "Axes", boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Axes within ``ax``: left, bottom, width and height as shares of it."""
    if getattr(display, "ax_", None) is ax:
        for earlier in set(display.axes_) & set(ax.child_axes):  # none, where it was cleared
            earlier.remove()
    ax.set_axis_off()
    display.axes_ = np.array([ax.inset_axes(box) for box in boxes], dtype=object)
    display.ax_, display.figure_ = ax, ax.figure
    return display.axes_


def _entitle(ax: "Axes", text: str) -> None:
    room = max(int(_size(ax)[0] / LETTER), 20)
    wrapped = "\n".join(textwrap.fill(line, room) for line in text.splitlines())
    ax.set_title(wrapped, loc="left", fontsize=9, parse_math=False)
