import { IioError, type SampleLayout, type ScanFormat } from '@iio-bridge/protocol';

/** How a SigMF dataset stores its samples: `ri16_le`, `cf32_le`, `cu8`. */
export interface Datatype {
  /** A sample is a pair of values, in phase and quadrature. */
  readonly complex: boolean;
  readonly kind: 'signed' | 'unsigned' | 'float';
  /** Of one value. */
  readonly bits: 8 | 16 | 32 | 64;
  /** Of no meaning, and `le`, for bytes. */
  readonly endianness: 'le' | 'be';
}

const LETTERS = { signed: 'i', unsigned: 'u', float: 'f' } as const;
const KINDS = { i: 'signed', u: 'unsigned', f: 'float' } as const;
const INTEGER_BITS = [8, 16, 32] as const;

/** @throws IioError `BAD_SIGMF` for a text that names no format of SigMF's core */
export function parseDatatype(text: string): Datatype {
  const [, domain, letter, digits, endianness] = /^([cr])([fiu])(8|16|32|64)(?:_([lb]e))?$/.exec(text) ?? [];
  const kind = letter === 'i' || letter === 'u' || letter === 'f' ? KINDS[letter] : undefined;
  const bits = ([8, 16, 32, 64] as const).find((width) => String(width) === digits);
  const exists = kind === 'float' ? bits === 32 || bits === 64 : bits !== 64;
  if (kind === undefined || bits === undefined || !exists || (bits === 8) !== (endianness === undefined)) {
    throw new IioError('BAD_SIGMF', `'${text}' is no core:datatype of SigMF: it should look like ri16_le or cf32_le`);
  }
  return { complex: domain === 'c', kind, bits, endianness: endianness === 'be' ? 'be' : 'le' };
}

/** The inverse of {@link parseDatatype}. */
export function formatDatatype({ complex, kind, bits, endianness }: Datatype): string {
  return `${complex ? 'c' : 'r'}${LETTERS[kind]}${bits}${bits === 8 ? '' : `_${endianness}`}`;
}

/** A dataset format and how many values of it make a sample set. */
export interface StoredValues {
  readonly datatype: Datatype;
  readonly values: number;
}

/**
 * The (real) datatype of a layout whose sample sets are a SigMF dataset as they are; `undefined` if there is none, because
 * the channels differ, have bits that are not part of the value, are wider than SigMF's integers, or leave holes.
 */
export function datatypeOfLayout({ channels, bytes }: SampleLayout): StoredValues | undefined {
  const format = channels[0]?.channel.scanElement?.format;
  const bits = INTEGER_BITS.find((width) => width === format?.storageBits);
  if (format === undefined || bits === undefined) {
    return undefined;
  }
  let end = 0;
  for (const { channel, offset, bytes: size } of channels) {
    if (!isStoredAlike(channel.scanElement?.format, format) || offset !== end) {
      return undefined;
    }
    end += size;
  }
  const kind = format.signed ? 'signed' : 'unsigned';
  const endianness = bits === 8 ? 'le' : format.endianness;
  return end === bytes
    ? { datatype: { complex: false, kind, bits, endianness }, values: (bytes * 8) / bits }
    : undefined;
}

/**
 * The (real) datatype that holds the decoded values of any layout: the narrowest little-endian integers that all
 * channels fit. `undefined` for channels of more than 32 bits, which SigMF has no integers for.
 */
export function datatypeOfValues({ channels }: SampleLayout): StoredValues | undefined {
  const formats = channels.flatMap(({ channel }) => channel.scanElement?.format ?? []);
  const anySigned = formats.some(({ signed }) => signed);
  const needed = formats.map(({ signed, bits }) => (anySigned && !signed ? bits + 1 : bits));
  const bits = INTEGER_BITS.find((width) => needed.every((need) => need <= width));
  return bits === undefined
    ? undefined
    : {
        datatype: { complex: false, kind: anySigned ? 'signed' : 'unsigned', bits, endianness: 'le' },
        values: formats.reduce((sum, { repeat }) => sum + repeat, 0),
      };
}

/** Whether neighbouring channels are in phase and quadrature of one complex signal; `auto`: if their names say so. */
export type Quadrature = 'auto' | 'pairs' | 'none';

export function isQuadrature(layout: SampleLayout, quadrature: Quadrature): boolean {
  return quadrature === 'pairs' || (quadrature === 'auto' && areQuadraturePairs(layout));
}

/**
 * Whether channels are pairs of in phase and quadrature: IIO's modifiers (`voltage0_i`, `voltage0_q`), or labels that end
 * like this (`TX1_I`, `TX1_Q`).
 */
function areQuadraturePairs({ channels }: SampleLayout): boolean {
  const names = channels.map(({ channel: { id, name, label } }) => [id, name, label]);
  return (
    channels.length > 0 &&
    channels.length % 2 === 0 &&
    channels.every(({ channel }) => channel.scanElement?.format.repeat === 1) &&
    names.every((own, at) => {
      const other = names[at % 2 === 0 ? at + 1 : at - 1] ?? [];
      const [suffix, counterpart] = at % 2 === 0 ? ['i', 'q'] : ['q', 'i'];
      return own.some((name, which) => {
        const text = name?.toLowerCase();
        return (
          text?.endsWith(`_${suffix}`) === true && other[which]?.toLowerCase() === `${text.slice(0, -1)}${counterpart}`
        );
      });
    })
  );
}

function isStoredAlike(format: ScanFormat | undefined, like: ScanFormat): boolean {
  return (
    format !== undefined &&
    format.shift === 0 &&
    format.fullyDefined &&
    format.storageBits === like.storageBits &&
    format.signed === like.signed &&
    format.endianness === like.endianness
  );
}
