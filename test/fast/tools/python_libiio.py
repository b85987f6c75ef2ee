"""Uses libiio's Python binding on a context, and prints what it got as one JSON object."""

import json
import sys

import iio

SETS = 1000


def attributes(owner, name):
    """By name: the value, or the errno that reading it gives."""
    values = {}
    for key, attribute in getattr(owner, name).items():
        try:
            values[key] = attribute.value
        except OSError as error:
            values[key] = error.errno
    return values


def walk(context):
    return [
        {
            "id": device.id,
            "name": device.name,
            "label": device.label,
            "attributes": attributes(device, "attrs"),
            "debug": attributes(device, "debug_attrs"),
            "channels": [
                {
                    "id": channel.id,
                    "name": channel.name,
                    "output": channel.output,
                    "attributes": attributes(channel, "attrs"),
                }
                for channel in device.channels
            ],
        }
        for device in context.devices
    ]


def write(context):
    """What is read back."""
    values = context.find_device("emu-values")
    values.attrs["integer"].value = "12"
    values.attrs["text"].value = " two  words "
    values.attrs["long"].value = "x" * 1000
    values.debug_attrs["test_mode"].value = "on"
    channel = values.find_channel("RX_LO", True)
    channel.attrs["frequency"].value = "7"
    device = context.find_device("emu-adc")
    device.reg_write(0x20, 0x1234)
    return {
        "integer": values.attrs["integer"].value,
        "text": values.attrs["text"].value,
        "long": values.attrs["long"].value,
        "test_mode": values.debug_attrs["test_mode"].value,
        "frequency": channel.attrs["frequency"].value,
        "register": device.reg_read(0x20),
    }


def capture(context):
    device = context.find_device("emu-wide")
    channels = [device.find_channel(f"voltage{n}") for n in (0, 33)]
    for channel in channels:
        channel.enabled = True
    buffer = iio.Buffer(device, SETS)
    blocks = []
    for _ in range(3):
        buffer.refill()
        blocks.append(bytes(buffer.read()).hex())
    single = bytes(channels[1].read(buffer)).hex()
    return {"blocks": blocks, "single": single}


def play(uri):
    """What the wire brings back of what was played, as far as it was compared."""
    listening = iio.Context(uri)
    adc = listening.find_device("emu-adc")
    playing = iio.Context(uri)
    dac = playing.find_device("emu-dac")
    for device in (adc, dac):
        for channel in device.channels:
            channel.enabled = True
    reader = iio.Buffer(adc, SETS)
    samples = bytearray(n * 7 % 251 for n in range(8 * SETS))
    writer = iio.Buffer(dac, SETS)
    for _ in range(4):
        writer.write(samples)
        writer.push()
    reader.refill()
    return bytes(reader.read()) == bytes(samples)


def main(uri):
    context = iio.Context(uri)
    context.timeout = 10000
    result = {
        "description": context.description,
        "version": list(context.version),
        "attributes": dict(context.attrs),
        "devices": walk(context),
        "written": write(context),
        "captured": capture(context),
        "played": play(uri),
    }
    json.dump(result, sys.stdout)


main(sys.argv[1])
