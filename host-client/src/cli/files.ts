import { IioError } from '@iio-bridge/protocol';

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or directory',
  EACCES: 'you have no permission to do that',
  EEXIST: 'it exists already; choose another name, or --force to write over it',
  EISDIR: 'that is a directory',
  ENOTDIR: 'a part of the path is no directory',
  ENOSPC: 'the disk is full; what had been written is kept',
  EDQUOT: 'your share of the disk is used up; what had been written is kept',
  EROFS: 'the file system cannot be written to',
  EFBIG: 'the file system takes no larger files; split the recording (--split-size)',
};

/** An error of the file system, in words. `what`: `write samples.bin`. */
export function fileError(error: unknown, what: string): IioError {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
  return new IioError(code, `cannot ${what}: ${REMEDIES[code] ?? String(error)}`, { cause: error });
}

/** Runs an operation on a file; what it throws is put into words. */
export async function onFile<T>(what: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw error instanceof IioError ? error : fileError(error, what);
  }
}
