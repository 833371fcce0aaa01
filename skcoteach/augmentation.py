"""Random changes of images for ``augment``: each image of a batch is changed by itself, on the device where it is.

They are modules without parameters: ``torch.nn.Sequential`` joins several.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class RandomShift(nn.Module):
    """Shift every image by a random number of pixels in both directions; what comes in at the border is zero.

    Parameters
    ----------
    pixels : int
        The most that an image is shifted, to each side. 0 or more.

    Raises
    ------
    ValueError
        If it is no such number.

    Examples
    --------
    >>> import torch
    >>> from skcoteach import CoTeachingClassifier
    >>> shift = RandomShift(1)
    >>> shift(torch.ones(2, 1, 4, 4)).shape
    torch.Size([2, 1, 4, 4])
    >>> classifier = CoTeachingClassifier(augment=shift)
    """

    def __init__(self, pixels: int):
        super().__init__()
        if not isinstance(pixels, int | np.integer) or pixels < 0:
            raise ValueError(f"pixels must be an integer, 0 or more, got {pixels!r}.")
        self.pixels = int(pixels)

    def forward(self, x: Tensor) -> Tensor:
        """Shifted images of shape (n, ..., height, width).

        Raises
        ------
        ValueError
            If there are less than three axes.
        """
        _check_images(x, self)
        height, width = x.shape[-2:]
        padded = pad(x, [self.pixels] * 4).flatten(1, -3) if x.ndim > 3 else pad(x, [self.pixels] * 4)[:, None]
        n, n_channels = padded.shape[:2]
        top, left = torch.randint(2 * self.pixels + 1, (2, n, 1, 1, 1), device=x.device)
        example, channel, row, column = (
            torch.arange(size, device=x.device).view([-1 if axis == i else 1 for axis in range(4)])
            for i, size in enumerate((n, n_channels, height, width))
        )
        return padded[example, channel, row + top, column + left].view(x.shape)

    def extra_repr(self) -> str:
        return str(self.pixels)


class RandomFlip(nn.Module):
    """Mirror every second image, on average, left to right.

    Examples
    --------
    >>> import torch
    >>> augment = torch.nn.Sequential(RandomFlip(), RandomShift(4))
    >>> augment(torch.ones(2, 3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Images of shape (n, ..., height, width), half of them mirrored.

        Raises
        ------
        ValueError
            If there are less than three axes.
        """
        _check_images(x, self)
        mirrored = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < 0.5
        return torch.where(mirrored, x.flip(-1), x)


def _check_images(x: Tensor, augmentation: nn.Module) -> None:
    if x.ndim < 3:
        raise ValueError(
            f"{type(augmentation).__name__} takes images of shape (n, ..., height, width), got shape {tuple(x.shape)}."
        )
