"""One training in several processes: what each of them computes, and what they tell each other.

All processes run the same fit on the same data. Of every batch each computes its part; the log probabilities of all
parts are gathered, so that each process ranks the whole batch, and the gradients are added up. Everything else is done
by all of them alike, from the same numbers to the same bits. Messages go through a group of the fit's own, by gloo: a
process that fails leaves it, and that ends the others' waiting, too.
"""

import itertools
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

from skcoteach._digest import digest_of
from skcoteach._errors import OtherProcessError, first_line
from skcoteach._sklearn import InvalidParameterError
from skcoteach._torch import default_store, uses_batch_statistics
from skcoteach._training.module_state import state_of

T = TypeVar("T")

#: Held by the fit that has the process: its messages would mix with those of another one.
_ONE_AT_A_TIME = threading.Lock()


class Processes:
    """Those that train together; a fit by itself is one that is alone.

    Parameters
    ----------
    group : ProcessGroup, optional
        Of all of them. None: there is but this one.

    Attributes
    ----------
    size, rank : int
        How many there are, and the number of this one.
    """

    def __init__(self, group: Any = None):
        self._group = group
        self.size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that prints, writes and calls back."""
        return self.rank == 0

    def part_of(self, values: Tensor) -> Tensor:
        """This process's part of a batch, along the last axis.

        The parts are equally long; where there are too few examples, the last ones are padded with zeros.
        """
        if self.size == 1:
            return values
        length = self.length_of_part(values.shape[-1])
        padded = pad(values, (0, length * self.size - values.shape[-1]))
        return padded[..., self.rank * length : (self.rank + 1) * length]

    def length_of_part(self, n: int) -> int:
        """Examples of each part of so many."""
        return -(-n // self.size)

    def part_of_order(self, order: Tensor, batch_size: int) -> Tensor:
        """Indices of this process's parts of the batches of an order; where it is padded, the batch's last one."""
        if self.size == 1:
            return order
        batches = order.split(batch_size)
        places = [torch.arange(self.length_of_part(len(each)), device="cpu") for each in batches]
        return torch.cat([
            batch[(own + self.rank * len(own)).clamp_(max=len(batch) - 1)]
            for batch, own in zip(batches, places, strict=True)
        ])  # fmt: skip

    def gathered(self, part: Tensor, n: int) -> Tensor:
        """What all know of a batch of ``n`` examples, along the last axis, of what each knows of its part."""
        if self.size == 1:
            return part
        own = part.detach().cpu().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        self._exchange(dist.all_gather, parts, own)
        return torch.cat(parts, -1)[..., :n].to(part.device)

    def add_gradients(self, parameters: Sequence[Sequence[nn.Parameter]]) -> None:
        """Give all the sum of the gradients that each has of its part; None where no process has one."""
        if self.size == 1:
            return
        each = list(itertools.chain.from_iterable(parameters))
        if any(parameter.grad is not None and parameter.grad.layout != torch.strided for parameter in each):
            raise ValueError("distributed=True cannot add up sparse gradients. Make the embedding with sparse=False.")
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in each]
        found = torch.tensor([p.grad is not None for p in each], dtype=own[0].dtype, device="cpu")
        together = torch.cat([*(gradient.flatten().cpu() for gradient in own), found])
        self._exchange(dist.all_reduce, together)
        *sums, found = together.split([*(gradient.numel() for gradient in own), len(each)])
        for parameter, gradient, total, is_there in zip(each, own, sums, found.tolist(), strict=True):
            parameter.grad = gradient.copy_(total.view(gradient.shape)) if is_there else None

    def from_first(self, value: T) -> T:
        """What the first process has here."""
        if self.size == 1:
            return value
        values = [value if self.is_first else None]
        self._exchange(dist.broadcast_object_list, values, 0)
        return values[0]  # type: ignore[return-value]

    def check_alike(self, digests: dict[str, Any], sentence: Callable[[str], str]) -> None:
        """Refuse what is not the same in all processes, in all of them.

        Parameters
        ----------
        digests : dict
            What is compared, by its name.
        sentence : callable
            What is said of the name.

        Raises
        ------
        ValueError
        """
        if self.size == 1:
            return
        of_all: list[Any] = [None] * self.size
        self._exchange(dist.all_gather_object, of_all, digests)
        for name in digests:
            others = [rank for rank in range(1, self.size) if of_all[rank].get(name) != of_all[0].get(name)]
            if others:
                raise ValueError(f"{sentence(name)} (those of process 0 and process {others[0]} differ)")

    def leave(self, error: BaseException) -> None:
        """End the others' waiting and tell them why."""
        if self._group is None:
            return
        with suppress(Exception):  # who reports to the others first is heard; the store may be gone
            reason = f"process {self.rank} has ended the fit with {type(error).__name__}: {error}"
            if not isinstance(error, OtherProcessError):
                default_store().compare_set(self._key, "", reason)
        self.close()

    def close(self) -> None:
        """Leave the group."""
        if self._group is not None:
            group, self._group = self._group, None
            with suppress(Exception):
                dist.destroy_process_group(group)

    @property
    def _key(self) -> str:
        return f"skcoteach/{self._group.group_name}"

    def _exchange(self, exchange: Callable[..., Any], *arguments: Any) -> None:
        try:
            exchange(*arguments, group=self._group)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # the group is closed when nothing holds it any more
            if isinstance(error, RuntimeError):
                raise OtherProcessError(self._what_happened(error)) from error
            raise

    def _what_happened(self, error: RuntimeError) -> str:
        with suppress(Exception):  # the store is where process 0 was, maybe
            store = default_store()
            if store.check([self._key]):
                return f"distributed=True: {store.get(self._key).decode()}"
        return _lost(error)


#: A fit by itself.
ALONE = Processes()


@contextmanager
def joined(distributed: bool) -> Iterator[Processes]:
    """The processes of the default process group for a fit, or this one alone.

    Whatever is raised within, also Ctrl-C, ends the fit of the others.

    Raises
    ------
    InvalidParameterError
        If there is no default process group.
    RuntimeError
        If another fit of this process has it.
    """
    if not distributed:
        yield ALONE
        return
    if not (dist.is_available() and dist.is_initialized()):
        raise InvalidParameterError(
            "distributed=True needs a process group. Have the script call "
            'torch.distributed.init_process_group("gloo"), and start it with '
            "torchrun --nproc-per-node=2 SCRIPT.py"
        )
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise RuntimeError(
            "Another fit with distributed=True is running in this process: one fit of all processes after the other. "
            "Do not fit in threads, and give a search n_jobs=1."
        )
    try:
        processes = Processes(_new_group())
        try:
            yield processes
        except BaseException as error:
            processes.leave(error)
            raise
        processes.close()
    finally:
        _ONE_AT_A_TIME.release()


def _new_group() -> Any:
    """Once all are there; one that was killed before it came is noticed."""
    try:
        if dist.get_backend() == "gloo":
            dist.barrier()
        return dist.new_group(backend="gloo")
    except RuntimeError as error:
        raise OtherProcessError(_lost(error)) from error


def _lost(error: RuntimeError) -> str:
    return (
        "distributed=True: another process was killed, or the connection to it was lost. Start all of them again; with "
        f"checkpoint=FOLDER the fit goes on from the last epoch written there. (gloo: {first_line(error)})"
    )


def refuse_batch_statistics(networks: Sequence[nn.Module], processes: Processes) -> None:
    """Of networks that are to be trained by several processes.

    Raises
    ------
    ValueError
        Naming a layer that computes them.
    """
    for network in networks if processes.size > 1 else ():
        network.train()
        found = [(name, layer) for name, layer in network.named_modules() if uses_batch_statistics(layer)]
        network.eval()
        if found:
            name, layer = found[0]
            raise ValueError(
                f"distributed=True: the layer {name!r}, {type(layer).__name__}, computes statistics of a batch, of "
                "which each process has but a part. Use a normalisation of each example (GroupNorm, LayerNorm)."
            )


def check_alike_after_epoch(processes: Processes, networks: Sequence[nn.Module], epoch: int) -> None:
    """Refuse networks that are not the same in all processes any more.

    Raises
    ------
    ValueError
        In all of them, naming what differs.
    """
    if processes.size == 1:
        return
    of_each = {
        f"network {number}, {name}": digest_of(value, name)
        for number, network in enumerate(networks, 1)
        for name, value in state_of(network).items()
    }
    processes.check_alike(
        of_each,
        lambda name: (
            f"distributed=True: {name}: is not the same in all processes after epoch {epoch}. A layer keeps what it "
            "sees of a batch, of which each process has but a part, or its forward does something else in each"
        ),
    )
