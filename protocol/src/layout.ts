import { IioError } from './errors.js';
import type { ChannelMask } from './mask.js';
import type { ChannelDescription, ScanElement, ScanFormat } from './model.js';

export interface ChannelLayout {
  /** In the device's channel list. */
  readonly position: number;
  readonly channel: ChannelDescription;
  /** Bytes from the start of the sample set. */
  readonly offset: number;
  /** Storage of all of the channel's repeated elements. */
  readonly bytes: number;
}

/** Where the enabled channels stand in one sample set. */
export interface SampleLayout {
  /** Size of a sample set, padding included; 0 if no enabled channel is a scan element. */
  readonly bytes: number;
  /** Enabled scan elements, by scan index. */
  readonly channels: readonly ChannelLayout[];
}

/**
 * The kernel's layout of a sample set (drivers/iio/industrialio-buffer.c, iio_compute_scan_bytes): elements by scan
 * index, each aligned to its own size (repeats included), the whole padded to the largest. Channels with the same scan
 * index share storage. Use the mask that the server returned: hardware may couple channels.
 */
export function sampleLayout(channels: readonly ChannelDescription[], mask: ChannelMask): SampleLayout {
  const elements: { position: number; channel: ChannelDescription; scanElement: ScanElement }[] = [];
  channels.forEach((channel, position) => {
    if (channel.scanElement !== undefined && mask.has(position)) {
      elements.push({ position, channel, scanElement: channel.scanElement });
    }
  });
  elements.sort((a, b) => a.scanElement.index - b.scanElement.index);

  const placed: ChannelLayout[] = [];
  let end = 0;
  let largest = 1;
  let previous: { index: number; offset: number } | undefined;
  for (const { position, channel, scanElement } of elements) {
    const bytes = elementBytes(scanElement.format);
    if (previous?.index !== scanElement.index) {
      previous = { index: scanElement.index, offset: roundUp(end, bytes) };
      end = previous.offset + bytes;
      largest = Math.max(largest, bytes);
    }
    placed.push({ position, channel, offset: previous.offset, bytes });
  }
  return { bytes: roundUp(end, largest), channels: placed };
}

/** Bytes that a scan element takes in a sample set, its repeats included. */
export function elementBytes(format: ScanFormat): number {
  return (format.storageBits / 8) * format.repeat;
}

/**
 * One raw value: byte order, shift, then mask or sign extension to `bits`.
 *
 * `bigint` if the format has more than 32 significant bits, `number` otherwise; which of the two depends on the format
 * alone. A signed, fully defined value keeps its sign through the shift.
 *
 * @param byteOffset of the channel in the view: the sample set's start plus the channel's offset
 * @param element which one of a repeated element's values, 0 … repeat - 1
 */
export function decodeSample(view: DataView, byteOffset: number, format: ScanFormat, element = 0): number | bigint {
  const bytes = format.storageBits / 8;
  const at = byteOffset + element * bytes;
  const little = format.endianness === 'le';
  if (format.storageBits > 32 || format.storageBits === 24) {
    const value = extract(readBig(view, at, bytes, little), format);
    return format.bits > 32 ? value : Number(value);
  }
  const signed = readSmall(view, at, bytes, little);
  if (format.fullyDefined) {
    return format.signed ? signed >> format.shift : (signed & storageMask(format.storageBits)) >>> format.shift;
  }
  const shifted = (signed & storageMask(format.storageBits)) >>> format.shift;
  const unused = 32 - format.bits;
  return format.signed ? (shifted << unused) >> unused : (shifted << unused) >>> unused;
}

/**
 * The inverse of {@link decodeSample}: masks the value to `bits`, shifts it left and stores it in the format's byte order.
 *
 * @throws IioError `EINVAL` for a `number` that is no integer
 */
export function encodeSample(
  view: DataView,
  byteOffset: number,
  format: ScanFormat,
  value: number | bigint,
  element = 0,
): void {
  if (typeof value === 'number' && !Number.isInteger(value)) {
    throw new IioError('EINVAL', `a sample must be an integer, not ${value}`);
  }
  const bytes = format.storageBits / 8;
  const at = byteOffset + element * bytes;
  const little = format.endianness === 'le';
  // A fully defined value fills its storage up to the shift, so that its sign reaches the top bit.
  const bits = format.fullyDefined ? format.storageBits - format.shift : format.bits;
  const stored = BigInt.asUintN(format.storageBits, BigInt.asUintN(bits, BigInt(value)) << BigInt(format.shift));
  for (let i = 0; i < bytes; i++) {
    const significance = little ? i : bytes - 1 - i;
    view.setUint8(at + i, Number((stored >> BigInt(significance * 8)) & 0xffn));
  }
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

/** As an operand of `&`, which works on 32 bits. */
function storageMask(storageBits: number): number {
  return storageBits === 32 ? -1 : 2 ** storageBits - 1;
}

function readSmall(view: DataView, at: number, bytes: number, little: boolean): number {
  switch (bytes) {
    case 1:
      return view.getInt8(at);
    case 2:
      return view.getInt16(at, little);
    default:
      return view.getInt32(at, little);
  }
}

function readBig(view: DataView, at: number, bytes: number, little: boolean): bigint {
  if (bytes === 8) return view.getBigUint64(at, little);
  let value = 0n;
  for (let i = 0; i < bytes; i++) {
    value = (value << 8n) | BigInt(view.getUint8(at + (little ? bytes - 1 - i : i)));
  }
  return value;
}

function extract(stored: bigint, format: ScanFormat): bigint {
  const shift = BigInt(format.shift);
  if (!format.fullyDefined) {
    const value = stored >> shift;
    return format.signed ? BigInt.asIntN(format.bits, value) : BigInt.asUintN(format.bits, value);
  }
  return (format.signed ? BigInt.asIntN(format.storageBits, stored) : stored) >> shift;
}
