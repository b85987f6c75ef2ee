import { type ContextDescription, type DeviceDescription, IioError } from '@iio-bridge/protocol';
import type { AttributeRef } from '../../iio/context.js';
import type { AttributeTarget } from './command.js';

export interface NamedDevice {
  /** Position in the context. */
  readonly index: number;
  readonly device: DeviceDescription;
}

/** A device by id, or else by label or name. @throws {IioError} `ENODEV`. */
export function findDevice(context: ContextDescription, name: string): NamedDevice {
  const { devices } = context;
  const byId = devices.findIndex((device) => device.id === name);
  const index = byId >= 0 ? byId : devices.findIndex((device) => device.label === name || device.name === name);
  const device = devices[index];
  if (device === undefined) {
    throw new IioError('ENODEV', `there is no device ${name}`);
  }
  return { index, device };
}

/**
 * The attributes that a target names: one, or all of its kind.
 *
 * @throws {IioError} `ENODEV`, `ENXIO` (channel), `ENOENT` (attribute)
 */
export function findAttributes(context: ContextDescription, target: AttributeTarget): AttributeRef[] {
  const { index, device } = findDevice(context, target.device);
  const candidates = listAttributes(index, device, target);
  if (target.attribute === undefined) {
    // Attributes of a further buffer have a place in the list by their name only.
    const [first] = candidates;
    return candidates.filter(({ ref }) => !('sub' in ref) || ref.sub === subOf(first?.ref)).map(({ ref }) => ref);
  }
  const found = candidates.find(({ name }) => name === target.attribute);
  if (found === undefined) {
    throw new IioError('ENOENT', `${device.id} has no ${target.kind} attribute ${target.attribute}`);
  }
  return [found.ref];
}

interface Candidate {
  readonly name: string;
  readonly ref: AttributeRef;
}

function listAttributes(index: number, device: DeviceDescription, target: AttributeTarget): Candidate[] {
  switch (target.kind) {
    case 'device':
    case 'debug': {
      const { kind } = target;
      return (kind === 'device' ? device.attributes : device.debugAttributes).map(({ name }, attribute) => ({
        name,
        ref: { kind, device: index, attribute },
      }));
    }
    case 'buffer':
      return device.buffers.flatMap((buffer) =>
        buffer.attributes.map(({ name }, attribute) => ({
          name,
          ref: { kind: 'buffer', device: index, sub: buffer.index, attribute },
        })),
      );
    case 'channel': {
      const position = findChannel(device, target);
      return (device.channels[position]?.attributes ?? []).map(({ name }, attribute) => ({
        name,
        ref: { kind: 'channel', device: index, sub: position, attribute },
      }));
    }
  }
}

function findChannel(
  device: DeviceDescription,
  { direction, channel: name }: Extract<AttributeTarget, { kind: 'channel' }>,
): number {
  const { channels } = device;
  const byId = channels.findIndex((channel) => channel.direction === direction && channel.id === name);
  const position =
    byId >= 0
      ? byId
      : channels.findIndex(
          (channel) => channel.direction === direction && (channel.name === name || channel.label === name),
        );
  if (position < 0) {
    throw new IioError('ENXIO', `${device.id} has no channel ${name} in this direction`);
  }
  return position;
}

function subOf(ref: AttributeRef | undefined): number | undefined {
  return ref !== undefined && 'sub' in ref ? ref.sub : undefined;
}
