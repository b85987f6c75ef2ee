#!/usr/bin/python3
"""A function with one bulk endpoint, for a gadget in which ours is not the first: `first_function.py MOUNTPOINT`.

Writes the descriptors of FunctionFS (include/uapi/linux/usb/functionfs.h), and keeps the function until standard input ends.
"""
import os
import struct
import sys

FULL_SPEED, HIGH_SPEED, SUPER_SPEED = 1, 2, 4
NAME = b"first\0"


def interface(packet, companion=b""):
    return (
        struct.pack("<9B", 9, 4, 0, 0, 1, 0xFF, 0, 0, 1) + struct.pack("<BBBBHB", 7, 5, 0x81, 2, packet, 0) + companion
    )


def main():
    ep0 = os.open(os.path.join(sys.argv[1], "ep0"), os.O_RDWR)
    body = interface(64) + interface(512) + interface(1024, struct.pack("<BBBBH", 6, 0x30, 0, 0, 0))
    header = struct.pack("<6I", 3, 24 + len(body), FULL_SPEED | HIGH_SPEED | SUPER_SPEED, 2, 2, 3)
    os.write(ep0, header + body)
    os.write(ep0, struct.pack("<4IH", 2, 18 + len(NAME), 1, 1, 0x409) + NAME)
    print("ready", flush=True)
    sys.stdin.read()


main()
