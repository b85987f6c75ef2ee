#!/usr/bin/python3
"""Opens a buffer of each converter on one libiio context: `too_many_buffers.py URI`. Prints `ok` or the errno of each, then
closes the first and tries the last one again."""
import gc
import sys

import iio

NAMES = ("iio-sim-adc", "iio-sim-mixed", "iio-sim-dac")


def open_buffer(context, name):
    device = context.find_device(name)
    for channel in device.channels:
        if channel.scan_element:
            channel.enabled = True
    return iio.Buffer(device, 1024)


def main():
    context = iio.Context(sys.argv[1])
    buffers = []
    for name in NAMES:
        try:
            buffers.append(open_buffer(context, name))
            print("ok")
        except OSError as error:
            print(error.errno)
    del buffers[0]
    gc.collect()
    open_buffer(context, NAMES[-1])
    print("ok")


main()
