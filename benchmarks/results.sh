#!/bin/sh
# Measure what docs/results.rst shows: every command and what it prints go to docs/results/NAME.txt.
#
#     PAIRS=folder IMAGES=folder sh benchmarks/results.sh [NAME ...]
#
# PAIRS holds NAME_single.fits.gz and NAME_deep.fits.gz, IMAGES real frames; what needs a folder that
# is not given is left out. Without names all is measured, in about forty minutes on two cores.
# Nothing else should run meanwhile, above all beside "speed".
set -eu
cd "$(dirname "$0")/.."
out=docs/results
mkdir -p "$out"

measured() { # name command...
    name=$1
    shift
    case " $wanted " in *" $name "* | "  ") ;; *) return 0 ;; esac
    echo "$name" >&2
    # The text is shown in the docs: paths of folders of this machine are no part of it.
    echo "\$ $*" | sed "s#${PAIRS:-/nowhere}#PAIRS#g; s#${IMAGES:-/nowhere}/[^ ]*#IMAGES/*#; s# ${IMAGES:-/nowhere}/[^ ]*##g" >"$out/$name.txt"
    "$@" 2>"$out/$name.err" | sed "s#$(pwd)/##g; s#${PAIRS:-/nowhere}#PAIRS#g; s#${IMAGES:-/nowhere}#IMAGES#g" >>"$out/$name.txt" ||
        { tail -5 "$out/$name.err" >&2; echo "$name failed" >&2; }
    rm -f "$out/$name.err"
}

wanted="$*"
data=results
measured speed python benchmarks/path/speed.py --output-dir $data
measured seams python benchmarks/path/seams.py --output-dir $data
measured equivariance python benchmarks/path/equivariance.py --output-dir $data
measured identity python benchmarks/path/identity.py --output-dir $data ${IMAGES:+--images "$IMAGES"/*}
measured steps python benchmarks/path/steps.py --output-dir $data
measured meerlicht bgrem-evaluate --simulate 8 --scenes benchmarks/quality/meerlicht.toml --program --quiet --output-dir $data
measured control bgrem-evaluate --simulate 8 --scenes benchmarks/quality/control.toml --quiet --output-dir $data
if [ -n "${PAIRS:-}" ]; then
    for single in "$PAIRS"/*_single.fits*; do
        name=$(basename "$single" | sed 's/_single.*//')
        deep=$(echo "$single" | sed 's/_single/_deep/')
        measured "pair_$name" bgrem-evaluate --pair "$single" "$deep" --program --quiet --output-dir $data
    done
fi
measured recipes python benchmarks/quality/recipes.py --quiet --json $data/recipes.json
measured flux python benchmarks/quality/flux.py --quiet --json $data/flux.json
measured blank python benchmarks/quality/blank.py --quiet --json $data/blank.json
measured calibration python benchmarks/quality/calibration.py --quiet --json $data/calibration.json
measured artefacts python benchmarks/quality/artefacts.py --quiet --json $data/artefacts.json
measured grid python benchmarks/quality/grid.py --quiet --output-dir $data
if [ -n "${IMAGES:-}" ]; then
    measured kept_light python benchmarks/quality/kept_light.py --quiet "$IMAGES"/*
    measured inject bgrem-evaluate --inject "$IMAGES"/* --quiet --output-dir $data
fi
