import type { ScanElement } from './model.js';

/**
 * C's `strcmp` on UTF-8, which both ends use to number devices and attributes: `voltage10` before `voltage2`, upper case
 * before `_` before lower case. UTF-8 sorts like code points, which JavaScript's `<` does not for astral characters.
 */
export function compareByteOrder(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  let i = 0;
  while (i < length && a.charCodeAt(i) === b.charCodeAt(i)) i++;
  if (i === length) return a.length - b.length;
  return codeUnitRank(a.charCodeAt(i)) - codeUnitRank(b.charCodeAt(i));
}

/** Puts surrogates (code points above 0xFFFF) behind the rest of the basic plane. */
function codeUnitRank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** A copy with the entries in the order of {@link compareByteOrder} on their names. */
export function sortByName<T extends { readonly name: string }>(entries: readonly T[]): T[] {
  return entries.toSorted((a, b) => compareByteOrder(a.name, b.name));
}

/**
 * A copy in the order that clients of every generation agree on: scan index, then shift; channels that are no scan
 * elements last, in the order in which they came.
 */
export function sortChannels<T extends { readonly scanElement?: ScanElement | undefined }>(
  channels: readonly T[],
): T[] {
  return channels.toSorted((a, b) => {
    if (a.scanElement === undefined || b.scanElement === undefined) {
      return Number(a.scanElement === undefined) - Number(b.scanElement === undefined);
    }
    return a.scanElement.index - b.scanElement.index || a.scanElement.format.shift - b.scanElement.format.shift;
  });
}
