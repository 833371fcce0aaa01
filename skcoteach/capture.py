"""Many small kernels as one launch: what is done to a block of rows is recorded as a CUDA graph and replayed.

Where networks are small, a GPU waits for the host, which needs longer to launch a kernel than the kernel takes. What is
recorded is decided in ``training``, and where this can be done at all in ``run``.
"""

import gc
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

#: Steps that are launched kernel by kernel before a recording is made: about as many as take as long as that, so that
#: short trainings do without and long ones lose little. (Reckoned, not measured.)
EAGER_STEPS = 256

Tensors = tuple[Tensor, ...]
#: Records what a function does to tensors, without doing it. Gives what does it to whatever these tensors then hold,
#: and where it leaves its results.
Recorder = Callable[[Callable[..., Tensors], Tensors], tuple[Callable[[], None], Tensors]]
#: Shapes and types of tensors.
Form = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]


class _Recording(NamedTuple):
    inputs: Tensors
    replay: Callable[[], None]
    outputs: Tensors


def record_on_cuda(function: Callable[..., Tensors], inputs: Tensors) -> tuple[Callable[[], None], Tensors]:
    """Record a CUDA graph: a :data:`Recorder`.

    Other threads may go on using the device meanwhile, but not record: epochs take turns. Nothing is collected as
    garbage: an older graph that died now would end the recording.
    """
    device = inputs[0].device
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        collects = gc.isenabled()
        gc.disable()
        try:
            with (
                torch.cuda.stream(torch.cuda.current_stream(device)),  # again the current one, however the next ends
                torch.cuda.graph(graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"),
            ):
                outputs = function(*inputs)
        finally:
            if collects:
                gc.enable()
    return graph.replay, outputs


class Graphs:
    """Recordings of a function of tensors, one for each form of its inputs.

    The function must do the same whatever the numbers in the tensors are, and read nothing but its inputs and tensors
    that stay where they are.

    Parameters
    ----------
    record : Recorder

    Attributes
    ----------
    can_record : bool
        Of all: False once a recording has failed in this process.
    """

    can_record = True

    def __init__(self, record: Recorder):
        self._record = record
        self._n_steps: Counter[Form] = Counter()
        self._recordings: dict[Form, _Recording] = {}

    def __call__(self, function: Callable[..., Tensors], n_steps: int, *inputs: Tensor) -> Tensors:
        """What the function returns, which is overwritten by the next call.

        ``n_steps`` is how many steps of a training it stands for.
        """
        form = tuple((each.shape, each.dtype, each.device) for each in inputs)
        recording = self._recordings.get(form)
        if recording is None:
            self._n_steps[form] += n_steps
            return function(*inputs)
        for place, value in zip(recording.inputs, inputs, strict=True):
            place.copy_(value)
        recording.replay()
        return recording.outputs

    def record(self, function: Callable[..., Tensors]) -> None:
        """Record the function for the forms of inputs with which it has been called often enough.

        The device may be waited for. Where a recording fails, a warning says so and no more are made.
        """
        for form in [form for form, n_steps in self._n_steps.items() if n_steps >= EAGER_STEPS]:
            if not Graphs.can_record:
                return
            del self._n_steps[form]
            inputs = tuple(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in form)
            try:
                self._recordings[form] = _Recording(inputs, *self._record(function, inputs))
            except (RuntimeError, ValueError) as error:  # what torch refuses in a step is told as a ValueError
                Graphs.can_record = False
                reason = str(error.__context__ or error).strip() or repr(error)
                warnings.warn(
                    "The steps of the training cannot be recorded as a CUDA graph; from now on they are launched one "
                    "by one, which takes longer. If CUDA reports other errors after this, restart Python and set "
                    f"optimizer__fused=False, with which nothing is recorded. The reason: {reason.splitlines()[0]}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def forget(self) -> None:
        """Drop all recordings: tensors that they read are to be replaced, or the training has ended."""
        self._recordings.clear()
        self._n_steps.clear()
