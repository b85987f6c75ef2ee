import { type ChannelMask, type DeviceDescription, errnoNumber, IioError } from '@iio-bridge/protocol';
import type { Backend } from '../iio/backend.js';
import type { AttributeRef } from '../iio/context.js';

const NAME = 'sampling_frequency';

/**
 * How many sample sets a device makes per second, by its attribute `sampling_frequency` or that of a channel, one of
 * `mask` first. Undefined where none says.
 */
export async function samplingFrequency(
  backend: Backend,
  deviceIndex: number,
  device: DeviceDescription,
  mask: ChannelMask,
): Promise<number | undefined> {
  const refs: AttributeRef[] = [];
  const ofDevice = device.attributes.findIndex(({ name }) => name === NAME);
  if (ofDevice >= 0) {
    refs.push({ kind: 'device', device: deviceIndex, attribute: ofDevice });
  }
  const positions = device.channels.map((_, position) => position);
  for (const sub of positions.toSorted((a, b) => Number(mask.has(b)) - Number(mask.has(a)) || a - b)) {
    const attribute = device.channels[sub]?.attributes.findIndex(({ name }) => name === NAME) ?? -1;
    if (attribute >= 0) {
      refs.push({ kind: 'channel', device: deviceIndex, sub, attribute });
    }
  }
  for (const ref of refs) {
    const hertz = await readNumber(backend, ref);
    if (hertz !== undefined && hertz > 0) {
      return hertz;
    }
  }
  return undefined;
}

/** A driver that cannot say leaves the answer to the next attribute. */
async function readNumber(backend: Backend, ref: AttributeRef): Promise<number | undefined> {
  try {
    const text = new TextDecoder().decode(await backend.readAttribute(ref)).replace(/[\0\n].*$/s, '');
    const value = Number(text);
    return text.trim() === '' || !Number.isFinite(value) ? undefined : value;
  } catch (error) {
    if (error instanceof IioError && errnoNumber(error.code) !== undefined) {
      return undefined;
    }
    throw error;
  }
}
