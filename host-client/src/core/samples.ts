import {
  type ChannelLayout,
  decodeSample,
  encodeSample,
  IioError,
  type SampleLayout,
  type ScanFormat,
} from '@iio-bridge/protocol';
import type { Channel } from './device.js';

type NumberArray =
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>;

type BigIntArray = BigInt64Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>;

export type SampleArray = NumberArray | BigIntArray;

/** `(raw + offset) * scale` is a channel's value in the unit that the kernel's IIO ABI documents for its type. */
export interface Calibration {
  readonly scale: number;
  readonly offset: number;
}

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

interface Placed {
  readonly place: ChannelLayout;
  readonly format: ScanFormat;
}

/** @throws IioError `NO_CHANNEL` if the stream does not carry the channel */
function placed(layout: SampleLayout, which: Channel | string): Placed {
  const place = layout.channels.find(({ channel, position }) =>
    typeof which === 'string' ? channel.id === which : position === which.position,
  );
  const format = place?.channel.scanElement?.format;
  if (place === undefined || format === undefined) {
    const known = layout.channels.map(({ channel }) => channel.id).join(', ');
    const id = typeof which === 'string' ? which : which.id;
    throw new IioError('NO_CHANNEL', `the stream does not carry channel '${id}' (channels: ${known})`);
  }
  return { place, format };
}

/** All channels as one typed array; `undefined` unless all have one plain format and nothing lies between them. */
export function interleavedView(layout: SampleLayout, bytes: Uint8Array<ArrayBuffer>): SampleArray | undefined {
  const format = layout.channels[0]?.channel.scanElement?.format;
  if (format === undefined || !isPlain(format)) {
    return undefined;
  }
  let end = 0;
  for (const { channel, offset, bytes: size } of layout.channels) {
    const other = channel.scanElement?.format;
    const same = other?.storageBits === format.storageBits && other.signed === format.signed && isPlain(other);
    if (!same || offset !== end) {
      return undefined;
    }
    end += size;
  }
  return end === layout.bytes ? viewOf(bytes, format) : undefined;
}

/** One channel's raw values: a view where the sample set is just this channel in a plain format, a copy otherwise. */
export function channelValues(
  layout: SampleLayout,
  bytes: Uint8Array<ArrayBuffer>,
  which: Channel | string,
): SampleArray {
  const { place, format } = placed(layout, which);
  const samples = Math.floor(bytes.length / layout.bytes);
  const count = samples * format.repeat;
  if (!isPlain(format)) {
    const decoded = arrayFor(format, count);
    const store = isBig(decoded)
      ? (index: number, value: number | bigint) => {
          decoded[index] = BigInt(value);
        }
      : (index: number, value: number | bigint) => {
          decoded[index] = Number(value);
        };
    decode(layout, bytes, place, format, store);
    return decoded;
  }
  const whole = viewOf(bytes, format);
  if (place.bytes === layout.bytes) {
    return whole;
  }
  const picked = arrayFor(format, count);
  const from = strideOf(layout, place, format);
  if (isBig(picked)) {
    return isBig(whole) ? pick(whole, picked, from) : picked;
  }
  return isBig(whole) ? picked : pick(whole, picked, from);
}

/** One channel's values in physical units, converted into `target`. */
export function channelFloats(
  layout: SampleLayout,
  bytes: Uint8Array<ArrayBuffer>,
  which: Channel | string,
  { scale, offset }: Calibration,
  target: Float32Array<ArrayBuffer> | undefined,
): Float32Array<ArrayBuffer> {
  const { place, format } = placed(layout, which);
  const count = Math.floor(bytes.length / layout.bytes) * format.repeat;
  const floats = (target ?? new Float32Array(count)).subarray(0, count);
  if (floats.length < count) {
    throw new IioError('EINVAL', `${count} values do not fit an array of ${floats.length}`);
  }
  const whole = isPlain(format) ? viewOf(bytes, format) : undefined;
  if (whole === undefined || isBig(whole)) {
    decode(layout, bytes, place, format, (index, value) => {
      floats[index] = (Number(value) + offset) * scale;
    });
    return floats;
  }
  const { start, stride, repeat } = strideOf(layout, place, format);
  for (let from = start, to = 0; to < count; from += stride) {
    for (let element = 0; element < repeat; element++) {
      floats[to++] = ((whole[from + element] ?? 0) + offset) * scale;
    }
  }
  return floats;
}

/** Stores one channel's raw values from the block's start on; what else is in the sample sets stays. */
export function setChannelValues(
  layout: SampleLayout,
  bytes: Uint8Array<ArrayBuffer>,
  which: Channel | string,
  values: ArrayLike<number> | ArrayLike<bigint>,
): void {
  const { place, format } = placed(layout, which);
  const samples = Math.floor(values.length / format.repeat);
  if (samples * layout.bytes > bytes.length) {
    throw new IioError('EINVAL', `${values.length} values of ${place.channel.id} do not fit the block`);
  }
  const whole = isPlain(format) ? viewOf(bytes, format) : undefined;
  if (whole !== undefined && !isBig(whole)) {
    const { start, stride, repeat } = strideOf(layout, place, format);
    for (let to = start, from = 0; from < samples * repeat; to += stride) {
      for (let element = 0; element < repeat; element++) {
        whole[to + element] = Number(values[from++]);
      }
    }
    return;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let sample = 0, from = 0; sample < samples; sample++) {
    for (let element = 0; element < format.repeat; element++) {
      encodeSample(view, sample * layout.bytes + place.offset, format, values[from++] ?? 0, element);
    }
  }
}

function decode(
  layout: SampleLayout,
  bytes: Uint8Array<ArrayBuffer>,
  { offset }: ChannelLayout,
  format: ScanFormat,
  store: (index: number, value: number | bigint) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const samples = Math.floor(bytes.length / layout.bytes);
  for (let sample = 0, to = 0; sample < samples; sample++) {
    for (let element = 0; element < format.repeat; element++) {
      store(to++, decodeSample(view, sample * layout.bytes + offset, format, element));
    }
  }
}

interface Stride {
  readonly start: number;
  readonly stride: number;
  readonly repeat: number;
}

/** In elements. */
function strideOf(layout: SampleLayout, { offset }: ChannelLayout, { storageBits, repeat }: ScanFormat): Stride {
  const size = storageBits / 8;
  return { start: offset / size, stride: layout.bytes / size, repeat };
}

function pick<V, T extends { [index: number]: V; readonly length: number }>(
  whole: T,
  picked: T,
  { start, stride, repeat }: Stride,
): T {
  for (let from = start, to = 0; to < picked.length; from += stride) {
    for (let element = 0; element < repeat; element++) {
      const value = whole[from + element];
      if (value !== undefined) {
        picked[to] = value;
      }
      to++;
    }
  }
  return picked;
}

function isBig(array: SampleArray): array is BigIntArray {
  return array instanceof BigInt64Array || array instanceof BigUint64Array;
}

/** Whether a value is just the bytes in memory, read as the host reads them. */
function isPlain({ endianness, shift, bits, storageBits }: ScanFormat): boolean {
  const widthFits = storageBits === 8 || storageBits === 16 || storageBits === 32 || storageBits === 64;
  return HOST_IS_LITTLE_ENDIAN && endianness === 'le' && shift === 0 && bits === storageBits && widthFits;
}

function viewOf(bytes: Uint8Array<ArrayBuffer>, format: ScanFormat): SampleArray {
  const Type = typeFor(format.signed, format.storageBits);
  return new Type(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / Type.BYTES_PER_ELEMENT));
}

function arrayFor(format: ScanFormat, length: number): SampleArray {
  // decodeSample gives a bigint exactly for more than 32 significant bits.
  const { signed, fullyDefined, bits, storageBits } = format;
  const Type = typeFor(signed, bits > 32 ? 64 : fullyDefined ? Math.min(storageBits, 32) : bits);
  return new Type(length);
}

function typeFor(signed: boolean, bits: number) {
  if (bits <= 8) {
    return signed ? Int8Array : Uint8Array;
  }
  if (bits <= 16) {
    return signed ? Int16Array : Uint16Array;
  }
  if (bits <= 32) {
    return signed ? Int32Array : Uint32Array;
  }
  return signed ? BigInt64Array : BigUint64Array;
}
