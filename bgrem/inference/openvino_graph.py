"""What OpenVINO's graph of a network is changed to, so that it takes less time and is as exact."""

import math

import numpy as np

__all__ = ["filter_in_phases", "restricted"]

PHASES = 16  # pixels of a filter that are worked out at once: the numbers of a vector register


def filter_in_phases(network, library) -> None:
    """Filters of one channel along one axis, PHASES neighbouring pixels at a time.

    OpenVINO's convolutions are made for many channels. With the kernel moved by 0, 1, 2 ... pixels in as
    many output channels, and strides of as many, the matched filter takes half of the time.

    Parameters
    ----------
    network : openvino.Model
        Is changed; its shapes are known.
    library : module
        OpenVINO.
    """
    ops = library.opset13
    for node in network.get_ops():
        if (axis := _filtered_axis(node)) is None:
            continue
        image, kernel = node.input_value(0), node.input_value(1)
        taps = max(kernel.shape)
        moved = np.stack([np.eye(taps + PHASES - 1, taps, -k, np.float32) for k in range(PHASES)])
        sides = (PHASES, 1, -1, 1) if axis == 2 else (PHASES, 1, 1, -1)
        kernels = ops.matmul(moved, ops.reshape(kernel, (taps, 1), False), False, False)
        settings = node.get_attributes()
        strides = [PHASES, 1] if axis == 2 else [1, PHASES]
        phases = ops.convolution(
            image, ops.reshape(kernels, sides, False), strides,
            settings["pads_begin"], settings["pads_end"], [1, 1],
        )  # fmt: skip
        # (1, phase, y, x) with the phase beside the axis that it belongs to.
        order = (0, 2, 1, 3) if axis == 2 else (0, 2, 3, 1)
        whole = ops.reshape(ops.transpose(phases, order), tuple(image.shape), False)
        node.output(0).replace(whole.output(0))


def restricted(network, channels: tuple[int, ...] | None, library):
    """The network without what only the other channels need: a tenth of the time.

    Parameters
    ----------
    network : openvino.Model
    channels : tuple of int, optional
        Those that are wanted, in that order; default: all.
    library : module
        OpenVINO.

    Returns
    -------
    openvino.Model
        Its first output holds the channels.
    """
    ops = library.opset13
    outputs = [output.get_node().input_value(0) for output in network.outputs]
    planes = [plane for output in outputs for plane in _planes_of(output)]
    if all(plane.shape[1] == 1 for plane in planes):
        part = ops.concat([planes[i] for i in channels or range(len(planes))], axis=1)
    else:
        whole = ops.concat(outputs, axis=1)
        part = whole if channels is None else ops.gather(whole, np.array(channels), 1)
    network = library.Model([part], network.get_parameters())
    network.add_results(
        [_kept_exact(node, library) for node in network.get_ops() if _is_planes(node)]
    )
    return network


def _kept_exact(node, library):
    """A second output, of one pixel, of planes that are put side by side for a convolution.

    Nothing between the last convolution and an output is brought to bfloat16. In float32 planes
    are put side by side in no time, in bfloat16 in a twentieth of the network's.
    """
    ops, begin = library.opset13, np.zeros(4, np.int64)
    return ops.result(ops.slice(node.output(0), begin, begin + 1, begin + 1, np.arange(4)))


def _filtered_axis(node) -> int | None:
    """Along which axis a node of OpenVINO's filters one image of one channel; None if it does not."""
    if node.get_type_name() != "Convolution":
        return None
    sizes = [value.get_partial_shape() for value in (*node.input_values(), node.output(0))]
    if not all(size.is_static for size in sizes):
        return None
    image, kernel, filtered = (tuple(size.to_shape()) for size in sizes)
    settings = node.get_attributes()
    axis = int(np.argmax(kernel))
    dense = {*settings["strides"], *settings["dilations"]} == {1}
    alone = len(image) == 4 and image[:2] == (1, 1) and math.prod(kernel) == kernel[axis]
    if dense and alone and filtered == image and axis > 1 and image[axis] % PHASES == 0:
        return axis
    return None


def _planes_of(output) -> list:
    """What a node of OpenVINO's puts side by side, or the output itself."""
    node = output.get_node()
    if node.get_type_name() != "Concat":
        return [output]
    return [node.input_value(i) for i in range(node.get_input_size())]


def _is_planes(node) -> bool:
    """Whether a node of OpenVINO's puts images of one channel side by side."""
    if node.get_type_name() != "Concat":
        return False
    sizes = [node.input_value(i).get_partial_shape() for i in range(node.get_input_size())]
    return all(size.is_static and tuple(size)[:2] == (1, 1) and len(size) == 4 for size in sizes)
