#!/usr/bin/python3
"""Everything over one libiio context at the same time: `all_at_once.py URI SECONDS`.

Captures from iio-sim-adc, whose samples must count from 0 without a gap, plays on iio-sim-dac, and reads an attribute 100
times a second. Prints what was done as a JSON object; ends with a traceback if anything fails.
"""
import json
import struct
import sys
import threading
import time

import iio

SETS = 8192
PERIOD_S = 0.01


def channels_on(device):
    for channel in device.channels:
        if channel.scan_element:
            channel.enabled = True
    return device


def main():
    uri, seconds = sys.argv[1], float(sys.argv[2])
    context = iio.Context(uri)
    adc, dac = (channels_on(context.find_device(name)) for name in ("iio-sim-adc", "iio-sim-dac"))
    end = time.monotonic() + seconds
    done = {"captured": 0, "played": 0, "reads": 0}
    failures = []

    def worker(work):
        def run():
            try:
                work()
            except Exception as error:  # Whatever it is, the other threads must not hide it.
                failures.append(repr(error))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def capture():
        buffer = iio.Buffer(adc, SETS)
        expected = 0
        while time.monotonic() < end:
            buffer.refill()
            values = struct.unpack(f"<{SETS}Q", buffer.read())
            if values != tuple(range(expected, expected + SETS)):
                raise ValueError(f"{values[0]} to {values[-1]} instead of {expected} and following")
            expected += SETS
            done["captured"] += 1

    def play():
        buffer = iio.Buffer(dac, SETS)
        first = 0
        while time.monotonic() < end:
            buffer.write(bytearray(struct.pack(f"<{SETS}Q", *range(first, first + SETS))))
            buffer.push()
            first += SETS
            done["played"] += 1

    def read():
        due = time.monotonic()
        while due < end:
            if adc.attrs["sampling_frequency"].value != "1000000":
                raise ValueError("another value")
            done["reads"] += 1
            due += PERIOD_S
            time.sleep(max(0, due - time.monotonic()))

    for thread in [worker(work) for work in (capture, play, read)]:
        thread.join()
    print(json.dumps({**done, "failures": failures}))


main()
