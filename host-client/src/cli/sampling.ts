import { IioError, type SampleLayout } from '@iio-bridge/protocol';
import type { Attribute, Device } from '../index.js';

/** What turns a channel's raw values into physical ones: `(raw + offset) * scale`, in the unit of IIO's ABI. */
export interface Conversion {
  readonly scale: number | undefined;
  readonly offset: number | undefined;
}

/** In Hz, from the channels of a stream or their device; `undefined` if neither tells. */
export async function samplingFrequency(device: Device, layout: SampleLayout): Promise<number | undefined> {
  const owners = [...layout.channels.flatMap(({ position }) => device.channels[position] ?? []), device];
  for (const { attributes } of owners) {
    const frequency = await numberOf(attributes.get('sampling_frequency'));
    if (frequency !== undefined && frequency > 0) {
      return frequency;
    }
  }
  return undefined;
}

/** What attributes tell of the channels of a stream. */
export interface StreamFacts {
  /** Sample sets per second. */
  readonly rate: number | undefined;
  /** By channel position. */
  readonly conversions: ReadonlyMap<number, Conversion>;
}

/** To be read before the stream is opened: while it waits for attributes, it may lose samples. */
export async function streamFacts(device: Device, layout: SampleLayout): Promise<StreamFacts> {
  const conversions = new Map<number, Conversion>();
  for (const { position } of layout.channels) {
    const attributes = device.channels[position]?.attributes;
    conversions.set(position, {
      scale: await numberOf(attributes?.get('scale')),
      offset: await numberOf(attributes?.get('offset')),
    });
  }
  return { rate: await samplingFrequency(device, layout), conversions };
}

/** The first number of an attribute's value; none if the attribute cannot be read. */
async function numberOf(attribute: Attribute | undefined): Promise<number | undefined> {
  if (attribute === undefined) {
    return undefined;
  }
  try {
    const value = Number.parseFloat(await attribute.read());
    return Number.isFinite(value) ? value : undefined;
  } catch (error) {
    if (error instanceof IioError && error.code !== 'DISCONNECTED' && error.code !== 'ECANCELED') {
      return undefined;
    }
    throw error;
  }
}

/** Units of scaled values, by the type that a channel's id begins with: Documentation/ABI/testing/sysfs-bus-iio. */
const UNITS: readonly (readonly [type: string, unit: string, factor: number])[] = [
  ['altvoltage', 'V', 1e-3],
  ['voltage', 'V', 1e-3],
  ['current', 'A', 1e-3],
  ['power', 'W', 1e-3],
  ['accel', 'm/s²', 1],
  ['anglvel', 'rad/s', 1],
  ['magn', 'G', 1],
  ['temp', '°C', 1e-3],
  ['pressure', 'Pa', 1e3],
  ['humidityrelative', '%', 1e-3],
  ['illuminance', 'lx', 1],
];

/** The unit of a channel's scaled values, and what they are multiplied by to be in it. */
export function unitOf(channelId: string): { readonly unit: string; readonly factor: number } | undefined {
  const found = UNITS.find(([type]) => channelId.startsWith(type));
  return found === undefined ? undefined : { unit: found[1], factor: found[2] };
}
