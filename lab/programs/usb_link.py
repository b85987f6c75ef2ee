#!/usr/bin/python3
"""Talks to the IIO interface of a gadget over usbfs, transfer by transfer, with nothing in between that would tidy up.

Commands come on standard input, a line each, and are answered by a line: what was received, `ok`, or an errno's name.

  control REQUEST_TYPE REQUEST VALUE [LENGTH]   a control request, with LENGTH bytes of data if that is not 0
  open PIPE | close PIPE | reset                the vendor requests of iiod's hosts
  line PIPE LENGTH TEXT                         a text command in one transfer, padded with blanks to LENGTH bytes (0: not)
  send PIPE HEX                                 one transfer
  receive PIPE LENGTH                           one item of exactly LENGTH bytes, as hex
  answer PIPE                                   one line, as text

The interface is claimed until standard input ends.
"""
import ctypes
import errno
import fcntl
import glob
import os
import struct
import sys

# include/uapi/linux/usbdevice_fs.h, with 64-bit pointers.
CONTROL = 0xC0185500
BULK = 0xC0185502
CLAIM = 0x8004550F

TIMEOUT_MS = 30000
ENDPOINT, INTERFACE = 5, 4
RESET_PIPES, OPEN_PIPE, CLOSE_PIPE = 0, 1, 2
VENDOR_TO_INTERFACE = 0x41


def text(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


class Interface:
    """Owns the open device node and the claim."""

    def __init__(self):
        path = next(p for p in glob.glob("/sys/bus/usb/devices/*/interface") if text(p) == "IIO")
        device = os.path.dirname(path).split(":")[0]
        self.number = int(text(os.path.join(os.path.dirname(path), "bInterfaceNumber")), 16)
        self.endpoints = self.read_endpoints(os.path.join(device, "descriptors"))
        node = f"/dev/bus/usb/{int(text(device + '/busnum')):03}/{int(text(device + '/devnum')):03}"
        self.fd = os.open(node, os.O_RDWR)
        fcntl.ioctl(self.fd, CLAIM, struct.pack("=I", self.number))

    def read_endpoints(self, path):
        """Addresses in the order of the descriptors."""
        with open(path, "rb") as file:
            data = file.read()
        found, ours, at = [], False, 0
        while at + 2 <= len(data):
            length, kind = data[at], data[at + 1]
            if kind == INTERFACE:
                ours = data[at + 2] == self.number
            elif kind == ENDPOINT and ours:
                found.append(data[at + 2])
            at += length
        return found

    def control(self, request_type, request, value, length=0):
        buffer = ctypes.create_string_buffer(max(length, 1))
        transfer = struct.pack(
            "=BBHHHIxxxxQ", request_type, request, value, self.number, length, TIMEOUT_MS, ctypes.addressof(buffer)
        )
        fcntl.ioctl(self.fd, CONTROL, transfer)

    def bulk(self, endpoint, buffer):
        transfer = struct.pack("=IIIxxxxQ", endpoint, len(buffer), TIMEOUT_MS, ctypes.addressof(buffer))
        # Only with an argument that can change does the call return the number of bytes.
        return fcntl.ioctl(self.fd, BULK, bytearray(transfer))

    def send(self, pipe, data):
        buffer = ctypes.create_string_buffer(data, len(data))
        self.bulk(self.endpoints[2 * pipe + 1], buffer)

    def receive(self, pipe, length):
        """One transfer of at most that many bytes."""
        buffer = ctypes.create_string_buffer(length)
        count = self.bulk(self.endpoints[2 * pipe], buffer)
        return buffer.raw[:count]


def execute(interface, words, line):
    command = words[0]
    if command == "control":
        interface.control(*(int(word, 0) for word in words[1:]))
    elif command == "reset":
        interface.control(VENDOR_TO_INTERFACE, RESET_PIPES, 0)
    elif command == "open":
        interface.control(VENDOR_TO_INTERFACE, OPEN_PIPE, int(words[1]))
    elif command == "close":
        interface.control(VENDOR_TO_INTERFACE, CLOSE_PIPE, int(words[1]))
    elif command == "line":
        content = line.split(" ", 3)[3]
        interface.send(int(words[1]), content.ljust(int(words[2]) - 2).encode() + b"\r\n")
    elif command == "send":
        interface.send(int(words[1]), bytes.fromhex(words[2]))
    elif command == "receive":
        return interface.receive(int(words[1]), int(words[2])).hex()
    elif command == "answer":
        return interface.receive(int(words[1]), 1024).decode().rstrip("\n")
    else:
        return "unknown command"
    return "ok"


def main():
    interface = Interface()
    print("claimed", flush=True)
    for line in sys.stdin:
        try:
            result = execute(interface, line.split(), line.rstrip("\n"))
        except OSError as error:
            result = errno.errorcode.get(error.errno, str(error.errno))
        print(result, flush=True)


main()
