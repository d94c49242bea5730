#!/bin/sh
# install.sh RELEASE: hyper in an environment of its own, from the wheels that lie beside it and from nothing else.
set -eu
umask 022
release=$1
cd /opt/garbi
exec 9>.lock
flock 9
archive=$PWD/$release.tar place=$PWD/$release wheels=$PWD/$release.wheels
trap 'rm -rf "$archive" "$wheels"' EXIT
if [ -e "$place/complete" ]; then exit 0; fi
rm -rf "$place" "$wheels"
mkdir "$wheels"
tar -x --no-same-owner -f "$archive" -C "$wheels"
/usr/bin/python3 -m venv --without-pip "$place"
# The pip that the distribution keeps for new environments; a module is compiled when hyper first loads it.
PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) "$place/bin/python" -m pip --quiet --isolated \
    --disable-pip-version-check install --no-compile --no-index --find-links "$wheels" --require-hashes \
    --only-binary=:all: --no-deps --requirement "$wheels/requirements.txt"
"$place/bin/hyper" --version >/dev/null
: >"$place/complete"
