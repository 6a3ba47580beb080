#!/usr/bin/env bash
# The tests of the core with the oldest dependencies that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
# The oldest series of each, with its repairs.
"$folder/bin/python" - > "$folder/oldest.txt" <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
# The tests compare with SciPy, which the core does without.
wanted = project["dependencies"] + extras["report"]
wanted += [line for line in extras["test"] if line.startswith("scipy")]
print("\n".join(f"{line.replace('>=', '==')}.*" for line in wanted))
PYTHON
"$folder/bin/pip" install --quiet -r "$folder/oldest.txt" pytest hypothesis onnx
"$folder/bin/pip" install --quiet --no-deps -e .
"$folder/bin/python" -m pytest -q \
    tests/test_background.py tests/arrays/test_filters.py tests/arrays/test_tiling.py \
    tests/masks/test_borders.py tests/sky/test_estimate.py tests/io/test_companions.py \
    tests/io/test_reading.py tests/report/test_document.py tests/report/test_pictures.py \
    tests/cli/test_bgrem.py tests/processing/test_files.py tests/inference/test_model.py
