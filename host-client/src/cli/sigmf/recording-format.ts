import { decodeSample, encodeSample, IioError, type SampleLayout, type ScanFormat } from '@iio-bridge/protocol';
import {
  type Datatype,
  datatypeOfLayout,
  datatypeOfValues,
  formatDatatype,
  isQuadrature,
  type Quadrature,
  type StoredValues,
} from './datatype.js';

/** How the sample sets of a stream become a SigMF dataset. */
export interface RecordingFormat {
  /** `core:datatype` */
  readonly datatype: string;
  /** `core:num_channels`; a pair of in phase and quadrature is one. */
  readonly channels: number;
  /** Of a recorded sample set. */
  readonly bytes: number;
  /** Whether sets are recorded as the device stores them; otherwise as {@link encode} makes them from the values. */
  readonly samples: 'stored' | 'decoded';
  /** `sets`: whole sample sets. The result is either them or memory of its own, valid until the next call. */
  encode(sets: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
}

/**
 * @throws IioError `EINVAL` if SigMF cannot hold the channels' values, or they are an odd number of `pairs`
 */
export function recordingFormat(layout: SampleLayout, quadrature: Quadrature): RecordingFormat {
  const stored = datatypeOfLayout(layout);
  const { datatype, values } = stored ?? decodedOrThrow(layout);
  const complex = isQuadrature(layout, quadrature);
  if (complex && values % 2 !== 0) {
    throw new IioError(
      'EINVAL',
      `${values} values per sample set are no pairs of I and Q: name an even number of channels`,
    );
  }
  return {
    datatype: formatDatatype({ ...datatype, complex }),
    channels: complex ? values / 2 : values,
    bytes: (values * datatype.bits) / 8,
    samples: stored === undefined ? 'decoded' : 'stored',
    encode: stored === undefined ? decoder(layout, datatype) : (sets) => sets,
  };
}

function decodedOrThrow(layout: SampleLayout): StoredValues {
  const decoded = datatypeOfValues(layout);
  if (decoded === undefined || decoded.values === 0) {
    const wide = layout.channels.filter(({ channel }) => (channel.scanElement?.format.bits ?? 0) > 31);
    const names = wide.map(({ channel }) => channel.id).join(', ');
    throw new IioError(
      'EINVAL',
      `SigMF has no integers that hold all values of ${names || 'no channel'}: name the channels to record, without those`,
    );
  }
  return decoded;
}

function decoder(layout: SampleLayout, { bits, kind }: Datatype): RecordingFormat['encode'] {
  const size = bits / 8;
  const target: ScanFormat = {
    endianness: 'le',
    signed: kind === 'signed',
    fullyDefined: true,
    bits,
    storageBits: bits,
    repeat: 1,
    shift: 0,
  };
  const elements = layout.channels.flatMap(({ channel: { scanElement }, offset }) =>
    scanElement === undefined
      ? []
      : Array.from({ length: scanElement.format.repeat }, (_, element) => ({
          format: scanElement.format,
          offset,
          element,
        })),
  );
  let made = new Uint8Array();
  return (sets) => {
    const count = Math.floor(sets.length / layout.bytes);
    const length = count * elements.length * size;
    if (made.length < length) {
      made = new Uint8Array(length);
    }
    const from = new DataView(sets.buffer, sets.byteOffset, sets.length);
    const to = new DataView(made.buffer);
    let at = 0;
    for (let set = 0; set < count; set++) {
      for (const { format, offset, element } of elements) {
        encodeSample(to, at, target, decodeSample(from, set * layout.bytes + offset, format, element));
        at += size;
      }
    }
    return made.subarray(0, length);
  };
}
