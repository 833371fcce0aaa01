"""How blocks of rows come to the device: from where they lie, read ahead by a thread, or loaded by processes.

What a row is and how it is converted, ``batches`` knows. Here it is only decided who fetches it, and when.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from skcoteach.batches import Rows, item_of

#: Processes that load the items of a Dataset for an accelerator, where there are as many cores to spare.
MOST_WORKERS = 4


def stream(rows: Rows, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of an order, in blocks, without waiting for the device.

    The items of a Dataset are loaded by processes if an accelerator waits for them. Other rows that are on the disk, or
    not on the device, are read by a thread while the block before is worked on.

    Parameters
    ----------
    rows : Rows
    order : Tensor of shape (n,), int64, on the CPU
        Row numbers.
    size : int
        Rows of a block; the last one may have fewer.

    Yields
    ------
    numbers : Tensor of shape (n_rows,), int64, on the device
    block : Tensor of shape (n_rows, ...), on the device
        The rows with these numbers, as ``rows`` gives them.
    """
    on_cuda = rows.device.type == "cuda"
    here = (order.pin_memory() if on_cuda else order).to(rows.device, non_blocking=on_cuda).split(size)
    parts = order.split(size)
    if rows.is_dataset and _n_workers(rows.device) and _may_fork(rows):
        blocks = _by_processes(rows, parts)
    elif rows.is_far:
        blocks = _read_ahead(rows, parts)
    else:
        blocks = (rows[part] for part in (here if rows.is_settled else parts))
    return zip(here, blocks, strict=True)


def _n_workers(device: torch.device) -> int:
    """None for the CPU, whose cores are busy with the networks."""
    return 0 if device.type == "cpu" else min(MOST_WORKERS, (os.cpu_count() or 1) - 1)


def _may_fork(rows: Rows) -> bool:
    """Whether processes can be started here and can load the items."""
    fork = multiprocessing.get_start_method(allow_none=True) in (None, "fork") and os.name == "posix"
    return fork and not multiprocessing.current_process().daemon and item_of(rows.X, 0).is_cpu


class _Blocks(TorchDataset):
    """A Dataset of which an item is a block of rows on the host."""

    def __init__(self, rows: Rows, parts: Sequence[Tensor]):
        self.rows = rows
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Tensor:
        return self.rows.read(self.parts[number])


def _by_processes(rows: Rows, parts: Sequence[Tensor]) -> Iterator[Tensor]:
    on_cuda = rows.device.type == "cuda"
    workers = _n_workers(rows.device)
    for block in DataLoader(_Blocks(rows, parts), batch_size=None, num_workers=workers, pin_memory=on_cuda):
        yield rows.finish(block)


def _read_ahead(rows: Rows, parts: Sequence[Tensor]) -> Iterator[Tensor]:
    with ThreadPoolExecutor(max_workers=1) as thread:
        sent = _Sender(rows)
        coming = thread.submit(sent, parts[0])
        for part in parts[1:]:
            block = coming.result()
            coming = thread.submit(sent, part)
            yield sent.arrived(block)
        yield sent.arrived(coming.result())


class _Sender:
    """Reads a block and sends it off; on CUDA by a stream of its own, beside the work on the block before."""

    def __init__(self, rows: Rows):
        self.rows = rows
        self.stream = torch.cuda.Stream(rows.device) if rows.device.type == "cuda" else None

    def __call__(self, part: Tensor) -> Tensor:
        block = self.rows.read(part)
        if self.stream is not None and block.device.type == "cpu":
            block = block.pin_memory()
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            return block.to(self.rows.device, non_blocking=self.stream is not None)

    def arrived(self, block: Tensor) -> Tensor:
        """The block, once it is there; the host does not wait for that."""
        if self.stream is not None:
            here = torch.cuda.current_stream(self.rows.device)
            here.wait_stream(self.stream)
            block.record_stream(here)
        return self.rows.finish(block)
