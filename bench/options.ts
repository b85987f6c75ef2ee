import { InvalidArgumentError } from 'commander';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** What is going on, beside the result on standard output. */
export function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Says why the program ends without a result. */
export function reportFailure(error: unknown): void {
  progress(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}

/** An option's argument. */
export function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new InvalidArgumentError('a whole number from 1 on is wanted');
  }
  return value;
}

/** A block size: bytes, or with `k` or `M` KiB or MiB. */
export function blockSize(text: string): number {
  const match = /^(\d+)(k|M)?$/.exec(text);
  const unit = match?.[2] === 'M' ? MIB : match?.[2] === 'k' ? KIB : 1;
  const bytes = Number(match?.[1]) * unit;
  if (match === null || bytes === 0 || bytes % 4096 !== 0) {
    throw new InvalidArgumentError('a multiple of 4096 is wanted, such as 64k or 1M');
  }
  return bytes;
}
