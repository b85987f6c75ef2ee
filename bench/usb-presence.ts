import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { IioError } from '@iio-bridge/protocol';

const USB_DEVICES = '/sys/bus/usb/devices';
const INTERFACE_NAME = 'IIO';
const LOOK_EVERY_MS = 10;
const GIVE_UP_MS = 30_000;

/**
 * Waits until the host side of a loop-back has an IIO interface. Only then may libusb start: without udevd it sees the
 * devices that exist when it starts, and no later ones.
 * @throws IioError `ETIMEDOUT` if that takes more than 30 s.
 */
export async function waitForIioInterface(): Promise<void> {
  const giveUpAt = performance.now() + GIVE_UP_MS;
  while (performance.now() < giveUpAt) {
    if (await isPresent()) {
      return;
    }
    await delay(LOOK_EVERY_MS);
  }
  throw new IioError('ETIMEDOUT', `No USB device with an interface ${INTERFACE_NAME} has appeared in ${USB_DEVICES}`);
}

async function isPresent(): Promise<boolean> {
  for (const entry of await readdir(USB_DEVICES)) {
    try {
      if ((await readFile(join(USB_DEVICES, entry, 'interface'), 'utf8')).trim() === INTERFACE_NAME) {
        return true;
      }
    } catch {
      // Not an interface, without a name, or unplugged meanwhile.
    }
  }
  return false;
}
