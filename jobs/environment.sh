#!/bin/sh
# The Python environment of one image, in /opt/paretune; run while an image is built (docs/images.md).
#
#   environment.sh dependencies DISTRIBUTION PLATFORM [OPTIONS]    everything of others, as uv.lock has it
#   environment.sh own DISTRIBUTION PLATFORM                       Paretune's own packages, into /own/opt/paretune
#
# PLATFORM is amd64 or arm64. Wheels are only unpacked, so that an image for arm64 is made on any machine. OPTIONS
# are passed to `uv sync`.
set -eu
part=$1 distribution=$2 architecture=$3
shift 3
case $architecture in
    amd64) platform=x86_64-unknown-linux-gnu ;;
    arm64) platform=aarch64-unknown-linux-gnu ;;
    *) echo "environment.sh: platform $architecture, but there are images for amd64 and arm64" >&2; exit 2 ;;
esac

# What the build alone may know: certificates of a proxy that reads along, the address of an index, passwords.
if [ -s /run/secrets/ca.crt ]; then
    export SSL_CERT_FILE=/run/secrets/ca.crt PIP_CERT=/run/secrets/ca.crt
fi
if [ -s /run/secrets/build.env ]; then
    set -a
    . /run/secrets/build.env
    set +a
fi

root=/opt/paretune
export UV_PROJECT_ENVIRONMENT=$root UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
if [ ! -x /opt/uv/bin/uv ]; then
    python3 -m venv /opt/uv
    /opt/uv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check "uv==$UV_VERSION"
fi
# The variant for GPUs has another build of TensorFlow in the same place: uv must never put the lock's over it.
case ${ACCELERATOR:-cpu} in
    cpu) without= ;;
    cuda) without="--no-install-package tensorflow-cpu" ;;
    *) echo "environment.sh: ACCELERATOR=$ACCELERATOR, but it is cpu or cuda" >&2; exit 2 ;;
esac
sync() {
    # shellcheck disable=SC2086 # no words or two
    /opt/uv/bin/uv sync --frozen --no-default-groups --no-editable --package "$distribution" \
        --python-platform "$platform" --python "$(command -v python3)" $without "$@"
}

# Bytecode is made here, because nothing can be written where the image runs, and is not compared with its source,
# because layers may change times.
compile() {
    python3 -m compileall -q --invalidation-mode unchecked-hash "$@" || true # packages ship templates that are no Python
}

if [ "$part" = dependencies ]; then
    sync --no-install-workspace "$@"
    if [ -n "$without" ]; then
        # gpu.txt is what this build of TensorFlow needs beside uv.lock, with its digests. The workspace's settings
        # leave the package `tensorflow` out, so they are not read.
        /opt/uv/bin/uv pip install --no-config --python $root/bin/python --python-platform "$platform" --no-deps \
            --require-hashes -r jobs/compress/gpu.txt
    fi
    site=$(echo $root/lib/python3*/site-packages)
    # Headers, tests and import libraries: nothing in a pod reads them.
    find "$site" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
    rm -rf "$site"/tensorflow/include "$site"/numpy/_core/include
    find "$site" -type f \( -name '*.pyi' -o -name '*.a' \) -delete
    compile "$site"
else
    sync --inexact
    site=$(echo $root/lib/python3*/site-packages)
    mkdir -p "/own$site" "/own$root/bin"
    mv "$site"/paretune* "/own$site"
    for script in "$root"/bin/*paretune*; do
        [ -e "$script" ] && mv "$script" "/own$root/bin"
    done
    compile "/own$site"
fi
