"""What scikit-learn's callbacks see of a fit."""

from collections.abc import Callable
from typing import Any

from skcoteach._fitted import FITTED_NAMES
from skcoteach._training.distributed import Processes


class Tasks:
    """The tree of tasks that callbacks see: ``fit``, and in it ``estimate`` (with steps of its own) and ``epoch``.

    Parameters
    ----------
    estimator : CoTeachingClassifier
    epochs : int
    X, y, sample_weight : object
        The arguments of ``fit``.
    processes : Processes
        That train together: the callbacks of the first one alone are told, and if they want to stop, all do.

    Attributes
    ----------
    fit : CallbackContext, or None where nobody is told
    """

    def __init__(self, estimator: Any, epochs: int, X: Any, y: Any, sample_weight: Any, processes: Processes):
        self._estimator = estimator
        self._processes = processes
        self._arguments = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        estimated = estimator.forget_rate == "auto"
        self.fit: Any = None
        if not processes.is_first:
            return
        self.fit = estimator._init_callback_context(max_subtasks=epochs + estimated)
        self.fit.call_on_fit_task_begin(**self._arguments)

    def begin(self, name: str, *, within: Any = None, max_subtasks: int = 0) -> Any:
        """Begin a part of ``fit``, or of the task ``within``."""
        if self.fit is None:
            return None
        task = (self.fit if within is None else within).subcontext(task_name=name, max_subtasks=max_subtasks)
        return task.call_on_fit_task_begin(**self._arguments)

    def end(self, task: Any, attributes: Callable[[], dict] | None = None) -> bool:
        """End a task; whether a callback wants to stop. They can ask for what would be fitted by now."""
        stop = False
        if task is not None:
            later = (
                {} if attributes is None else {"reconstruction_attributes": lambda: self._without_earlier(attributes())}
            )
            stop = task.call_on_fit_task_end(**self._arguments, **later)
        return self._processes.from_first(stop)

    def _without_earlier(self, attributes: dict) -> dict:
        """The attributes, and None for those of an earlier fit, which copies of the estimator would show otherwise."""
        return dict.fromkeys(FITTED_NAMES & vars(self._estimator).keys()) | attributes
