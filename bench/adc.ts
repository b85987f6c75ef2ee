import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';

/** The lab's simulated converter with four channels of 16 bits. */
export const ADC_NAME = 'iio-sim-adc';

const IIO_DEVICES = '/sys/bus/iio/devices';

/**
 * Sets the simulated ADC to the counter signal, as fast as it is read.
 * @throws IioError `ENODEV` if the module is not loaded.
 */
export async function prepareAdc(): Promise<void> {
  const folder = await findDevice(ADC_NAME);
  await writeFile(join(folder, 'test_signal'), 'counter');
  await writeFile(join(folder, 'free_running'), '1');
}

async function findDevice(name: string): Promise<string> {
  for (const entry of await readdir(IIO_DEVICES)) {
    const folder = join(IIO_DEVICES, entry);
    if (entry.startsWith('iio:device') && (await readFile(join(folder, 'name'), 'utf8')).trim() === name) {
      return folder;
    }
  }
  throw new IioError('ENODEV', `No IIO device is called ${name}: load the lab's module iio_sim`);
}
