"""The scikit-learn contract: parameters, fitted attributes, tags, and the order in which ``fit`` tells the method."""

import copy
import functools
import inspect
import os
from collections.abc import Callable
from numbers import Integral, Real
from types import MethodType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skcoteach._arrays import is_dict, to_host, to_namespace_of
from skcoteach._checkpoint import Checkpoint
from skcoteach._config import PREFIXES, is_prefixed, meant_by, refuse_odd_numbers, resolve
from skcoteach._data.inputs import CPU, Inputs
from skcoteach._data.training_data import TrainingData, warn_of_lost_digits, warn_of_sorted_blocks
from skcoteach._data.validation import (
    ValidatedData,
    check_form,
    check_X,
    is_items,
    sorted_classes,
    validate,
    validate_beside,
)
from skcoteach._data.validation_set import ValidationSet, hold_out
from skcoteach._errors import warn_user
from skcoteach._export import ProbabilityModule
from skcoteach._fit_digest import digests_of_parts
from skcoteach._fitted import FITTED_NAMES, OF_EXAMPLES, fitted_attributes, go_on
from skcoteach._interrupts import InterruptsHeldBack
from skcoteach._pickling import for_cpu, for_here, with_version, without_version
from skcoteach._reporting import begin_estimate, end_estimate, print_epoch, print_return
from skcoteach._sklearn import Interval, InvalidParameterError, StrOptions, check_same_namespace
from skcoteach._tasks import Tasks
from skcoteach._training.config import TrainingConfig
from skcoteach._training.crossfit import CrossFit
from skcoteach._training.device import (
    first_look,
    ignoring_callers_modes,
    initial_weights,
    random_state,
    validation_split,
)
from skcoteach._training.distributed import Processes, joined, refuse_batch_statistics
from skcoteach._training.inference import log_mean_probabilities, mean_probabilities, predict, predict_in_chunks
from skcoteach._training.module_factory import check_networks, make_networks, reads_indices, standardize
from skcoteach._training.module_state import copy_of
from skcoteach._training.noise_estimate import NoiseEstimate, stopped_early, too_few_data, unknown
from skcoteach._training.trainer import Trainer
from skcoteach._version import documentation_url

if TYPE_CHECKING:
    from pandas import DataFrame


class _AutoForgetRateError(AttributeError, ValueError):
    """``partial_fit`` does not see all data, from which the forget rate is estimated."""


class _WithGivenForgetRate:
    """A method that is not there while the forget rate is to be estimated; the reason is a ValueError, too."""

    def __init__(self, method: Callable):
        self.method = method

    def __get__(self, estimator: Any, owner: type | None = None) -> Callable:
        if estimator is None:
            return self.method
        if isinstance(estimator.forget_rate, str):
            raise _AutoForgetRateError(
                'forget_rate="auto" estimates the forget rate from all data, which partial_fit does not see. Give '
                "forget_rate a number: about the share of wrong labels."
            )
        return MethodType(self.method, estimator)


class CoTeachingClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Classifier for data whose labels are partly wrong: two networks that teach each other.

    Both networks see the same mini-batches. Each ranks the examples of a batch by its own loss and hands those with
    small loss to its peer, which learns from these alone: wrong labels are learnt late, so they are the ones left out.
    The share that is left out rises over the first epochs to ``forget_rate``. Each mini-batch gets its share of every
    given class and of what was kept in the epoch before (counted in rows, and about), so that one forget rate fits all
    batches. Predictions are the mean of both networks' probabilities.

    Parameters
    ----------
    module : None, nn.Module class, callable or nn.Module instance, default=None
        What makes a network. Its ``forward`` returns raw logits of shape (n, n_classes), for two classes also. Six are
        made where the forget rate is estimated, else two. A chain of linear layers and activations that is written as
        ``nn.Sequential`` trains up to twice as fast as one written as a ``forward``. Where X is a dict, its entries
        reach ``forward`` as keywords. Outputs may also be objects with such logits as their ``logits``, as those of
        Hugging Face's models are: ``lambda n_classes: AutoModelForSequenceClassification.from_config(BertConfig(
        num_labels=n_classes))``.

        - None: :class:`~skcoteach.networks.MLP` for 2-D X, :class:`~skcoteach.networks.SmallCNN` for 4-D X.
        - A class or any callable: called once per network with ``module__*`` and with those of ``n_features`` (numbers
          in an example), ``n_channels`` (length of its first axis, where it has several) and ``n_classes`` that its
          signature names; explicit values win. For a dict there is ``n_classes`` alone.
        - An instance: its weights are where the first network starts. It is copied, never changed. ``module2`` must
          then be an instance too.
    module2 : None, nn.Module class, callable or nn.Module instance, default=None
        The peer, where it is not made like the first: called with ``module2__*``. None: ``module``, called with
        ``module__*`` overridden by ``module2__*``.
    forget_rate : float in [0, 1) or "auto", default="auto"
        The final share of a batch that is not learnt from: about the share of wrong labels. With 0 both networks learn
        from everything, as plain networks do.

        "auto": chosen by the data before training, 0 where forgetting does not help. On either half of the data, pairs
        of networks that forget more or less predict the other half, and the given labels decide which explains them
        best; from the same predictions comes how many labels are wrong, ``noise_rate_``.

        Where the default network or another chain of layers is trained, the candidates are trained side by side. Where
        one that forgets is best, the noise rate is forgotten, if that is within 0.1 of what the best one forgets, else
        the nearest rate that is; what the best one forgets itself, where those nearer to the noise rate are clearly
        worse. Of other networks there are two candidates, one that forgets nothing and one that forgets what it finds
        wrong. The latter is taken if it explains the labels no worse, or if they are wrong as often where it is sure,
        and it predicts nearly as many of them.

        The choice takes about as long as the fit itself, below 1,000 examples up to three times. What is forgotten of a
        class is in proportion to what is wrong of it. With fewer than 40 examples, or fewer than 8 of the second
        largest class, nothing can be said: there is a warning, and nothing is forgotten.
    num_gradual : int, default=None
        Epochs of warm-up in which the forget rate rises linearly from 0. None: 10, or ``epochs`` if that is less.
    exponent : float, default=1.0
        The warm-up rises to ``forget_rate ** exponent``.
    class_floor : float in [0, 1], default=0.75
        Part of its fair share that each given class keeps in any case, so that a class that is learnt late does not
        starve: of the examples of each class those with the smallest losses, in the batch where that holds at least 8
        examples' worth of the class, else in the epoch before, together at least
        ``class_floor * (1 - forget rate of the class)`` of its weight over an epoch, whatever its size and that of the
        batches. The rest of the budget goes to the smallest losses, whatever their class; never more than the budget is
        kept. 0: the batch is ranked as a whole, as in the paper.
    epochs : int, default=100
        Passes over the data.
    batch_size : int, default=128
        Examples of a mini-batch. A last batch of fewer than 16 is skipped unless it is the only one (so below 16 the
        last is always skipped).
    num_iter_per_epoch : int, default=None
        At most this many mini-batches an epoch. None: all.
    optimizer : Optimizer class or callable, default=torch.optim.Adam
        Called as ``optimizer(parameters, lr=lr, **optimizer__*)``: once for both networks if it is a class of torch
        that treats every number by itself (Adam, SGD and the like), else once per network. The learning rate of every
        epoch is set in all its parameter groups.
    lr : float, default=1e-3
        Learning rate.
    epoch_decay_start : int, default=None
        Epoch from which on ``lr`` falls linearly to zero; from ``epochs`` on: never. None: 80/250 of ``epochs``.
    class_weight : None, "balanced" or dict of class to weight, default=None
        Multiplies ``sample_weight``; "balanced" is of the weighted counts.
    augment : callable, default=None
        Called with a whole training batch on the device (a dict of tensors, where X is a dict), returns what both
        networks see instead.
    average_decay : float in [0, 1), default=None
        Predict with the mean of the weights after every update, in which each update counts ``average_decay`` times as
        much as the one after it (the running statistics of batch normalisation likewise). Steadier than the last
        weights where the training is short or noisy; 0.99 or so, and closer to 1 where there are many updates. Label
        quality and history are of the weights that are trained, and ``partial_fit`` goes on from these, not from what
        is in ``modules_``. None: predict with the last weights.
    device : "auto", str, int or torch.device, default="auto"
        "auto": the device of X where that is an accelerator, else an accelerator if torch reports one that supports
        the precision, else the CPU.
    precision : {"float32", "tf32", "bf16", "float64"}, default="float32"
        Of the networks and their inputs. "float32": products as torch is set (on CUDA, convolutions round to 10 bits
        unless it is told not to). "tf32": on CUDA all products round to 10 bits; elsewhere as "float32". "bf16":
        float32 weights, and layers that compute in bfloat16 (``torch.autocast``).
    compile : bool, default=False
        Whether the networks are trained as ``torch.compile`` makes them: slow to start, then faster if they are large.
    cross_fit_probabilities : bool, default=False
        Whether to keep what networks that have not seen an example's label say of it, as ``cross_fit_probabilities_``:
        for ``cleanlab.Datalab`` and whatever else asks for out-of-sample probabilities. Only with
        ``forget_rate="auto"``, whose choice they come from.
    early_stopping : bool, default=False
        Whether to end the training when the accuracy on a validation set has not grown for ``n_iter_no_change`` epochs,
        and to keep the networks of the best epoch, in either case. The validation set is ``X_val`` of :meth:`fit`, or
        else a part of X that is then not learnt from.
    validation_fraction : float in (0, 1), default=0.1
        The part, drawn with the same share of each given class. Only used if ``early_stopping`` and without ``X_val``.
    n_iter_no_change : int, default=10
        Epochs. Only used if ``early_stopping``.
    checkpoint : str or path, default=None
        A folder, made if it is not there, in which ``fit`` keeps its state: after the forget rate was chosen, then
        after the first epoch that ends ten seconds or more after the last time, and at the end. The same ``fit`` called
        again, in another process, too, goes on where it was killed and ends with the same bits (on the same device,
        with the same number of threads); one that is there finished is taken from there. So a search or a
        cross-validation that was killed does not train again what it had finished: every fit has a file of its own.

        Its name is a digest of all parameters (but ``verbose``, ``device`` and this one; callbacks are none), of X, y
        and weights, and of the versions of this package and torch; ``random_state`` has to be an integer. Of a Dataset
        a thousand items are looked at, and of functions and classes their own code, defaults and attributes as they are
        at the moment (who counts calls there begins another file), not what they call: where something else was
        changed, delete the folder, which nobody else does. Not in the file, and so begun anew: what callbacks, a
        Dataset, ``augment``, the optimizer or a module keep in attributes of their own. A fit ended by a
        callback counts as finished. A file holds some 70 bytes an example, its given label not among them, and with
        Adam three times the weights, until the end twice so much with ``early_stopping``; with
        ``cross_fit_probabilities`` four bytes more for each example and class. Reading it runs no code.
        ``partial_fit`` does not look at it.
    distributed : bool, default=False
        Whether the processes of the default group of ``torch.distributed`` train together: the script has called
        ``init_process_group``, and every process calls the same ``fit`` with the same X (which all can read), y and
        parameters. Each computes its part of every batch and reads that part alone; all end with the same fitted
        estimator, that of one process but for rounding. Dropout and augmentation are drawn by each for its part.
        ``device="auto"`` is the accelerator LOCAL_RANK. Messages go by gloo, by the host. The first process alone
        prints, writes checkpoints and runs callbacks; a checkpoint of so many processes goes on with any other number.
        If one fails, is interrupted or killed, all others raise. Batch normalisation is refused. The order of an
        epoch and what is known of each example are computed by each, for all examples.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, order of the examples, dropout and augmentation. An int gives the same bits again
        on the same machine with the same versions and number of threads. None draws from the operating system. Fits
        in several Python threads take turns, epoch by epoch.
    verbose : int, default=0
        0: silent; 1: what was found of the noise, and about ten lines a fit; 2: a line an epoch.
    **module__kwargs
        Parameters with a prefix: ``module__*`` and ``module2__*`` go to the modules, ``optimizer__*`` to the optimizer.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    n_features_in_ : int
        Size of the second axis of X; not there, where X is a dict.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X was a data frame with string column names.
    modules_ : tuple of two nn.Module
        The networks that predict, in eval mode: with averaged weights where ``average_decay`` is given.
    temperature_ : float
        What their logits are divided by before they become probabilities. With ``forget_rate="auto"``: so much that on
        the training data they are as sure on average as networks that have not seen the labels can be. With a number
        nothing is held out to tell, and it is 1.0: see :class:`sklearn.calibration.CalibratedClassifierCV`.
        ``partial_fit`` keeps it.
    forget_rate_ : float
        The final forget rate: the one given, or chosen; a share of the weight that is trained with, ``class_weight``
        included. Under "auto" it may be 0 while ``noise_rate_`` is not: labels are wrong, and networks that learn from
        all of them are better nonetheless.
    class_forget_rates_ : ndarray of shape (n_classes,), float64
        What is forgotten of each given class, where that is not the same of all.
    noise_rate_ : float
        Share of wrong labels, counted by ``sample_weight`` only; with ``forget_rate="auto"``.
    noise_rate_std_ : float
        Its standard error; large where the labels cannot tell wrong ones from classes that overlap.
    noise_matrix_ : ndarray of shape (n_classes, n_classes), float64
        P(given | true): a row for each given class, a column for each true class; columns sum to one. With
        ``forget_rate="auto"``.
    forget_rate_schedule_ : ndarray of shape (epochs,), float64
        Forget rate of every epoch.
    n_iter_ : int
        Epochs that were run.
    best_epoch_ : int
        The first epoch (from 0) with the highest accuracy on the validation set, whose networks were kept; with
        ``early_stopping``.
    history_ : list of dict
        One entry an epoch: ``epoch`` (from 0), ``lr``, ``forget_rate``, ``loss`` and ``accuracy`` (a pair each: mean
        objective of the steps and weighted accuracy on the given labels, of either network during training),
        ``agreement`` (weighted share of examples on which the networks agree), ``changed`` (weighted share of examples
        of which another class is predicted, by both networks together, than when they were last in a batch; 1 in the
        first epoch, and in each of ``partial_fit``, which knows of none before), ``duration`` in seconds. With a
        validation set: ``val_accuracy`` and ``val_loss`` of the networks that predict, after the epoch, on its given
        labels, by sample weight; the loss is minus the mean log likelihood, which under "auto" goes through
        ``noise_matrix_``, so that networks are not blamed for labels that are wrong.
    kept_frequency_ : ndarray of shape (n_samples,), float64
        How much of each example the networks kept: the mean, over both networks and over the epochs from the end of the
        warm-up in which it was in a batch, of the share of its weight that was kept. Low is suspicious. An example
        never seen gets the mean of its given class. Where the fit was stopped within the warm-up, the mean over the
        epochs that were run. Not there after ``partial_fit``.
    label_quality_ : ndarray of shape (n_samples,), float64
        How likely each given label is right, in [0, 1]; low is suspicious. The probability of the given label in
        training, as a geometric mean over both networks and the same epochs as for ``kept_frequency_``. Where "auto"
        has chosen to forget, this is averaged, by the log odds, with the probability that the given label is right by
        networks that have not seen it: p(given) P(given | given), divided by the sum over the true classes of
        p(true) P(given | true), with ``noise_matrix_`` and probabilities p that are tempered where they are too sure;
        p(given) where there is no noise. For an example that was in no batch, the probability by the fitted networks
        instead of that in training. Not there after ``partial_fit``.

    cross_fit_probabilities_ : ndarray of shape (n_samples, n_classes), float64
        Of each training example, by networks that were trained on the other half of the data, for a quarter to a third
        of the epochs; of the given labels as they are, ``class_weight`` left out. With
        ``cross_fit_probabilities=True``, where there were enough data. Not there after ``partial_fit``.

    References
    ----------
    Han, Yao, Yu, Niu, Xu, Hu, Tsang, Sugiyama: "Co-teaching: Robust training of deep neural networks with extremely
    noisy labels", NeurIPS 2018 (arXiv:1804.06872).

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skcoteach import CoTeachingClassifier
    >>> X, y = make_blobs(n_samples=600, centers=3, random_state=0)
    >>> given = y.copy()
    >>> given[::4] = (given[::4] + 1) % 3  # every fourth label is wrong
    >>> clf = CoTeachingClassifier(epochs=40, random_state=0).fit(X, given)
    >>> bool(0.2 < clf.noise_rate_ < 0.3)
    True
    >>> clf.predict_proba(X[:2]).shape
    (2, 3)
    >>> bool(clf.score(X, y) > 0.9)
    True
    >>> bool(clf.get_label_issues()["is_label_issue"][::4].mean() > 0.8)
    True
    """

    _parameter_constraints: dict = {
        "module": [callable, None],
        "module2": [callable, None],
        "forget_rate": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "num_gradual": [Interval(Integral, 0, None, closed="left"), None],
        "exponent": [Interval(Real, 0, None, closed="neither")],
        "class_floor": [Interval(Real, 0, 1, closed="both")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "num_iter_per_epoch": [Interval(Integral, 1, None, closed="left"), None],
        "optimizer": [callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "epoch_decay_start": [Interval(Integral, 0, None, closed="left"), None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "augment": [callable, None],
        "average_decay": [Interval(Real, 0, 1, closed="left"), None],
        "device": [str, Interval(Integral, 0, None, closed="left"), torch.device],
        "precision": [StrOptions({"float32", "tf32", "bf16", "float64"})],
        "compile": ["boolean"],
        "cross_fit_probabilities": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "checkpoint": [str, os.PathLike, None],
        "distributed": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module: nn.Module | Callable[..., nn.Module] | None = None,
        module2: nn.Module | Callable[..., nn.Module] | None = None,
        *,
        forget_rate: float | str = "auto",
        num_gradual: int | None = None,
        exponent: float = 1.0,
        class_floor: float = 0.75,
        epochs: int = 100,
        batch_size: int = 128,
        num_iter_per_epoch: int | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 1e-3,
        epoch_decay_start: int | None = None,
        class_weight: dict[Any, float] | str | None = None,
        augment: Callable[[Any], Any] | None = None,
        average_decay: float | None = None,
        device: str | int | torch.device = "auto",
        precision: str = "float32",
        compile: bool = False,
        cross_fit_probabilities: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        checkpoint: str | os.PathLike | None = None,
        distributed: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
        **module__kwargs: Any,
    ) -> None:
        self.module = module
        self.module2 = module2
        self.forget_rate = forget_rate
        self.num_gradual = num_gradual
        self.exponent = exponent
        self.class_floor = class_floor
        self.epochs = epochs
        self.batch_size = batch_size
        self.num_iter_per_epoch = num_iter_per_epoch
        self.optimizer = optimizer
        self.lr = lr
        self.epoch_decay_start = epoch_decay_start
        self.class_weight = class_weight
        self.augment = augment
        self.average_decay = average_decay
        self.device = device
        self.precision = precision
        self.compile = compile
        self.cross_fit_probabilities = cross_fit_probabilities
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.checkpoint = checkpoint
        self.distributed = distributed
        self.random_state = random_state
        self.verbose = verbose
        for name in module__kwargs:
            if not is_prefixed(name):
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}."
                    f"{meant_by(name, self._get_param_names())}"
                )
        self.__dict__.update(module__kwargs)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Of a subclass, too, whose ``__init__`` passes on as keywords what it does not name."""
        names = super()._get_param_names()
        named_by = next(each for each in cls.__mro__ if "__init__" in vars(each))
        kinds = {each.kind for each in inspect.signature(vars(named_by)["__init__"]).parameters.values()}
        if named_by is CoTeachingClassifier or inspect.Parameter.VAR_KEYWORD not in kinds:
            return names
        above = next(each for each in named_by.__mro__[1:] if issubclass(each, CoTeachingClassifier))
        return sorted({*names, *above._get_param_names()})

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of this estimator, those with a prefix included.

        Parameters
        ----------
        deep : bool, default=True
            Also those of parameters that are estimators themselves.

        Returns
        -------
        dict
            Names mapped to values.
        """
        return super().get_params(deep=deep) | {name: value for name, value in vars(self).items() if is_prefixed(name)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator, those with a prefix included.

        Parameters
        ----------
        **params : dict
            Names mapped to values.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is unknown. Then nothing is changed.
        """
        unknown = [name for name in params if not is_prefixed(name) and name not in self._get_param_names()]
        if unknown:
            raise ValueError(
                f"Invalid parameter {unknown[0]!r} for estimator {self}."
                f"{meant_by(unknown[0], self._get_param_names())} Valid parameters are: {self._get_param_names()!r}, "
                f"and names that start with {', '.join(PREFIXES)}."
            )
        self.__dict__.update(params)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags

    _doc_link_module = "skcoteach"

    @property
    def _doc_link_template(self) -> str:
        """What the HTML repr links to; no link where it is empty."""
        return documentation_url()

    def _validate_params(self) -> None:
        refuse_odd_numbers(self.get_params(deep=False))
        super()._validate_params()
        if self.cross_fit_probabilities and self.forget_rate != "auto":
            raise InvalidParameterError(
                'cross_fit_probabilities=True needs forget_rate="auto": with a number, no network is trained on a part '
                "of the data."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return "modules_" in vars(self)

    @with_callbacks
    @ignoring_callers_modes()
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train two fresh networks on X and the given labels.

        Parameters
        ----------
        X : array-like, tensor, data frame, sparse matrix, dict of arrays, Dataset or list of items
            Training inputs of shape (n_samples, ...), with at least two axes. The items of a Dataset are x, or a tuple
            whose first element is x; a label in it is not looked at.

            The entries of a dict, arrays, memory maps or tensors of one length, reach ``forward`` as keywords: floats
            in the precision of the training, integers as int64, bools as such, and uint8 images divided by 255.
            scikit-learn cannot cut a dict: for searches and cross-validation give
            ``torch.utils.data.StackDataset(**X)``, or any Dataset whose x is a dict. A dataset of Hugging Face in
            torch's format, ``X.select_columns(names).with_format("torch")``, is one; for scikit-learn to cut it, give
            ``torch.utils.data.Subset(X, range(len(X)))``.

            What does not fit into memory may be a memory map, or :class:`skcoteach.data.ParquetRows`, or another
            Dataset that says in which blocks it is stored (see :mod:`skcoteach.data`).
        y : array-like or tensor of shape (n_samples,)
            Given labels: numbers, strings, objects or bools.
        sample_weight : array-like or tensor of shape (n_samples,), default=None
            Weight 2 counts as the example twice, weight 0 as its absence.
        X_val : as X, of shape (n_val, ...), default=None
            Other examples, on which the networks are tried after every epoch: ``val_accuracy`` and ``val_loss`` of
            ``history_``. In a pipeline, ``Pipeline(..., transform_input=["X_val"])`` transforms them as it does X; it
            wants ``sklearn.set_config(enable_metadata_routing=True)`` and ``set_fit_request(X_val=True, y_val=True)``.
        y_val : array-like or tensor of shape (n_val,), default=None
            Their given labels, which may be wrong, too; given with X_val.
        sample_weight_val : array-like or tensor of shape (n_val,), default=None
            Their weights.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If parameters or data cannot be used. An earlier fit is then left as it was.
        RuntimeError
            With ``distributed``: if another process has failed or is lost, or if two fits of this process overlap.
        KeyboardInterrupt
            If interrupted. After the first epoch, the epochs done are kept and the estimator is fitted by them; before,
            an earlier fit is left as it was.
        """
        with joined(self.distributed is True) as processes:
            return self._fit(processes, X, y, sample_weight, X_val, y_val, sample_weight_val)

    def _fit(
        self, processes: Processes, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, sample_weight_val: Any
    ) -> Self:
        self._validate_params()
        with random_state(CPU, first_look()):
            given = validate(self, X, y, sample_weight, reset=True)
            beside = validate_beside(self, given, X_val, y_val, sample_weight_val)
        config = resolve(self.get_params(deep=False), X, processes=processes)
        share = self.validation_fraction if self.early_stopping and beside is None else 0.0
        networks, data, validation = _networks_and_data(config, given, share)
        if beside is not None:
            validation = ValidationSet.of(beside, data)
        if processes.size > 1:
            parts = digests_of_parts(self, given, beside, networks)
            processes.check_alike(parts, lambda part: f"distributed=True: all processes must be given the same {part}")

        checkpoint = Checkpoint.of_fit(self, given, beside, networks) if processes.is_first else Checkpoint(None)
        verbose = self.verbose if processes.is_first else 0
        tasks = Tasks(self, config.epochs, X, y, sample_weight, processes)
        trainer = self._begin_or_resume(config, data, networks, validation, checkpoint, tasks)
        finished = trainer.snapshot() if trainer.epoch else None  # the state after the last whole epoch
        try:
            stop = processes.from_first(checkpoint.is_finished)
            while trainer.epoch < config.epochs and not (stop or trainer.has_stopped_improving):
                task = tasks.begin("epoch")
                trainer.run_epoch()
                finished = trainer.snapshot()
                checkpoint.write_if_due(trainer)
                print_epoch(verbose, trainer.history[-1], config.epochs)
                stop = tasks.end(task, lambda: fitted_attributes(trainer, given, copies=True))
            if trainer.best_epoch is not None:
                print_return(verbose, trainer.best_epoch)
            trainer.return_to_best()
            checkpoint.write(trainer, at_end=True)
            tasks.end(tasks.fit, lambda: fitted_attributes(trainer, given, copies=True))
            _warn_of_starved_classes(trainer, given)
            return self._assign(fitted_attributes(trainer, given))
        except KeyboardInterrupt:
            if finished is not None:
                with InterruptsHeldBack():  # who presses once may press twice
                    trainer.load_state_dict(finished)
                    trainer.return_to_best()
                    self._assign(fitted_attributes(trainer, given))
            raise

    def _begin_or_resume(
        self,
        config: TrainingConfig,
        data: TrainingData,
        networks: tuple[nn.Module, nn.Module],
        validation: ValidationSet | None,
        checkpoint: Checkpoint,
        tasks: Tasks,
    ) -> Trainer:
        """A trainer that has all before it, or the rest of what was killed, or nothing any more."""
        resumed = checkpoint.resumed(config, data, networks, validation)
        if resumed is not None and self.verbose:
            print(checkpoint.describe(resumed))
        found = config.processes.from_first(None if resumed is None else resumed.state_dict())
        if resumed is None and found is not None:
            resumed = Trainer(config, data, NoiseEstimate(0.0), [copy_of(each) for each in networks], validation)
            resumed.load_state_dict(found)
        if resumed is not None:
            if self.forget_rate == "auto":
                too_few_data(data)  # which warns
            return resumed
        trainer = Trainer(config, data, self._estimate_noise(config, data, tasks), networks, validation)
        if self.forget_rate == "auto":
            checkpoint.write(trainer)
        return trainer

    def _estimate_noise(self, config: TrainingConfig, data: TrainingData, tasks: Tasks) -> NoiseEstimate:
        """What the data say of their labels, where the forget rate is not given."""
        if self.forget_rate != "auto":
            return NoiseEstimate(float(self.forget_rate))
        if too_few_data(data):
            return unknown(data.n_classes)
        verbose = self.verbose if config.processes.is_first else 0
        begin_estimate(verbose, len(data.drawn))
        cross_fit = CrossFit(config, data)
        estimate = tasks.begin("estimate", max_subtasks=cross_fit.max_steps)
        stop = False
        while not cross_fit.is_finished and not stop:
            task = tasks.begin("cross-fit epoch", within=estimate)
            cross_fit.run_step()
            stop = tasks.end(task)
        tasks.end(estimate)
        wanted = self.cross_fit_probabilities
        found = cross_fit.noise_estimate(with_probabilities=wanted) if cross_fit.is_finished else None
        end_estimate(verbose, found)
        return stopped_early(data.n_classes) if found is None else found

    @_WithGivenForgetRate
    @ignoring_callers_modes()
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch, over X, at position ``n_iter_`` of the schedules.

        There only while ``forget_rate`` is a number. The networks and the state of the optimizers go on from the last
        call, or from ``fit``. Beyond the last epoch of the schedules their last values hold. Every batch is ranked as a
        whole: ``class_floor`` goes by the losses of an epoch before, of which a call knows nothing. The first call sets
        the standardisation of the default network: its X should be typical of what follows.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever occur; needed at the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If parameters or data cannot be used. The earlier state is then left as it was.
        """
        self._validate_params()
        if self.early_stopping:
            raise InvalidParameterError("partial_fit does not support early_stopping=True: it trains for one epoch.")
        if self.distributed:
            raise InvalidParameterError("partial_fit does not support distributed=True. Use fit.")
        if self.class_weight == "balanced":
            raise InvalidParameterError(
                'class_weight="balanced" needs all of y at once, which partial_fit does not see. Compute the weights '
                "with sklearn.utils.compute_class_weight and pass them as a dict."
            )
        earlier = self._state if self.__sklearn_is_fitted__() else None
        if classes is not None:
            classes = sorted_classes(classes)
        elif earlier is None:
            raise ValueError("classes must be passed on the first call to partial_fit: all that will ever occur.")
        parameters, noise_estimate = self.get_params(deep=False), NoiseEstimate(float(self.forget_rate))
        if earlier is None:
            with random_state(CPU, first_look()):
                given = validate(self, X, y, sample_weight, classes, reset=True)
            config = resolve(parameters, X)
            networks, data, _ = _networks_and_data(config, given)
            trainer = Trainer(config, data, noise_estimate, networks)
        else:
            if classes is not None and not np.array_equal(classes, earlier.classes):
                raise ValueError(f"classes={classes} differs from the classes of the earlier call: {earlier.classes}.")
            with random_state(CPU, first_look()):
                given = validate(self, X, y, sample_weight, earlier.classes, reset=False)
            check_form(given.inputs.form, earlier.form, type(self).__name__)
            networks = copy.deepcopy(self.modules_)
            parameter = next(networks[0].parameters())
            config = resolve(parameters, X, device=parameter.device, seed=earlier.seed)
            data = TrainingData.of(given, parameter.device, parameter.dtype, as_indices=earlier.form.as_indices)
            trainer = Trainer(config, data.moved_to_device(), noise_estimate, networks)
            go_on(trainer, earlier, self.history_)
        trainer.run_epoch()
        print_epoch(self.verbose, trainer.history[-1], config.epochs)
        temperature = 1.0 if earlier is None else self.temperature_
        return self._assign(fitted_attributes(trainer, given, temperature=temperature, per_example=False))

    def get_label_issues(self) -> "DataFrame":
        """What the fit has found out about every given label.

        Returns
        -------
        DataFrame of n_samples rows
            In the order of the training data, with the index of X where that is a pandas.DataFrame, or else of y where
            that is of pandas, and with the columns of
            :meth:`cleanlab.classification.CleanLearning.get_label_issues`:

            - ``is_label_issue`` (bool): whether the label is taken to be wrong: the labels of lowest quality, as many
              as ``noise_rate_`` says, or else ``forget_rate_``, but for those that are predicted. Never of an example
              of weight 0.
            - ``label_quality`` (float64): as ``label_quality_``.
            - ``given_label`` and ``predicted_label``: of the dtype of ``classes_`` (strings: as pandas holds them), or
              int16 where the classes are the integers 0 ... K - 1 (int32 where these are very many), as in cleanlab.
              The prediction is that of the networks when they last saw the example; where its quality is low, but they
              have learnt the given label, that of the networks that have not seen it.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted, or was last trained by :meth:`partial_fit`.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from skcoteach import CoTeachingClassifier
        >>> X, y = make_blobs(n_samples=600, centers=3, random_state=0)
        >>> y[0] = (y[0] + 1) % 3
        >>> issues = CoTeachingClassifier(epochs=20, random_state=0).fit(X, y).get_label_issues()
        >>> list(issues.columns)
        ['is_label_issue', 'label_quality', 'given_label', 'predicted_label']
        >>> int(issues["label_quality"].argmin())
        0
        """
        from pandas import DataFrame  # which comes with cleanlab and takes long to import

        check_is_fitted(self)
        labels = self._state.labels
        if labels is None:
            raise NotFittedError(
                f"This {type(self).__name__} holds nothing of single examples: it was trained by partial_fit, loaded "
                "from a file of skcoteach.save, or forget_training_data was called. Label issues are found by fit."
            )
        classes = self._state.classes
        if classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes))):
            classes = classes.astype(
                np.int16 if len(classes) < np.iinfo(np.int16).max else np.int32
            )  # as cleanlab does
        return DataFrame(
            {
                "is_label_issue": labels.is_issue.copy(),
                "label_quality": to_host(self.label_quality_).astype(np.float64),
                "given_label": classes[labels.given],
                "predicted_label": classes[labels.predicted],
            },
            index=self._state.index,
        )

    def as_module(self) -> nn.Module:
        """The fitted networks as one module: from inputs to probabilities, without scikit-learn.

        It does what :meth:`predict_proba` does (both networks, their mean, ``temperature_``, the standardisation of the
        default network), in the precision of the networks, for ``torch.export`` and ``torch.onnx.export`` (which needs
        ``pip install onnx onnxscript``). Its networks are copies, in eval mode, on the device of the networks; their
        parameters ask for no gradients.

        Returns
        -------
        nn.Module
            Its ``forward`` takes a tensor of shape (n, ...) of the kind of X (uint8 images are divided by 255), or a
            dict of tensors, where X was a dict, and returns probabilities of shape (n, n_classes), in the order of
            ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import make_blobs
        >>> from skcoteach import CoTeachingClassifier
        >>> X, y = make_blobs(n_samples=200, centers=3, random_state=0)
        >>> module = CoTeachingClassifier(epochs=3, random_state=0).fit(X, y).as_module()
        >>> module(torch.from_numpy(X[:2])).shape
        torch.Size([2, 3])
        >>> any_size = {0: torch.export.Dim("n")}
        >>> program = torch.export.export(module, (torch.from_numpy(X[:2]),), dynamic_shapes=(any_size,))
        >>> program.module()(torch.from_numpy(X)).shape
        torch.Size([200, 3])
        """
        check_is_fitted(self)
        return ProbabilityModule(self.modules_, self.temperature_, self._state.form)

    def forget_training_data(self) -> Self:
        """Drop all that is known of single training examples, before the estimator is published, say.

        A fitted estimator, and a pickle of it, holds some 20 bytes of each training example: its given label, the one
        that was predicted, its label quality and how often it was kept, and eight more for each class with
        ``cross_fit_probabilities``. Predictions and ``partial_fit`` do not need them. What was found of all together
        (``noise_matrix_``, ``history_``) stays.

        Returns
        -------
        self
            Without ``label_quality_``, ``kept_frequency_`` and ``cross_fit_probabilities_``;
            :meth:`get_label_issues` raises.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from skcoteach import CoTeachingClassifier
        >>> X, y = make_blobs(n_samples=200, centers=3, random_state=0)
        >>> classifier = CoTeachingClassifier(epochs=3, random_state=0).fit(X, y).forget_training_data()
        >>> hasattr(classifier, "label_quality_")
        False
        """
        check_is_fitted(self)
        state = {"_state": self._state.without_examples()}
        self.__dict__ = {name: value for name, value in vars(self).items() if name not in OF_EXAMPLES} | state
        return self

    def _assign(self, fitted: dict) -> Self:
        """Replace all fitted attributes at once: an interruption finds those of before or those of now."""
        self.__dict__ = {name: value for name, value in vars(self).items() if name not in FITTED_NAMES} | fitted
        return self

    def predict(self, X: Any) -> Any:
        """The class with the highest probability.

        Parameters
        ----------
        X : array-like, tensor, data frame, sparse matrix, dict of arrays, Dataset or list of items
            Inputs of shape (n_samples, ...), of the form of those of ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Of the dtype of ``classes_``. With array API dispatch, an array of the library and on the device of X.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError, TypeError
            If X cannot be used, or differs in form from the X of ``fit``.
        """
        codes = self._predict(X, "predict", mean_probabilities).argmax(1)
        if isinstance(self.classes_, np.ndarray):
            return self.classes_[codes.cpu().numpy()]
        return to_namespace_of(self._state.classes[codes.cpu().numpy()], X)

    def predict_proba(self, X: Any, out: np.ndarray | None = None) -> Any:
        """Mean of both networks' probabilities.

        Parameters
        ----------
        X : array-like, tensor, data frame, sparse matrix, dict of arrays, Dataset or list of items
            Inputs of shape (n_samples, ...), of the form of those of ``fit``.
        out : ndarray or memmap of shape (n_samples, n_classes), float32 or float64, default=None
            Filled with the probabilities batch by batch, so that of many examples nothing is held in memory. It is of
            NumPy, whatever X is.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one. With array API dispatch, an array of the library and on the device of X. ``out``, where it
            is given.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As :meth:`predict`; if ``out`` is no such array, before it is written to. Where the networks return NaN
            for some examples, the rows of ``out`` before these are filled.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import make_blobs
        >>> from skcoteach import CoTeachingClassifier
        >>> X, y = make_blobs(n_samples=200, centers=3, random_state=0)
        >>> clf = CoTeachingClassifier(epochs=3, random_state=0).fit(X, y)
        >>> out = np.empty((200, 3), dtype=np.float32)  # or of numpy.lib.format.open_memmap
        >>> clf.predict_proba(X, out=out) is out
        True
        """
        if out is not None:
            self._predict_into(out, X, "predict_proba", mean_probabilities)
            return out
        return to_namespace_of(self._predict(X, "predict_proba", mean_probabilities), X)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of :meth:`predict_proba`, without loss of precision for small probabilities.

        Parameters
        ----------
        X : array-like, tensor, data frame, sparse matrix, dict of arrays, Dataset or list of items
            Inputs of shape (n_samples, ...), of the form of those of ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            With array API dispatch, an array of the library and on the device of X.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As :meth:`predict`.
        """
        return to_namespace_of(self._predict(X, "predict_log_proba", log_mean_probabilities), X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of :meth:`predict` on X against y.

        Parameters
        ----------
        X : array-like, tensor, data frame, sparse matrix, dict of arrays, Dataset or list of items
        y : array-like or tensor of shape (n_samples,)
        sample_weight : array-like or tensor of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        return accuracy_score(to_host(y), to_host(self.predict(X)), sample_weight=to_host(sample_weight))

    def _predict(self, X: Any, method: str, combine: Callable[..., Tensor]) -> Tensor:
        """Both networks' logits on X, combined, (n_samples, n_classes) on the device of the networks."""
        inputs = self._inputs(X, method)
        found = predict(self.modules_, inputs, **self._prediction(combine))
        _refuse_nan(found, len(found))
        return found

    def _predict_into(self, out: np.ndarray, X: Any, method: str, combine: Callable[..., Tensor]) -> None:
        """The same, filled into an array."""
        inputs = self._inputs(X, method)
        _check_out(out, (len(inputs), len(self._state.classes)))
        n_done = 0

        def fill(found: Tensor) -> None:
            nonlocal n_done
            _refuse_nan(found, len(out), n_done)
            out[n_done : n_done + len(found)] = found.cpu().numpy()
            n_done += len(found)

        predict_in_chunks(self.modules_, inputs, receive=fill, **self._prediction(combine))

    def _prediction(self, combine: Callable[..., Tensor]) -> dict[str, Any]:
        tempered = functools.partial(combine, temperature=self.temperature_)
        return {"combine": tempered, "n_classes": len(self._state.classes), "precision": self.precision}

    def _inputs(self, X: Any, method: str) -> Inputs:
        """X for the networks, if it is like that of ``fit``."""
        check_is_fitted(self)
        if not (is_items(X) or is_dict(X)):
            check_same_namespace(X, self, attribute="forget_rate_schedule_", method=method)
        inputs = check_X(self, X, reset=False)
        check_form(inputs.form, self._state.form, type(self).__name__)
        parameter = next(self.modules_[0].parameters())
        return inputs.to(parameter.device, parameter.dtype, as_indices=self._state.form.as_indices)

    def __copy__(self) -> Self:
        shallow = type(self).__new__(type(self))
        shallow.__dict__.update(self.__dict__)
        return shallow

    def __getstate__(self) -> dict[str, Any]:
        return with_version(for_cpu(dict(super().__getstate__())))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(for_here(without_version(state)))


def _networks_and_data(
    config: TrainingConfig, given: ValidatedData, share_held_out: float = 0.0
) -> tuple[tuple[nn.Module, nn.Module], TrainingData, ValidationSet | None]:
    """Two fresh networks that can teach each other, what they learn from, and what is held out of it."""
    validation = None
    with random_state(config.device, initial_weights(config.seed)):
        networks = make_networks(config, given.inputs.form.item_shape, len(given.classes))
        data = TrainingData.of(given, config.device, config.dtype, as_indices=reads_indices(networks[0]))
        check_networks(networks, data)
        refuse_batch_statistics(networks, config.processes)
        warn_of_lost_digits(data)
        warn_of_sorted_blocks(data)
        data = data.moved_to_device()
        if share_held_out:
            with random_state(CPU, validation_split(config.seed)):
                data, validation = hold_out(data, share_held_out)
        standardize(networks, data, config.processes)
    return networks, data, validation


def _refuse_nan(found: Tensor, n_samples: int, first: int = 0) -> None:
    """Raise where something is NaN in predictions, which are for some of all rows."""
    unknown = found.isnan().any(1)
    if unknown.any():
        rows = (first + unknown.nonzero()[:5, 0]).tolist()
        some = f"{int(unknown.sum())} of {n_samples} examples" if len(found) == n_samples else "some examples"
        raise ValueError(
            f"The networks return NaN for {some}, rows {rows} among them: X holds NaN there, or numbers that are too "
            "large for the networks."
        )


def _check_out(out: Any, shape: tuple[int, int]) -> None:
    """Refuse what probabilities of this shape cannot be filled into."""
    expected = f"out must be a NumPy array or memory map of shape {shape}, float32 or float64, that can be written to"
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{expected}; got {type(out).__name__}.")
    if out.shape != shape:
        raise ValueError(f"{expected}; got shape {out.shape}.")
    if out.dtype not in (np.float32, np.float64):
        raise ValueError(f"{expected}; got dtype {out.dtype}.")
    if not out.flags.writeable:
        raise ValueError(
            f"{expected}; it is read-only"
            + (' (mode="r+" opens a map for writing).' if isinstance(out, np.memmap) else ".")
        )


def _warn_of_starved_classes(trainer: Trainer, given: ValidatedData) -> None:
    """Name the classes of which nothing was kept at the end."""
    starved = given.classes[trainer.starved_classes()].tolist()
    if starved:
        warn_user(
            f"Of those with the given label(s) {starved} nothing was kept in the last epoch; the networks forget "
            "them. A class_floor above 0, or a smaller forget_rate, keeps some of each class."
        )
