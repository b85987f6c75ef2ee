import { IioError } from '@iio-bridge/protocol';
import { readAttribute, writeAttribute } from './attributes.js';

/** The debug attribute through which the IIO core gives access to a device's registers. */
export const REGISTER_ATTRIBUTE = 'direct_reg_access';

/** The last of those who use a file, by its path: the files are the machine's, whoever in this process uses them. */
const users = new Map<string, Promise<void>>();

/**
 * Does `work` while nobody else in this process does so with the same file: the address that one user writes decides what
 * all of them read.
 */
export async function withRegisterFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  const before = users.get(path);
  const result = before === undefined ? work() : before.then(work);
  const settled = result.then(
    () => undefined,
    () => undefined,
  );
  users.set(path, settled);
  try {
    return await result;
  } finally {
    if (users.get(path) === settled) {
      users.delete(path);
    }
  }
}

/**
 * Reads a register: its address is written to the file first, which answers with the value.
 *
 * @param path of the device's {@link REGISTER_ATTRIBUTE}
 * @throws {IioError} the driver's errno; `EIO` for an answer that is no number
 */
export async function readRegister(path: string, address: number): Promise<number> {
  const answer = await withRegisterFile(path, async () => {
    await writeText(path, hex(address));
    return await readAttribute(path);
  });
  const text = new TextDecoder().decode(answer).replace(/\0.*$/s, '').trim();
  const value = /^(0x[\da-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 0xffff_ffff)) {
    throw new IioError('EIO', `read ${path}: '${text.slice(0, 40)}' is not the value of a register`);
  }
  return value;
}

/** @throws {IioError} the driver's errno */
export async function writeRegister(path: string, address: number, value: number): Promise<void> {
  await withRegisterFile(path, () => writeText(path, `${hex(address)} ${hex(value)}`));
}

async function writeText(path: string, text: string): Promise<void> {
  await writeAttribute(path, new TextEncoder().encode(text));
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
