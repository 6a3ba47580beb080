"""How far each stage is from the least time that the machine could take for it.

    python benchmarks/speed/floor.py
    python benchmarks/speed/floor.py --side 10560 --threads 1

A stage can be no faster than its multiplications over the rate at which the machine multiplies and
adds (a big matrix product on the same number of threads), nor than the bytes that it must move over
the bandwidth of the memory (a large copy): the floor is the longer of the two. The network's operations
are counted from the shapes in its file: one multiply-add for each product of a convolution or a
matrix, nothing for all else. Its bytes are those of the image that it takes and the planes that it
gives; "layer by layer" is what they would be if every layer read and wrote memory. BGRem's published
network (`published.py`) stands below for comparison, without a measured time.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from published import STEP, TILE, onnx_network
from stages import REST, STAGES, time_stages
from suite import SCENE, command_parser, report, scene, write_frame

from bgrem.inference.engines import cores
from bgrem.inference.model import load_model

__all__ = ["Operations", "count_operations", "measure_rates"]

MATRIX = 4096  # side of the matrices that are multiplied
COPY = 1 << 29  # bytes that are copied, far more than any cache holds
REPEAT = 5  # the quickest counts
#: The variables that set the number of threads of the usual libraries of linear algebra.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TILE_OF_COUNT = 512  # px: operations per pixel do not depend on it


class Operations:
    """What a network takes per pixel that it is given.

    Attributes
    ----------
    products : float
        Multiply-adds.
    layers : float
        Bytes that all its nodes read and write, weights left out.
    """

    def __init__(self, products, layers):
        self.products, self.layers = products, layers


def main(argv=None):
    """Measure, print and write."""
    options = make_parser().parse_args(argv)
    began = time.perf_counter()
    model = load_model(options.model, threads=options.threads)
    rates = measure_rates(options.threads or cores(), options.matrix, options.copy)
    with tempfile.TemporaryDirectory() as folder:
        part = scene(min(SCENE, options.side))
        frame = write_frame(Path(folder, "frame.fits"), options.side, part)
        timing = time_stages(frame, model, output_dir=folder)
    area = options.side**2 / 1e6
    tables = {
        f"floor of each stage, {options.side} pixels": stage_rows(timing, model, area, rates),
        "networks, per pixel of the image": network_rows(timing, model, area, rates),
        f"machine, {options.threads or cores()} threads": [rates],
    }
    report(options, tables, model, time.perf_counter() - began)


def make_parser():
    """The options of the command."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--side", type=int, default=4096, help="of the frame in pixels")
    add("--threads", type=int, help="of network, product and copy (default: one per core)")
    add("--matrix", type=int, default=MATRIX, help="side of the matrices that are multiplied")
    add("--copy", type=int, default=COPY, help="bytes that are copied")
    add("--json", metavar="FILE", help="write the results there, too")
    return parser


def stage_rows(timing, model, area, rates):
    """Measured and least seconds per Mpix of each stage."""
    passes = timing.pixels / area / 1e6  # that the network looks at a pixel, overlaps included
    operations = count_operations(model.path)
    rows = []
    for stage in (*STAGES, REST):
        size, products = stage.bytes, 0.0
        if stage.name == "network":
            size, products = 4 * (1 + timing.planes) * passes, operations.products * passes
        rows.append(row_of(stage.name, timing.seconds[stage.name] / area, size, products, rates))
    whole = timing.whole / area, sum(row["floor"] for row in rows)
    total = {"stage": "all", "s/Mpix": whole[0], "bytes": None, "kilo multiply-adds": None}
    return [*rows, total | {"floor": whole[1], "times the floor": whole[0] / whole[1]}]


def row_of(name, seconds, size, products, rates):
    """One stage beside its floor; without one, where all that it needs stays in the caches."""
    least = max(least_seconds(size, products, rates))
    return {
        "stage": name, "s/Mpix": seconds, "bytes": size, "kilo multiply-adds": products / 1e3,
        "floor": least, "times the floor": seconds / least if least else None,
    }  # fmt: skip


def least_seconds(size, products, rates):
    """Seconds per Mpix of memory and processor, for numbers of bytes and products per pixel."""
    return 1e-3 * size / rates["GB/s copied"], 1e-3 * products / rates["G multiply-adds/s"]


def network_rows(timing, model, area, rates):
    """What bgrem's network and the published one take per pixel of the image, tiles included."""
    networks = {
        "bgrem": (count_operations(model.path), timing.pixels / area / 1e6),
        "BGRem rebuilt": (count_operations(onnx_network(), TILE), (TILE / STEP) ** 2),
    }
    rows = []
    for name, (operations, passes) in networks.items():
        layers, products = operations.layers * passes, operations.products * passes
        by_memory, by_products = least_seconds(layers, products, rates)
        rough = rates["G in bfloat16"]
        rows.append({
            "network": name, "pixels seen": passes, "kilo multiply-adds": products / 1e3,
            "s/Mpix for them": by_products, "in bfloat16": rough and 1e-3 * products / rough,
            "bytes, layer by layer": layers,
            "s/Mpix for these": by_memory,
        })  # fmt: skip
    return rows


# ---- operations --------------------------------------------------------------------------


def count_operations(network, side=TILE_OF_COUNT):
    """What a network takes per pixel, by the shapes of its graph.

    Parameters
    ----------
    network : path or onnx.ModelProto
        Its first input is an image of shape (n, 1, y, x).
    side : int
        Of the image that it is thought to be given.

    Returns
    -------
    Operations
    """
    import onnx

    network = network if isinstance(network, onnx.ModelProto) else onnx.load(str(network))
    image = network.graph.input[0].type.tensor_type.shape.dim
    for place, length in zip(image, (1, 1, side, side), strict=True):
        place.dim_value = length
    network.graph.ClearField("value_info")
    graph = onnx.shape_inference.infer_shapes(network, strict_mode=True, data_prop=True).graph
    shapes = {value.name: shape_of(value) for value in (*graph.input, *graph.value_info)}
    shapes |= {value.name: shape_of(value) for value in graph.output}
    weights = {array.name: tuple(array.dims) for array in graph.initializer}
    products = sum(products_of(node, shapes | weights) for node in graph.node)
    moved = sum(math.prod(shapes.get(name, (0,))) for node in graph.node
                for name in (*node.input, *node.output))  # fmt: skip
    return Operations(products / side**2, 4 * moved / side**2)


def shape_of(value):
    """Of a value; an axis that may have any length is taken to be of one tile."""
    return tuple(place.dim_value or 1 for place in value.type.tensor_type.shape.dim)


def products_of(node, shapes):
    """Multiply-adds of a node: for each output (of a transposed convolution, each input) a kernel."""
    if node.op_type == "Conv":
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("Gemm", "MatMul"):
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


# ---- the machine -------------------------------------------------------------------------


def measure_rates(threads, matrix=MATRIX, size=COPY):
    """The speed of the machine, measured by an interpreter with this number of threads.

    Parameters
    ----------
    threads : int
    matrix : int
        Side of the float32 matrices that are multiplied.
    size : int
        Bytes that are copied.

    Returns
    -------
    dict of str to float
        "G multiply-adds/s" in float32; "G in bfloat16", None where PyTorch is not installed;
        "GB/s copied", in which reading and writing both count.
    """
    words = [sys.executable, __file__, "--rates", str(threads), str(matrix), str(size)]
    # The libraries ask when they are loaded, not later.
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    return json.loads(subprocess.run(
        words, check=True, capture_output=True, text=True, env=environment
    ).stdout)  # fmt: skip


def rates_here(threads, matrix, size):
    """The rates of this process."""
    rough = bfloat16_multiplication(matrix, threads)
    return {
        "G multiply-adds/s": matrix**3 / quickest(multiplication(matrix)) / 1e9,
        "G in bfloat16": rough and matrix**3 / quickest(rough) / 1e9,
        "GB/s copied": 2 * size / quickest(copying(size, threads)) / 1e9,
    }


def multiplication(side):
    """A function that multiplies two matrices in float32."""
    one, two = np.random.default_rng(0).standard_normal((2, side, side), dtype=np.float32)
    out = np.empty_like(one)
    return lambda: np.matmul(one, two, out=out)


def bfloat16_multiplication(side, threads):
    """The same in bfloat16, by PyTorch; None where it is not installed."""
    if not find_spec("torch"):
        return None
    import torch

    torch.set_num_threads(threads)
    one, two = torch.randn(2, side, side).bfloat16()
    return lambda: one @ two


def copying(size, threads):
    """A function that copies an array, each thread a part."""
    parts = [(np.ones(size // threads, np.uint8), np.ones(size // threads, np.uint8))
             for _ in range(threads)]  # fmt: skip
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), parts))


def quickest(function):
    """Seconds of the quickest of some calls."""
    seconds = []
    for _ in range(REPEAT):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rates"]:
        print(json.dumps(rates_here(*map(int, sys.argv[2:]))))
    else:
        main()
