/** In ns since 1970. Precise to the millisecond, which is what Node tells. */
export function hostNow(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
