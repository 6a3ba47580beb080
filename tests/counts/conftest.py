"""A small network of counts maps that has learned nothing, as a model file."""

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def counts_file(tmp_path_factory):
    """An ONNX file of a model of counts maps with random weights and a card."""
    from bgrem.counts_training.counts_export import write_counts_graph
    from bgrem.network.counts_network import CountsNetwork, CountsNetworkConfig
    from bgrem.train.export import write_metadata

    torch.manual_seed(3)
    network = CountsNetwork(CountsNetworkConfig(coarse=(8, 8), fine=(8, 8, 8), embedding=8))
    path = tmp_path_factory.mktemp("counts") / "toy.onnx"
    write_counts_graph(network.eval(), path)
    channels = ["sources", "background", "variance", "significance"]
    entries = {
        "kind": "counts", "name": "toy", "version": "1", "tile": 128, "overlap": 64, "multiple": 32,
        "channels": channels, "false_alarms": [[2.0, 100.0], [4.0, 1.0], [5.0, 0.1]],
        "false_alarms_unknown": [[3.0, 100.0], [6.0, 1.0], [7.0, 0.1]],
    }  # fmt: skip
    write_metadata(path, entries)
    return path


@pytest.fixture(scope="session")
def counts_model(counts_file):
    from bgrem.counts.counts_model import CountsModel

    return CountsModel(counts_file)
