/** Of the specification that recordings are written to. */
export const SIGMF_VERSION = '1.2.0';
/** Of the `iio` namespace: host-client/docs/iio.sigmf-ext.md. */
export const EXTENSION_VERSION = '1.0.0';

/** RFC 3339 with all nine digits, as `core:datetime` wants it. `ns`: since 1970. */
export function dateTime(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`;
}
