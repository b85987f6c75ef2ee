import {
  type AttributeDescription,
  type ChannelDescription,
  type ContextDescription,
  compareByteOrder,
  type DeviceDescription,
  sortByName,
  sortChannels,
} from '@iio-bridge/protocol';

/** A copy in the order in which clients of all generations number devices, channels and attributes. */
export function inProtocolOrder(context: ContextDescription): ContextDescription {
  return {
    ...context,
    attributes: new Map([...context.attributes].sort(([a], [b]) => compareByteOrder(a, b))),
    devices: context.devices.toSorted((a, b) => compareByteOrder(a.id, b.id)).map(sortDevice),
  };
}

/** A copy without the attributes' values, which no server sends. */
export function withoutValues(context: ContextDescription): ContextDescription {
  return {
    ...context,
    devices: context.devices.map((device) => ({
      ...device,
      attributes: device.attributes.map(withoutValue),
      debugAttributes: device.debugAttributes.map(withoutValue),
      eventAttributes: device.eventAttributes.map(withoutValue),
      channels: device.channels.map((channel) => ({
        ...channel,
        attributes: channel.attributes.map(withoutValue),
        eventAttributes: channel.eventAttributes.map(withoutValue),
      })),
      buffers: device.buffers.map((buffer) => ({ ...buffer, attributes: buffer.attributes.map(withoutValue) })),
    })),
  };
}

function sortDevice(device: DeviceDescription): DeviceDescription {
  const channels = sortChannels(device.channels);
  return {
    ...device,
    channels: channels.map(sortChannel),
    buffers: device.buffers
      .map((buffer) => ({
        ...buffer,
        attributes: sortByName(buffer.attributes),
        channels: buffer.channels
          .flatMap((position) => device.channels[position] ?? [])
          .map((channel) => channels.indexOf(channel))
          .sort((a, b) => a - b),
      }))
      .sort((a, b) => a.index - b.index),
    attributes: sortByName(device.attributes),
    debugAttributes: sortByName(device.debugAttributes),
    eventAttributes: sortByName(device.eventAttributes),
  };
}

function sortChannel(channel: ChannelDescription): ChannelDescription {
  return {
    ...channel,
    attributes: sortByName(channel.attributes),
    eventAttributes: sortByName(channel.eventAttributes),
  };
}

function withoutValue({ name, filename }: AttributeDescription): AttributeDescription {
  return filename === undefined ? { name } : { name, filename };
}
