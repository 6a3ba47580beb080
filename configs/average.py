"""Average the weights of trainings and export the mean as a model."""

import argparse

import torch
from safetensors.torch import load_file

from bgrem.export import export
from bgrem.train import Training
from bgrem.training_config import load_config


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="training configuration that gives the card")
    parser.add_argument("weights", nargs="+", help=".safetensors files of one network")
    parser.add_argument("--output-dir", required=True, help="folder of the model")
    options = parser.parse_args()
    training = Training(load_config(options.config))
    every = [load_file(path) for path in options.weights]
    mean = {name: torch.stack([w[name] for w in every]).mean(dim=0) for name in every[0]}
    training.average.load_state_dict(mean)
    training.step = training.config.steps
    print(export(training, options.output_dir))


if __name__ == "__main__":
    main()
