"""BGRem as it was published, rebuilt with random weights: its network, its tiling, its steps.

    python benchmarks/speed/published.py network.onnx                   writes the network
    python benchmarks/speed/published.py frame.fits out.fits --engine tensorflow
    python benchmarks/speed/published.py frame.fits out.fits --engine onnxruntime --onnx network.onnx

Sources: Nicolaas et al. 2025 (arXiv:2510.04718) and, for every number that the paper leaves out, the
program that was published with it (`bgrem.py`, read, not copied):

- an attention U-Net of widths 16, 32, 64, 128 and 256 at full resolution, two 3 x 3 convolutions per
  level with symmetric padding and leaky ReLU, transposed 3 x 3 convolutions upwards, additive gates
  (Oktay et al. 2018, arXiv:1804.03999) on the two deepest skips; it takes the noise variance by 32
  sines and cosines, repeated over the image and joined to 32 channels of it;
- tiles of 256 pixels on a grid of 200, of which the inner 200 are kept; the median of each tile is
  subtracted; ten tiles at a time; images and tiles in double precision;
- the cosine schedule between signal rates of 0.98 and 0.01.

Both engines run one description of the network, `attention_unet`, with the same weights, so that
their outputs agree. Two faults of the program are mended, neither at a cost: it scrambled frames whose
sides are multiples of 200, for which it cut a row and a column of tiles too many.

It needs NumPy and Astropy, and TensorFlow or ONNX Runtime; ONNX to write the network.
"""

import argparse
import math
from itertools import pairwise
from pathlib import Path

import numpy as np

__all__ = ["attention_unet", "clean", "cut", "joined", "onnx_network", "parameters"]

WIDTHS = (16, 32, 64, 128, 256)
GATED = 2  # the finest level whose skip connection has a gate
EMBEDDING, HIGHEST_FREQUENCY = 32, 1000.0
SLOPE = 0.2  # of the leaky ReLU
EPSILON = 1e-3  # of Keras's batch normalisation
TILE, STEP, BATCH = 256, 200, 10
SIGNAL_RATES = 0.98, 0.01  # of an image without noise, and of the one observed
KEPT = 0.9  # of the positive pixels, the lowest, from which the deviation is measured
SEED = 2025


# ---- the network -------------------------------------------------------------------------


def attention_unet(make, image, variance):
    """The network.

    Parameters
    ----------
    make : Onnx, Keras or Count
        Makes the layers.
    image, variance
        What it takes for a tile and for the noise variance.

    Returns
    -------
    The estimated noise, of the kind of `image`.
    """
    h = make.join(make.conv(image, EMBEDDING, 1), make.waves(variance))
    skips = []
    for width in WIDTHS[:-1]:
        skips.append(double_convolution(make, h, width))
        h = make.pool(skips[-1])
    h = double_convolution(make, h, WIDTHS[-1])
    for level in reversed(range(len(WIDTHS) - 1)):
        width, skip = WIDTHS[level], skips[level]
        h = make.grow(h, width)
        if level >= GATED:
            skip = gated(make, h, skip, width)
        h = double_convolution(make, make.join(h, skip), width)
    return make.conv(h, 1, 1)


def double_convolution(make, h, width):
    for _ in range(2):
        h = make.conv(make.pad(h), width, 3, "leaky")
    return h


def gated(make, gate, skip, width):
    gate, skipped = (make.normalise(make.conv(h, width, 1)) for h in (gate, skip))
    weight = make.conv(make.relu(make.add(gate, skipped)), width, 1, "sigmoid")
    return make.multiply(weight, skip)


class Weights:
    """Random weights, the same for every engine, as they are asked for in turn."""

    def __init__(self):
        self._rng = np.random.default_rng(SEED)

    def __call__(self, size, inputs, outputs):
        """(size, size, inputs, outputs) float32 (He et al. 2015, arXiv:1502.01852)."""
        shape = (size, size, inputs, outputs)
        deviation = math.sqrt(2 / (size * size * inputs))
        return (deviation * self._rng.standard_normal(shape)).astype(np.float32)


def frequencies():
    """Of the embedding of the noise variance, in radians."""
    exponents = np.linspace(0, math.log(HIGHEST_FREQUENCY), EMBEDDING // 2)
    return (2 * np.pi * np.exp(exponents)).astype(np.float32)


class Onnx:
    """Makes the nodes of an ONNX graph; images are (name, channels), planes first."""

    def __init__(self, tile):
        from onnx import helper, numpy_helper

        self._node, self._tensor = helper.make_node, numpy_helper.from_array
        self._weights, self._tile = Weights(), tile
        self.nodes, self.constants = [], []

    def conv(self, h, width, size, activation=None):
        kernel = self._constant(self._weights(size, h[1], width).transpose(3, 2, 0, 1))
        out = self._add("Conv", h[0], kernel, self._zeros(width))
        if activation == "leaky":
            out = self._add("LeakyRelu", out, alpha=SLOPE)
        elif activation == "sigmoid":
            out = self._add("Sigmoid", out)
        return out, width

    def grow(self, h, width):
        kernel = self._constant(self._weights(3, h[1], width).transpose(2, 3, 0, 1))
        settings = {"strides": [2, 2], "pads": [0, 0, 1, 1]}
        return self._add("ConvTranspose", h[0], kernel, self._zeros(width), **settings), width

    def pad(self, h):
        # Symmetric padding by one pixel repeats the edge.
        around = self._constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
        return self._add("Pad", h[0], around, mode="edge"), h[1]

    def pool(self, h):
        return self._add("MaxPool", h[0], kernel_shape=[2, 2], strides=[2, 2]), h[1]

    def normalise(self, h):
        zeros, ones = self._zeros(h[1]), self._constant(np.ones(h[1], np.float32))
        settings = {"epsilon": EPSILON}
        return self._add("BatchNormalization", h[0], ones, zeros, zeros, ones, **settings), h[1]

    def relu(self, h):
        return self._add("Relu", h[0]), h[1]

    def add(self, one, two):
        return self._add("Add", one[0], two[0]), one[1]

    def multiply(self, one, two):
        return self._add("Mul", one[0], two[0]), one[1]

    def join(self, one, two):
        return self._add("Concat", one[0], two[0], axis=1), one[1] + two[1]

    def waves(self, variance):
        angles = self._add("Mul", variance, self._constant(frequencies().reshape(1, -1, 1, 1)))
        both = self._add("Concat", self._add("Sin", angles), self._add("Cos", angles), axis=1)
        shape = self._constant(np.array([1, 1, self._tile, self._tile]))
        return self._add("Expand", both, shape), EMBEDDING

    def _add(self, kind, *inputs, **settings):
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._node(kind, list(inputs), [name], **settings))
        return name

    def _constant(self, array):
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._tensor(np.ascontiguousarray(array), name))
        return name

    def _zeros(self, width):
        return self._constant(np.zeros(width, np.float32))


class Keras:
    """Makes the layers of a Keras model; images are its tensors, channels last."""

    def __init__(self, tile):
        import keras

        self._keras, self._layers = keras, keras.layers
        self._weights, self._tile = Weights(), tile
        self.kernels = []  # layers with the kernel that they will have

    def conv(self, h, width, size, activation=None):
        if activation == "leaky":
            activation = self._layers.LeakyReLU(negative_slope=SLOPE)
        layer = self._layers.Conv2D(width, size, activation=activation)
        self.kernels.append((layer, self._weights(size, h.shape[-1], width)))
        return layer(h)

    def grow(self, h, width):
        layer = self._layers.Conv2DTranspose(width, 3, 2, padding="same")
        kernel = self._weights(3, h.shape[-1], width).transpose(0, 1, 3, 2)
        self.kernels.append((layer, kernel))
        return layer(h)

    def pad(self, h):
        return self._keras.ops.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")

    def pool(self, h):
        return self._layers.MaxPool2D(2)(h)

    def normalise(self, h):
        return self._layers.BatchNormalization(epsilon=EPSILON)(h)

    def relu(self, h):
        return self._layers.Activation("relu")(h)

    def add(self, one, two):
        return self._layers.Add()([one, two])

    def multiply(self, one, two):
        return self._layers.Multiply()([one, two])

    def join(self, one, two):
        return self._layers.Concatenate()([one, two])

    def waves(self, variance):
        angles = self._keras.ops.multiply(variance, frequencies())
        both = self.join(self._keras.ops.sin(angles), self._keras.ops.cos(angles))
        return self._layers.UpSampling2D(size=self._tile, interpolation="nearest")(both)


class Count:
    """Makes nothing and counts trainable parameters; images are numbers of channels."""

    def __init__(self):
        self.total = 0

    def conv(self, h, width, size, activation=None):
        self.total += (size * size * h + 1) * width
        return width

    def grow(self, h, width):
        return self.conv(h, width, 3)

    def normalise(self, h):
        self.total += 2 * h
        return h

    def pad(self, h):
        return h

    pool = relu = pad

    def add(self, one, two):
        return one

    multiply = add

    def join(self, one, two):
        return one + two

    def waves(self, variance):
        return EMBEDDING


def parameters():
    """Number of trainable parameters of the network.

    Returns
    -------
    int
    """
    count = Count()
    attention_unet(count, 1, None)
    return count.total


def onnx_network(tile=TILE):
    """The network as an ONNX model.

    Parameters
    ----------
    tile : int
        Side of the tiles that it takes.

    Returns
    -------
    onnx.ModelProto
        Of "image" (n, 1, tile, tile) and "variance" (n, 1, 1, 1), float32; gives "noise".
    """
    from onnx import TensorProto, helper

    make = Onnx(tile)
    noise, _ = attention_unet(make, ("image", 1), "variance")
    make.nodes[-1].output[0] = "noise"
    whole, one = ["n", 1, tile, tile], ["n", 1, 1, 1]
    described = {"image": whole, "variance": one, "noise": whole}
    image, variance, noise = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in described.items()
    )
    graph = helper.make_graph(
        make.nodes, "published", [image, variance], [noise], make.constants
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def keras_network(tile=TILE):
    """The network as a Keras model of images (n, tile, tile, 1) and variances (n, 1, 1, 1)."""
    import keras

    make = Keras(tile)
    inputs = [keras.Input((tile, tile, 1)), keras.Input((1, 1, 1))]
    model = keras.Model(inputs, attention_unet(make, *inputs))
    for layer, kernel in make.kernels:
        layer.set_weights([kernel, np.zeros_like(layer.get_weights()[1])])
    return model


# ---- the engines -------------------------------------------------------------------------


def run_by_onnxruntime(content, threads=None):
    """A function of tiles (n, t, t) and a variance: the network, with bgrem's own settings."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.intra_op_num_threads = threads or 0
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])

    def noise(tiles, variance):
        variances = np.full((len(tiles), 1, 1, 1), variance, np.float32)
        inputs = {"image": tiles[:, None], "variance": variances}
        return session.run(["noise"], inputs)[0][:, 0]

    return noise


def run_by_tensorflow(tile=TILE):
    """The same, by calls of a Keras model outside a graph, as the published program makes them."""
    model = keras_network(tile)

    def noise(tiles, variance):
        variances = np.full((len(tiles), 1, 1, 1), variance, np.float32)
        return model([tiles[..., None], variances], training=False).numpy()[..., 0]

    return noise


# ---- the image ---------------------------------------------------------------------------


def clean(image, network, *, steps=1, batch=BATCH):
    """What the published program makes of an image, by default.

    Parameters
    ----------
    image : (ny, nx) array
        Sky level included.
    network : callable
        Of tiles, (n, TILE, TILE) float32, and the noise variance: the noise of the tiles.
    steps : int
        Diffusion steps.
    batch : int
        Tiles that the network is given at once.

    Returns
    -------
    (ny, nx) float64
    """
    image = np.maximum(image, 0)
    positive = np.sort(image[image > 0])
    scale = 1 / np.std(positive[: int(KEPT * len(positive))])
    tiles = cut(image * scale)
    for tile in tiles:
        tile -= np.median(tile)
    cleaned = np.empty_like(tiles)
    for first in range(0, len(tiles), batch):
        some = slice(first, first + batch)
        cleaned[some] = reverse_diffusion(network, tiles[some].astype(np.float32), steps)
    return np.maximum(joined(cleaned, image.shape), 0) / scale


def cut(image):
    """Tiles of TILE pixels on a grid of STEP, the image continued by reflection.

    Parameters
    ----------
    image : (ny, nx) array

    Returns
    -------
    (n, TILE, TILE) float64
    """
    margin = (TILE - STEP) // 2
    counts = [math.ceil(side / STEP) for side in image.shape]
    after = [margin + n * STEP - side for n, side in zip(counts, image.shape, strict=True)]
    image = np.pad(image, [(margin, end) for end in after], mode="symmetric")
    tiles = np.zeros((math.prod(counts), TILE, TILE))
    for number, (y, x) in enumerate(np.ndindex(*counts)):
        tiles[number] = image[y * STEP :, x * STEP :][:TILE, :TILE]
    return tiles


def joined(tiles, shape):
    """The inner STEP pixels of each tile side by side.

    Parameters
    ----------
    tiles : (n, TILE, TILE) array
    shape : tuple of int
        Of the image.

    Returns
    -------
    (ny, nx) float64
    """
    margin = (TILE - STEP) // 2
    down, across = (math.ceil(side / STEP) for side in shape)
    image = np.zeros((down * STEP, across * STEP))
    inner = slice(margin, margin + STEP)
    for number, (y, x) in enumerate(np.ndindex(down, across)):
        image[y * STEP :, x * STEP :][:STEP, :STEP] = tiles[number, inner, inner]
    return image[: shape[0], : shape[1]]


def reverse_diffusion(network, noisy, steps):
    """Take the estimated noise away and put back the part that the next, lower rate allows."""
    clear, observed = np.arccos(SIGNAL_RATES)
    rates = np.sin(np.linspace(observed, clear, steps + 1)).astype(np.float32)
    for rate, lower in pairwise(rates):
        noise = network(noisy, rate**2)
        image = noisy - rate * noise
        noisy = image + lower * noise
    return image


def main(argv=None):
    """Write the network, or clean a frame."""
    options = make_parser().parse_args(argv)
    if options.output is None:
        options.path.write_bytes(onnx_network().SerializeToString())
        return
    from astropy.io import fits

    if options.engine == "tensorflow":
        network = run_by_tensorflow()
    else:
        network = run_by_onnxruntime(options.onnx.read_bytes(), options.threads)
    image = clean(
        fits.getdata(options.path), network, steps=options.steps, batch=options.batch
    )  # fmt: skip
    fits.writeto(options.output, image, overwrite=True)


def make_parser():
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("path", type=Path, help="the frame, or the network that is to be written")
    parser.add_argument("output", type=Path, nargs="?", help="the cleaned frame")
    parser.add_argument("--engine", choices=("tensorflow", "onnxruntime"), default="onnxruntime")
    parser.add_argument("--onnx", type=Path, help="the network, for onnxruntime")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument(
        "--batch", type=int, default=BATCH, help=f"tiles at once (default: {BATCH})"
    )
    parser.add_argument("--threads", type=int, help="of onnxruntime (default: one per core)")
    return parser


if __name__ == "__main__":
    main()
