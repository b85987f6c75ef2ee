import { ChannelMask, type Direction, IioError, type SampleLayout, sampleLayout } from '@iio-bridge/protocol';
import type { BufferInfo, Channel, Device } from '../index.js';

/** The device's first buffer of a direction. @throws IioError `NO_BUFFER` */
export function bufferOf(device: Device, direction: Direction): BufferInfo {
  const buffer = device.buffers.find((candidate) => candidate.direction === direction);
  if (buffer === undefined) {
    const what = direction === 'in' ? 'samples cannot be read from it' : 'samples cannot be written to it';
    throw new IioError('NO_BUFFER', `${device.name ?? device.id} has no ${direction}put buffer: ${what}`);
  }
  return buffer;
}

/** The channels that a device's first buffer of a direction can carry. @throws IioError `NO_BUFFER` */
export function streamChannels(device: Device, direction: Direction): readonly Channel[] {
  return bufferOf(device, direction).description.channels.flatMap((position) => device.channels[position] ?? []);
}

/**
 * How the named channels, or all, stand in a sample set, as far as this can be known before the buffer is open.
 * @throws IioError `NO_BUFFER`, `NO_CHANNEL`
 */
export function expectedLayout(device: Device, direction: Direction, names: readonly string[]): SampleLayout {
  const available = streamChannels(device, direction);
  const wanted = names.length === 0 ? available : names.map((name) => device.channel(name, direction));
  const { channels } = device.description;
  return sampleLayout(
    channels,
    ChannelMask.of(
      channels.length,
      wanted.map(({ position }) => position),
    ),
  );
}

export function channelIds({ channels }: SampleLayout): string[] {
  return channels.map(({ channel }) => channel.id);
}
