"""How blocks of examples come to the device: from where they lie, read ahead by a thread, or loaded by processes.

What an example is and how it is converted, ``inputs`` knows. Here it is only decided who fetches it, and when.
"""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from skcoteach._batches import Batch, each_tensor, tensors_of
from skcoteach._data.inputs import Inputs, item_of

#: Processes that load the items of a Dataset for an accelerator, where there are as many cores to spare.
MOST_WORKERS = 4
#: Blocks that are read ahead where many are decoded at once.
BLOCKS_AHEAD = 6


def stream(inputs: Inputs, order: Tensor, size: int) -> Iterator[tuple[Tensor, Batch]]:
    """The examples of an order, in blocks, without waiting for the device.

    The items of a Dataset are loaded by processes if an accelerator waits for them. Other examples that are on the
    disk, or not on the device, are read by a thread while the block before is worked on; so are those of a Dataset that
    reads several at once and says so (:mod:`skcoteach.data`), further ahead, as it reads much at a time.

    Parameters
    ----------
    inputs : Inputs
    order : Tensor of shape (n,), int64, on the CPU
        Indices of examples.
    size : int
        Examples of a block; the last one may have fewer.

    Yields
    ------
    indices : Tensor of shape (n,), int64, on the device
    block : Tensor of shape (n, ...), or dict of such, on the device
        The examples with these indices, as ``inputs`` gives them.
    """
    on_cuda = inputs.device.type == "cuda"
    here = (order.pin_memory() if on_cuda else order).to(inputs.device, non_blocking=on_cuda).split(size)
    parts = order.split(size)
    if inputs.has_blocks:
        blocks = _read_ahead(inputs, parts, BLOCKS_AHEAD)
    elif inputs.is_dataset and _n_workers(inputs.device) and _may_fork(inputs):
        blocks = _by_processes(inputs, parts)
    elif inputs.is_far:
        blocks = _read_ahead(inputs, parts)
    else:
        blocks = (inputs[part] for part in (here if inputs.is_on_device else parts))
    return zip((part.long() for part in here), blocks, strict=True)


def read_ahead(inputs: Inputs, parts: Sequence[Tensor | slice]) -> Iterator[Batch]:
    """The examples with these indices, part by part, on the device, where much is read at a time."""
    return _read_ahead(inputs, parts, BLOCKS_AHEAD)


def _n_workers(device: torch.device) -> int:
    """None for the CPU, whose cores are busy with the networks."""
    return 0 if device.type == "cpu" else min(MOST_WORKERS, (os.cpu_count() or 1) - 1)


def _may_fork(inputs: Inputs) -> bool:
    """Whether processes can be forked here, as is usual on Linux, and can load the items."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    fork = chosen == "fork" or (chosen is None and sys.platform == "linux")
    may = fork and not multiprocessing.current_process().daemon
    return may and all(each.is_cpu for each in tensors_of(item_of(inputs.X, 0)))


class _Blocks(TorchDataset):
    """A Dataset of which an item is a block of examples on the host."""

    def __init__(self, inputs: Inputs, parts: Sequence[Tensor]):
        self.inputs = inputs
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Batch:
        return self.inputs.read(self.parts[number])


def _by_processes(inputs: Inputs, parts: Sequence[Tensor]) -> Iterator[Batch]:
    on_cuda = inputs.device.type == "cuda"
    blocks = DataLoader(
        _Blocks(inputs, parts),
        batch_size=None,
        num_workers=_n_workers(inputs.device),
        pin_memory=on_cuda,
        multiprocessing_context="fork",
    )
    for block in blocks:
        yield inputs.convert(block)


def _read_ahead(inputs: Inputs, parts: Sequence[Tensor | slice], n_ahead: int = 1) -> Iterator[Batch]:
    with ThreadPoolExecutor(max_workers=1) as thread:
        sent = _Sender(inputs)
        coming = deque(thread.submit(sent, part) for part in parts[:n_ahead])
        try:
            for part in parts[n_ahead:]:
                block = coming.popleft().result()
                coming.append(thread.submit(sent, part))
                yield sent.arrived(block)
            while coming:
                yield sent.arrived(coming.popleft().result())
        finally:
            thread.shutdown(cancel_futures=True)


class _Sender:
    """Reads a block and sends it off; on CUDA by a stream of its own, beside the work on the block before."""

    def __init__(self, inputs: Inputs):
        self.inputs = inputs
        self.stream = torch.cuda.Stream(inputs.device) if inputs.device.type == "cuda" else None

    def __call__(self, part: Tensor | slice) -> Batch:
        return each_tensor(self._sent, self.inputs.read(part))

    def _sent(self, block: Tensor) -> Tensor:
        if self.stream is not None and block.device.type == "cpu":
            block = block.pin_memory()
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            return block.to(self.inputs.device, non_blocking=self.stream is not None)

    def arrived(self, block: Batch) -> Batch:
        """The block, once it is there; the host does not wait for that."""
        if self.stream is not None:
            here = torch.cuda.current_stream(self.inputs.device)
            here.wait_stream(self.stream)
            each_tensor(lambda tensor: tensor.record_stream(here), block)
        return self.inputs.convert(block)
