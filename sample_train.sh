#!/usr/bin/env bash
# The whole job on real images, on a fresh machine: ./sample_train.sh --help tells what it does.
set -euo pipefail

PYTHON=${PYTHON:-python3}
FLOWERS_URL=https://download.tensorflow.org/example_images/flower_photos.tgz

usage() {
    cat <<'END'
Usage: ./sample_train.sh [digits | flowers | test]

Makes .venv, installs fastcls in it, and runs one of these:

  digits   (default) LeNet-5 learns the handwritten digits 0-4 that ship inside scikit-learn; then it is
           cut, and a head learns the digits 5-9 from the cached bottlenecks. Downloads nothing but packages.
  flowers  A head on MobileNetV2 learns five kinds of flowers from 3,670 photos. Downloads the photos (218 MB)
           and the ImageNet weights, unless FLOWERS and WEIGHTS name local ones.
  test     Installs the development tools and checks fastcls itself: lint, format, types and tests.

The results are in samples/digits and samples/flowers. Another run replaces them.

Environment:
  PYTHON   the Python to use, 3.10 or newer (default: python3)
  FLOWERS  a folder with a folder of photos per class
  WEIGHTS  a file with weights of MobileNetV2, with or without its top
END
}

main() {
    case "$#:${1:-digits}" in
        [01]:digits) install ""; digits ;;
        1:flowers) install ""; flowers ;;
        1:test) install "[test,int8]"; check ;;
        1:-h | 1:--help) usage ;;
        *) usage >&2; exit 2 ;;
    esac
}

digits() {
    local work=samples/digits
    fresh "$work"
    run python scripts/make_digits.py "$work/digits-0-4" --digits 0-4
    run python scripts/make_digits.py "$work/digits-5-9" --digits 5-9
    run fastcls finetune "$work/digits-0-4" --base lenet5 --weights random --val 0.2 --augment none \
        --learning-rate 0.001 --out "$work/lenet5"
    learn "$work" "$work/digits-5-9" --base "$work/lenet5/classifier.keras" --normalize none
}

flowers() {
    local work=samples/flowers
    [[ -n $FLOWERS ]] || download_flowers
    fresh "$work"
    learn "$work" "${FLOWERS:-samples/flower_photos}" --base mobilenetv2 ${WEIGHTS:+--weights "$WEIGHTS"}
}

# learn WORK PHOTOS BASE-OPTIONS...: from a folder of images to predictions, one command after the other.
learn() {
    local work=$1 photos=$2
    run fastcls split-data "$photos" --out "$work/data" --val 0.2 --test 0.2
    run fastcls extract "$work/data" "${@:3}" --cache "$work/bottlenecks" --workers 2
    run fastcls train-head "$work/bottlenecks" --out "$work/run"
    run fastcls test "$work/run" "$work/data/test"
    list_one_per_class "$work/data/test"
    run fastcls predict "$work/run" "${one_per_class[@]}"
}

list_one_per_class() {
    local class images
    one_per_class=()
    for class in "$1"/*/; do
        images=("$class"*)
        one_per_class+=("${images[0]}")
    done
}

check() {
    run ruff check .
    run ruff format --check .
    run python -m mypy
    run python -m pytest --numprocesses auto --dist worksteal
}

# install EXTRAS: make .venv and install into it, unless that is done already. The installation is editable: it
# follows the source by itself, and only the files that declare dependencies call for another one.
install() {
    check_python
    local stamp=.venv/installed$1 state
    state=$(identify "$PYTHON" && pwd && cat setup.cfg pyproject.toml)
    if [[ ! -f $stamp || $(<"$stamp") != "$state" ]]; then
        [[ $(identify .venv/bin/python) == "$(identify "$PYTHON")" ]] || run "$PYTHON" -m venv --clear .venv
        run .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$1" ||
            fail "The packages cannot be installed. Is there a network, and TensorFlow for $("$PYTHON" --version)?"
        printf '%s\n' "$state" >"$stamp"
    fi
    PATH=$PWD/.venv/bin:$PATH
}

# identify PYTHON: its version and place, the same for an environment made with it.
identify() {
    "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null || true
}

check_python() {
    command -v "$PYTHON" >/dev/null || fail "There is no $PYTHON. Install Python 3.10 or newer, or set PYTHON."
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or newer is needed. Received: $("$PYTHON" --version). Set PYTHON to another one."
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$PYTHON cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"
}

# fresh WORK: an empty folder in place of what an earlier run of this script left there.
fresh() {
    local mark=$1/.sample_train
    [[ ! -e $1 || -e $mark ]] || fail "$1 is not from this script. Move it out of the way."
    rm -rf "$1"
    mkdir -p "$1"
    touch "$mark"
}

# Both the archive and the folder get their final name when they are whole.
download_flowers() {
    local photos=samples/flower_photos archive=samples/flower_photos.tgz
    [[ ! -d $photos ]] || return 0
    mkdir -p samples
    [[ -f $archive ]] || download "$FLOWERS_URL" "$archive"
    rm -rf "$photos.partial"
    mkdir "$photos.partial"
    tar -xzf "$archive" -C "$photos.partial" --strip-components 1 ||
        { rm -rf "$photos.partial" "$archive" && fail "$archive was damaged and is removed. Try again."; }
    mv "$photos.partial" "$photos"
    rm "$archive"
}

# download URL FILE. Python is there for certain, unlike curl and wget.
download() {
    printf '\nDownloading %s (218 MB)\n' "$1"
    python -c '
import socket, sys, urllib.request
socket.setdefaulttimeout(30)
try:
    urllib.request.urlretrieve(*sys.argv[1:])
except OSError as error:
    sys.exit(str(error))
' "$1" "$2.partial" ||
        { rm -f "$2.partial" && fail "The download failed. Check the network, or set FLOWERS to a folder of class folders."; }
    mv "$2.partial" "$2"
}

run() {
    printf '\n$' && printf ' %q' "$@" && printf '\n'
    "$@"
}

fail() {
    printf 'sample_train.sh: %s\n' "$*" >&2
    exit 1
}

# Paths of the caller's, before this script goes to its own folder.
FLOWERS=${FLOWERS:+$(realpath -- "$FLOWERS")}
WEIGHTS=${WEIGHTS:+$(realpath -- "$WEIGHTS")}
cd "$(dirname "$0")"
main "$@"
