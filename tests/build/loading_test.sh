#!/bin/sh
# The program, and so the library, starts without the CUDA driver and without the CUDA runtime's shared library.
#   loading_test.sh PROGRAM
set -eu
needed=$(LC_ALL=C readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
echo "$needed"
case "$needed" in
  *libcuda* | *libcublas* | *libcusparse* | *libnv*)
    echo "the program cannot start where these are not installed"
    exit 1 ;;
esac
# Devices hidden: what a machine without a GPU shows, on every machine.
CUDA_VISIBLE_DEVICES='' "$1" list
