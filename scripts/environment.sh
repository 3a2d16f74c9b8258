# Sourced by the scripts beside it, from the root of the repository: sets $PYTHON to the interpreter of an
# environment that is up to date. The only place that knows how one is made.
#
#   prepare_environment dev     .venv       the package in place, with everything the tests need
#   prepare_environment all     .venv       the same, and the extras that some tests ask for
#   prepare_environment base    .venv-base  the package in place, with its own dependencies and nothing else
#   prepare_environment zoo     .venv-zoo   the same and torch, for training the zoo
#   prepare_environment writers .venv-writers  as dev, and the frameworks and loggers whose files are read (about 3 GB)
#
# Versions are those of constraints.txt. Nothing is installed again until pyproject.toml or constraints.txt change.

find_python() {
    for candidate in ${SMART_MONITOR_PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "Python 3.11 or newer is needed and none was found (looked for python3, python3.13, python3.12, python3.11)." >&2
    return 1
}

install_into_environment() (
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
    for package in $old; do
        "$PYTHON" -m pip install --quiet --no-deps --target "$directory/old/${package%%==*}-${package##*==}" "$package" || return
    done
    export PIP_CONSTRAINT=$PWD/constraints.txt
    [ -z "$first" ] || "$PYTHON" -m pip install --quiet "$first" || return
    "$PYTHON" -m pip install --quiet --editable "$what" $and
)

prepare_environment() {
    first="" and="" old="" extras='.[dev,fast,plot,remote,s3-server]'
    case $1 in
        dev) directory=.venv what='.[dev]' ;;
        all) directory=.venv what=$extras ;;
        base) directory=.venv-base what='.' ;;
        # Not by the extra `torch` but as one exact version: the zoo's numbers are that version's. On most indexes its
        # wheel brings gigabytes of CUDA along; PIP_INDEX_URL may name an index of CPU builds.
        zoo) directory=.venv-zoo what='.' and=$(grep '^torch==' constraints.txt) ;;
        # torch first and alone, so that nothing asks the index for a build of another kind. What is no longer written,
        # but still lies on people's disks, has a folder of its own beside it.
        writers)
            directory=.venv-writers what='.[dev]' first=$(grep '^torch==' constraints.txt)
            and="transformers peft accelerate lightning keras h5py orbax-checkpoint jax" old="safetensors==0.4.5 safetensors==0.7.0"
            and="$and tensorboard wandb mlflow trl trackio pandas polars"
            ;;
        *) echo "prepare_environment: dev, all, base, zoo or writers, not '$1'" >&2; return 2 ;;
    esac
    PYTHON=$PWD/$directory/bin/python
    # The place is part of the stamp: an environment does not survive being moved.
    wanted=$(cat pyproject.toml constraints.txt | cksum)" $PWD"
    made=$(cat "$directory/stamp" 2>/dev/null) || made=
    # What has the extras has all of dev, too.
    if [ -x "$PYTHON" ] && { [ "$made" = "$wanted $what" ] || { [ "$1" = dev ] && [ "$made" = "$wanted $extras" ]; }; } &&
        "$PYTHON" -c '' 2>/dev/null; then
        return 0
    fi
    python=$(find_python) || return 2
    echo "Making $directory ($("$python" -V)) ..." >&2
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$python has no venv or no pip; on Debian and Ubuntu: apt-get install python3-venv" >&2
        return 2
    fi
    rm -rf "$directory"
    "$python" -m venv "$directory" || { echo "Could not make $directory with $python -m venv." >&2; return 2; }
    # PIP_CONSTRAINT and not -c: it also holds for what builds the package.
    if ! install_into_environment; then
        echo "pip could not install the package into $directory; what it said stands above. Is there a way to a package index?" >&2
        return 2
    fi
    echo "$wanted $what" >"$directory/stamp"
}
