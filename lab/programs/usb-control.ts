import { closeSync, constants, openSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { endianness } from 'node:os';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { errorCode } from '../../src/sys/errors.js';
import { type IoctlRequest, io, iowr } from '../../src/sys/ioctl-number.js';
import { ioctl } from '../../src/sys/libc.js';

/**
 * The host's side: `usb-control INTERFACE_NAME REQUEST VALUE` sends a vendor request without data to the interface of that
 * name, `usb-control INTERFACE_NAME reset` resets the device that has it. Prints `ok` or the errno's name.
 */

/**
 * `_IOWR('U', 0, struct usbdevfs_ctrltransfer)`, include/uapi/linux/usbdevice_fs.h: u8 bRequestType, u8 bRequest, u16
 * wValue, u16 wIndex, u16 wLength, u32 timeout in ms, void *data; 24 bytes with 64-bit pointers.
 */
const USBDEVFS_CONTROL: IoctlRequest = { name: 'USBDEVFS_CONTROL', number: iowr('U', 0, 24) };

/** `_IO('U', 20)`, of the same file. */
const USBDEVFS_RESET: IoctlRequest = { name: 'USBDEVFS_RESET', number: io('U', 20) };

const VENDOR_REQUEST_TO_INTERFACE = 0x41;
const TIMEOUT_MS = 5000;
const DEVICES = '/sys/bus/usb/devices';

async function value(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch {
    return '';
  }
}

async function findInterface(name: string): Promise<{ readonly node: string; readonly number: number }> {
  for (const entry of await readdir(DEVICES)) {
    if ((await value(join(DEVICES, entry, 'interface'))) === name) {
      const device = join(DEVICES, entry.replace(/:.*/, ''));
      const bus = (await value(join(device, 'busnum'))).padStart(3, '0');
      const address = (await value(join(device, 'devnum'))).padStart(3, '0');
      const number = Number.parseInt(await value(join(DEVICES, entry, 'bInterfaceNumber')), 16);
      return { node: join('/dev/bus/usb', bus, address), number };
    }
  }
  throw new IioError('ENODEV', `no USB interface is called ${name}`);
}

function controlTransfer(request: number, value: number, index: number): Uint8Array {
  const transfer = new DataView(new ArrayBuffer(24));
  const littleEndian = endianness() === 'LE';
  transfer.setUint8(0, VENDOR_REQUEST_TO_INTERFACE);
  transfer.setUint8(1, request);
  transfer.setUint16(2, value, littleEndian);
  transfer.setUint16(4, index, littleEndian);
  transfer.setUint32(8, TIMEOUT_MS, littleEndian);
  return new Uint8Array(transfer.buffer);
}

const [name = 'IIO', request = '0', argument = '0'] = process.argv.slice(2);
const target = await findInterface(name);
const fd = openSync(target.node, constants.O_RDWR);
try {
  if (request === 'reset') {
    ioctl(fd, USBDEVFS_RESET, new Uint8Array(0), target.node);
  } else {
    ioctl(fd, USBDEVFS_CONTROL, controlTransfer(Number(request), Number(argument), target.number), target.node);
  }
  process.stdout.write('ok\n');
} catch (error) {
  process.stdout.write(`${errorCode(error)}\n`);
} finally {
  closeSync(fd);
}
