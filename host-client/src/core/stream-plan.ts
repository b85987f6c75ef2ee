import { ChannelMask, type Direction, IioError, type StreamOptions as ServerOptions } from '@iio-bridge/protocol';
import type { Channel, Device } from './device.js';
import type { StreamPlan } from './session.js';

export const DEFAULT_BLOCKS = 4;
/** Servers compare a block's index as a signed 16-bit number. */
const MAX_BLOCKS = 32767;
/** A block's length travels in a signed 32-bit code. */
const MAX_SAMPLES = 2 ** 31 - 1;

/** What inputs and outputs have in common. */
export interface StreamOptions {
  /** Channels or their ids, names or labels; all that the buffer can carry if absent. Hardware may add channels. */
  readonly channels?: readonly (Channel | string)[];
  /** Sample sets per block. */
  readonly samplesPerBlock: number;
  /** Blocks in circulation between the hardware, the wire and the user. Default 4. */
  readonly blocks?: number;
  /** Default: the device's first buffer of the direction. */
  readonly bufferIndex?: number;
  /** Milliseconds to wait for a block; `Infinity` waits for ever. Default: the context's. */
  readonly timeoutMs?: number;
  /** Ends the stream: whoever waits for a block gets `ECANCELED`, and the buffer is closed. */
  readonly signal?: AbortSignal;
}

/** @throws IioError `EINVAL`, `NO_BUFFER`, `NO_CHANNEL` */
export function planFor(
  device: Device,
  direction: Direction,
  options: StreamOptions,
  extensions: ServerOptions | undefined,
  windowBytes?: number,
): StreamPlan {
  const { samplesPerBlock, blocks = DEFAULT_BLOCKS } = options;
  requireInteger('samplesPerBlock', samplesPerBlock, MAX_SAMPLES);
  requireInteger('blocks', blocks, MAX_BLOCKS);
  const first = device.buffers.find((buffer) => buffer.direction === direction)?.index;
  const bufferIndex = options.bufferIndex ?? first ?? 0;
  return {
    device,
    channels: device.description.channels,
    bufferIndex,
    mask: maskFor(device, direction, bufferIndex, options.channels),
    samplesPerBlock,
    blocks,
    windowBytes,
    extensions,
    what: `buffer ${bufferIndex} of ${device.id}`,
  };
}

function maskFor(
  device: Device,
  direction: Direction,
  bufferIndex: number,
  channels: StreamOptions['channels'],
): ChannelMask {
  const buffer = device.buffer(bufferIndex);
  if (buffer.direction !== direction) {
    const problem =
      direction === 'in'
        ? 'is an output: samples cannot be read from it'
        : 'is an input: samples cannot be written to it';
    throw new IioError('EINVAL', `buffer ${bufferIndex} of ${device.id} ${problem}`);
  }
  const available = buffer.description.channels;
  const wanted = channels?.map((channel) =>
    typeof channel === 'string' ? streamable(device, available, channel) : channel.position,
  );
  const positions = wanted ?? available;
  const missing = positions.find((position) => !available.includes(position));
  if (missing !== undefined || positions.length === 0) {
    const id = missing === undefined ? 'none' : (device.channels[missing]?.id ?? missing);
    const known = available.map((position) => device.channels[position]?.id).join(', ') || 'none';
    throw new IioError(
      'NO_CHANNEL',
      `buffer ${bufferIndex} of ${device.id} does not carry '${id}' (channels: ${known})`,
    );
  }
  return ChannelMask.of(device.channels.length, positions);
}

/** An id may name an input and an output; the buffer's one is meant. */
function streamable(device: Device, available: readonly number[], id: string): number {
  const match = available.find((position) => device.channels[position]?.id === id);
  return match ?? device.channel(id).position;
}

function requireInteger(name: string, value: number, most: number): void {
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new IioError('EINVAL', `${name} must be a whole number from 1 to ${most}, not ${value}`);
  }
}
