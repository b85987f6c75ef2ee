import type { DeviceDescription } from '@iio-bridge/protocol';
import type { Backend } from '../iio/backend.js';

const NAME = 'sampling_frequency';

/**
 * Sample sets per second of a buffer: its device's, or that of one of its channels. Undefined where neither says.
 */
export async function samplingFrequency(
  backend: Backend,
  deviceIndex: number,
  device: DeviceDescription,
  bufferIndex: number,
): Promise<number | undefined> {
  const ofDevice = device.attributes.findIndex(({ name }) => name === NAME);
  if (ofDevice >= 0) {
    return await read(() => backend.readAttribute({ kind: 'device', device: deviceIndex, attribute: ofDevice }));
  }
  for (const sub of device.buffers.find(({ index }) => index === bufferIndex)?.channels ?? []) {
    const attribute = device.channels[sub]?.attributes.findIndex(({ name }) => name === NAME) ?? -1;
    if (attribute >= 0) {
      return await read(() => backend.readAttribute({ kind: 'channel', device: deviceIndex, sub, attribute }));
    }
  }
  return undefined;
}

/** A driver that does not answer is one that does not say. */
async function read(attribute: () => Promise<Uint8Array>): Promise<number | undefined> {
  const text = await attribute().then(
    (bytes) => new TextDecoder().decode(bytes),
    () => '',
  );
  const hertz = Number.parseFloat(text);
  return hertz > 0 && Number.isFinite(hertz) ? hertz : undefined;
}
