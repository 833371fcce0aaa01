"""What an engine is, and what counts as logits."""

from typing import Any, Protocol

from torch import Tensor, nn, strided

from skcoteach._batches import Batch

#: The parameters of the estimator that make the first and the second network, for messages.
MODULES = ("module", "module2")


class Engine(Protocol):
    """How networks are computed, forward and backward; which gradient they get, is decided in ``steps``.

    Attributes
    ----------
    parameters : list of lists of nn.Parameter
        What the optimizer trains: a list for each network, or one for all where they lie in the same tensors.
    owns_memory : bool
        Whether the networks' weights lie as suits the engine, not as users expect them.
    """

    parameters: list[list[nn.Parameter]]
    owns_memory: bool

    def start(self) -> None:
        """Put the networks in train mode."""

    def rest(self) -> None:
        """Put the networks in eval mode; they hold no gradients and can be copied."""

    def prepare(self, inputs: Batch) -> Batch:
        """What can be done to many examples at once, before they are cut into batches."""

    def logits(self, inputs: Batch) -> Tensor:
        """The networks' logits for a batch of prepared inputs: (n_networks, n_classes, n), without a graph."""

    def backward(self, gradient: Tensor) -> None:
        """Set the gradient of every parameter, given that of the last logits, of their shape; once for these."""


def logits_in(outputs: Any) -> Any:
    """The tensor ``logits`` of an object that has one, as those of Hugging Face have; else the outputs themselves."""
    logits = None if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    return logits if isinstance(logits, Tensor) else outputs


def check_logits(outputs: Any, parameter: str, n: int, n_classes: int) -> Tensor:
    """The raw logits of the batch, or of :func:`logits_in` its outputs.

    Raises
    ------
    TypeError
        If a network returned something else than a tensor of floating point numbers.
    ValueError
        If the shape is not (n, n_classes).
    """
    outputs = logits_in(outputs)
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"The network made by {parameter} must return a tensor of raw logits; it returned a "
            f"{type(outputs).__name__}. An object with such a tensor as its attribute logits will do, too."
        )
    if outputs.layout != strided:
        raise TypeError(f"The network made by {parameter} must return dense logits; got layout {outputs.layout}.")
    if not outputs.is_floating_point() or outputs.itemsize < 2:  # of eight bits nothing is computed
        raise TypeError(f"The network made by {parameter} must return floating point logits; got {outputs.dtype}.")
    if tuple(outputs.shape) != (n, n_classes):
        raise ValueError(
            f"The network made by {parameter} must return raw logits of shape (n_samples, n_classes), here "
            f"{(n, n_classes)} (one column per class, also for two classes); got shape {tuple(outputs.shape)}."
        )
    return outputs
