#!/bin/sh
# Compiles a relocatable CPython out of Debian's source package, in a container of the distribution that it is to run on:
# compile_python.sh MIRROR SUITE PACKAGE (python3.11). /source: where zipped_bytecode.py is; /target: where python.tar.gz goes.
set -eu
mirror=$1 suite=$2 package=$3
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q --yes --no-install-recommends dpkg-dev gcc libbz2-dev libc6-dev libffi-dev liblzma-dev libsqlite3-dev libssl-dev \
  make patchelf zlib1g-dev
echo "deb-src $mirror $suite main" > /etc/apt/sources.list.d/source.list
apt-get update -q
mkdir /build
cd /build
apt-get source -q --download-only "$package"
tar -xf "$package"_*.orig.tar.* --strip-components=1
./configure --quiet --prefix=/python --without-ensurepip --disable-test-modules
make --silent -j"$(nproc)"
make --silent install DESTDIR=/stage
cd /stage/python
rm -rf include share lib/*.a lib/pkgconfig lib/python3*/config-* lib/python3*/idlelib lib/python3*/tkinter lib/python3*/lib2to3 \
  lib/python3*/turtledemo
find . -name __pycache__ -prune -exec rm -rf {} +
# Libraries beside it, but for those of the C library.
for file in bin/"$package" lib/python3*/lib-dynload/*.so; do
  strip "$file"
  ldd "$file" | sed -nE 's/^.* => (\/[^ ]+) .*/\1/p' | grep -vE '/(libc|libm|libdl|librt|libpthread|libutil|libresolv|libnsl)[.-]' |
    xargs -r cp --update --dereference --target-directory=lib
done
cp -n /source/zipped_bytecode.py lib/python3*/site-packages/
echo 'import zipped_bytecode' > "$(echo lib/python3*/site-packages)/zipped_bytecode.pth"
patchelf --set-rpath '$ORIGIN/../lib' bin/"$package"
for file in lib/python3*/lib-dynload/*.so; do patchelf --set-rpath '$ORIGIN/../..' "$file"; done
for file in lib/*.so*; do patchelf --set-rpath '$ORIGIN' "$file"; done
# It must run without what it was compiled with.
mv /stage/python /elsewhere
/elsewhere/bin/"$package" -I -c 'import bz2, ctypes, lzma, sqlite3, ssl, zlib'
mkdir /out
mv /elsewhere /out/python
tar -czf /target/partial --owner=0 --group=0 -C /out python
mv /target/partial /target/python.tar.gz
