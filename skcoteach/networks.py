"""The networks that are there when a user brings none: a perceptron for tables, two convolutional ones for images.

All return raw logits and are ordinary torch modules; how they are trained is no matter of theirs. The first two
have neither batch statistics nor dropout, so that an example of weight 2 is exactly the example twice.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: A feature whose standard deviation is at most this share of its mean is rounding noise around a constant.
CONSTANT_TOLERANCE = 1e-12
#: A feature is sparse if at most this share of its weight is not zero.
SPARSE_SHARE = 0.2
#: No standardised value is larger.
LARGEST_VALUE = 3.0


class Standardize(nn.Module):
    """Brings features of any unit to a common size, by statistics set from data beforehand.

    A feature is centred by its mean and divided by its standard deviation; one that does not vary is only centred. A
    *sparse* feature, which is zero in at least 80 % of the weight (a word of a text, a rare category), stays zero where
    it is zero: it is divided by the root mean square of its values that are not zero, and by the root of the number of
    these in a mean row, over all sparse features, if that is more than one. So a row of a text is about as long as a
    single standardised number, and a rare word is not blown up. Then all values are brought into (-3, 3) by the smooth
    ``z / sqrt(1 + (z / 3)^2)``, so that heavy tails do not drown the rest.

    The layer has no parameters to learn and does not change with the batches it transforms. Until :meth:`observe` has
    been called it passes its input through unchanged.

    Parameters
    ----------
    n_features : int
        Number of features.

    Attributes
    ----------
    mean : Tensor of shape (n_features,), floating
        Weighted mean of what was observed; 0 for a sparse feature.
    scale : Tensor of shape (n_features,), floating
        What the feature is divided by: the weighted standard deviation (divided by the weight, not the weight less one)
        of what was observed; 1 for a constant feature; for a sparse feature as above.
    limit : Tensor of shape (), floating
        No value that leaves is larger: infinity until something was observed, then 3.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart, "Better by default: Strong pre-tuned MLPs and boosted trees on tabular data",
    NeurIPS 2024, section 3 (arXiv:2407.04491): the smooth clipping.

    Examples
    --------
    >>> import torch
    >>> layer = Standardize(1)
    >>> layer.observe(torch.tensor([[10.0], [30.0]]), torch.ones(2))
    >>> layer(torch.tensor([[20.0], [21.0], [1000.0]])).T
    tensor([[0.0000, 0.0999, 2.9986]])
    """

    mean: Tensor
    scale: Tensor
    limit: Tensor
    moments: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("limit", torch.full((), torch.inf))
        # Running weight, mean, sum of squared deviations and weight of what is not zero: the bits of float64 numbers,
        # held as integers so that casting the network to another precision, or a device without float64, costs no
        # digits.
        self.register_buffer("moments", torch.zeros(4, n_features, dtype=torch.int64))

    @property
    def observed(self) -> bool:
        """Whether :meth:`observe` has seen any weight. Asks the device: not for use within an epoch."""
        return bool(self.moments.any())

    @torch.no_grad()
    def observe(self, x: Tensor, weights: Tensor) -> None:
        """Merge a batch into the statistics, in float64.

        Weight 2 counts as the same row twice, weight 0 as its absence. Data may come in batches of any size.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            The batch, on any device.
        weights : Tensor of shape (n,)
            Weight of each row, 0 or more.

        Raises
        ------
        ValueError
            If ``x`` is not of shape (n, n_features).

        References
        ----------
        Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979,
        equation 2.1.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (n, {len(self.mean)}): one column per feature.")
        if x.device.type == "mps":  # has no float64
            x, weights = x.cpu(), weights.cpu()
        self._merge(_moments(x.double(), weights.double()).cpu())

    @torch.no_grad()
    def replace_observed(self, parts: Sequence[Tensor]) -> None:
        """Have the statistics be those of all parts together.

        Parameters
        ----------
        parts : sequence of Tensor of shape (4, n_features), int64
            ``moments`` of layers that have observed the parts; zeros where one has observed nothing.
        """
        self.moments.zero_()
        for each in parts:
            self._merge(each.cpu().contiguous().view(torch.float64))

    def _merge(self, batch: Tensor) -> None:
        if batch[0, 0] == 0:
            return
        weight, mean, squares, nonzero = self.moments.cpu().view(torch.float64)
        batch_weight, batch_mean, batch_squares, batch_nonzero = batch
        total = weight + batch_weight
        shift = batch_mean - mean
        mean = mean + shift * (batch_weight / total)
        squares = squares + batch_squares + shift**2 * (weight * batch_weight / total)
        nonzero = nonzero + batch_nonzero
        self.moments.copy_(torch.stack([total, mean, squares, nonzero]).view(torch.int64))
        centre, scale = _centre_and_scale(total, mean, squares, nonzero)
        self.mean.copy_(centre)
        self.scale.copy_(scale)
        self.limit.fill_(LARGEST_VALUE)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise ``x`` of shape (n, n_features), in its own dtype."""
        z = (x - self.mean.to(x.dtype)) / self.scale.to(x.dtype)
        limit = self.limit.to(x.dtype)
        if torch.compiler.is_exporting():  # ONNX has no hypot
            largest = torch.finfo(z.dtype).max ** 0.5 / 2  # of which the square is a number
            z = z.clamp(-largest, largest)
            return z / (1 + (z / limit) ** 2).sqrt()
        return z / torch.hypot(z.new_ones(()), z / limit)  # which does not overflow


def _moments(x: Tensor, weights: Tensor) -> Tensor:
    """Weight, mean, sum of squared deviations and weight of what is not zero, of each column: (4, n_features)."""
    weight = weights.sum()
    mean = weights @ x / weight
    mean = mean + weights @ (x - mean) / weight  # the first mean of a constant is off by rounding, the second is not
    nonzero = weights @ (x != 0).to(x.dtype)
    return torch.stack([weight.expand_as(mean), mean, weights @ (x - mean) ** 2, nonzero])


def _centre_and_scale(weight: Tensor, mean: Tensor, squares: Tensor, nonzero: Tensor) -> tuple[Tensor, Tensor]:
    """What is subtracted from each column, and what it is divided by, given its moments."""
    deviation = (squares / weight).sqrt()
    scale = torch.where(deviation <= CONSTANT_TOLERANCE * mean.abs(), 1.0, deviation)
    share = nonzero / weight
    is_sparse = (share <= SPARSE_SHARE * (1 + 1e-9)) & (nonzero > 0)
    size = ((squares + weight * mean**2) / nonzero).sqrt()  # of the values that are not zero
    length = torch.where(is_sparse, share, 0.0).sum().clamp(min=1).sqrt()
    return torch.where(is_sparse, 0.0, mean), torch.where(is_sparse, size * length, scale)


class MLP(nn.Sequential):
    """Multilayer perceptron for tables: standardisation, then linear layers with ReLU between them.

    The features are standardised by what :class:`Standardize` observed, so that they may come in any unit.

    Parameters
    ----------
    n_features : int
        Number of features.
    n_classes : int
        Number of classes.
    hidden : int or sequence of int, default=(128, 128)
        Width of each hidden layer. An int is one hidden layer; empty is none, a linear model.

    Raises
    ------
    ValueError
        If a width is not a positive integer.

    Examples
    --------
    >>> import torch
    >>> MLP(n_features=4, n_classes=3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, n_features: int, n_classes: int, hidden: int | Sequence[int] = (128, 128)) -> None:
        widths = [hidden] if isinstance(hidden, int | np.integer) else list(hidden)
        if not all(isinstance(width, int | np.integer) and width > 0 for width in widths):
            raise ValueError(f"hidden must be a positive integer or a sequence of them, got {hidden!r}.")
        layers: list[nn.Module] = [Standardize(n_features)]
        for width in widths:
            layers += [nn.Linear(n_features, width), nn.ReLU()]
            n_features = width
        super().__init__(*layers, nn.Linear(n_features, n_classes))


class SmallCNN(nn.Module):
    """Small convolutional network for images of any size from 8x8 up, quick on a CPU.

    A 5x5 and two 3x3 convolutions with ReLU, the first two each followed by 2x2 max-pooling; then the maximum of each
    quarter of the picture and a linear layer.

    Parameters
    ----------
    n_channels : int
        Number of channels of an image: 1 for grey, 3 for colour.
    n_classes : int
        Number of classes.
    width : int, default=16
        Channels after the first convolution; the second has twice, the third four times as many.

    Examples
    --------
    >>> import torch
    >>> network = SmallCNN(n_channels=1, n_classes=10)
    >>> network(torch.zeros(2, 1, 8, 8)).shape, network(torch.zeros(2, 1, 28, 31)).shape
    (torch.Size([2, 10]), torch.Size([2, 10]))
    """

    def __init__(self, n_channels: int, n_classes: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_channels, width, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, kernel_size=3, padding=1)
        self.linear = nn.Linear(4 * 4 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, n_classes) of images of shape (n, n_channels, height, width).

        Raises
        ------
        ValueError
            If the images are smaller than 8x8.
        """
        _check_image_size(x, 8, type(self).__name__)
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x))
        # The quarters of an odd-sized picture share its middle row or column. (Adaptive pooling would do the same, but
        # its gradient on CUDA is not the same from run to run.)
        height, width = x.shape[2:]
        x = F.max_pool2d(x, ((height + 1) // 2, (width + 1) // 2), stride=(height // 2, width // 2))
        return self.linear(x.flatten(1))


class CifarCNN(nn.Module):
    """The nine-layer convolutional network of the co-teaching paper.

    The same function as ``cleanlab.experimental.cifar_cnn.CNN`` in train mode, with parameters of the same names, so
    that either loads the other's ``state_dict``. Unlike there, dropout is off in eval mode, ``top_bn=True`` works and
    images need not be square.

    Parameters
    ----------
    input_channel : int, default=3
        Number of channels of an image.
    n_outputs : int, default=10
        Number of classes.
    dropout_rate : float in [0, 1], default=0.25
        Share of the channels that is dropped after each of the two poolings.
    top_bn : bool, default=False
        Whether the logits are batch-normalised.

    References
    ----------
    Han et al., "Co-teaching: Robust training of deep neural networks with extremely noisy labels", NeurIPS 2018,
    Table 2 (arXiv:1804.06872).

    Examples
    --------
    >>> import torch
    >>> CifarCNN(input_channel=1, n_outputs=2).eval()(torch.zeros(1, 1, 28, 40)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self, input_channel: int = 3, n_outputs: int = 10, dropout_rate: float = 0.25, top_bn: bool = False
    ) -> None:
        super().__init__()
        self.dropout_rate = dropout_rate
        channels = [input_channel, 128, 128, 128, 256, 256, 256, 512, 256, 128]
        for number in range(1, 10):
            padding = 1 if number <= 6 else 0
            convolution = nn.Conv2d(channels[number - 1], channels[number], kernel_size=3, padding=padding)
            self.add_module(f"c{number}", convolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels[number]))
        self.l_c1 = nn.Linear(channels[-1], n_outputs)
        self.bn_c1 = nn.BatchNorm1d(n_outputs) if top_bn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, n_outputs) of images of shape (n, input_channel, height, width).

        Raises
        ------
        ValueError
            If the images are smaller than 28x28.
        """
        _check_image_size(x, 28, type(self).__name__)
        for number in range(1, 10):
            x = self.get_submodule(f"bn{number}")(self.get_submodule(f"c{number}")(x))
            x = F.leaky_relu(x, negative_slope=0.01)
            if number in (3, 6):
                x = F.dropout2d(F.max_pool2d(x, 2), p=self.dropout_rate, training=self.training)
        return self.bn_c1(self.l_c1(x.mean(dim=(2, 3))))


def _check_image_size(x: Tensor, smallest: int, network: str) -> None:
    channels, height, width = x.shape[-3:]
    if width in (1, 3, 4) and min(channels, height) >= smallest:
        raise ValueError(
            f"{network} takes images of shape (n_samples, n_channels, height, width); of {tuple(x.shape)} the last "
            "axis seems to be that of the channels. Give X.transpose(0, 3, 1, 2), or X.permute(0, 3, 1, 2) of a tensor."
        )
    if min(height, width) < smallest:
        raise ValueError(
            f"{network} takes images of at least {smallest}x{smallest} pixels, got {height}x{width}: enlarge them, or "
            "give another module."
        )
