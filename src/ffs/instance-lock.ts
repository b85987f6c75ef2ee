import { constants, openSync, readFileSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { fromFsError, privilegeHint } from '../sys/errors.js';
import { FileDescriptor } from '../sys/file-descriptor.js';
import { tryLock } from '../sys/libc.js';

/**
 * The right to use a name on this machine: owns a locked file `<directory>/<name>.lock`. The kernel ends the lock when
 * the process dies, so whoever gets it knows that everything of that name is left over. The empty file stays.
 */
export class InstanceLock implements Disposable {
  readonly #file: FileDescriptor;

  private constructor(file: FileDescriptor) {
    this.#file = file;
  }

  /** @throws {IioError} `EBUSY`, naming the process that has it; `EACCES`. */
  static async acquire(directory: string, name: string): Promise<InstanceLock> {
    const path = join(directory, `${name}.lock`);
    let file: FileDescriptor;
    try {
      await mkdir(directory, { recursive: true });
      file = new FileDescriptor(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644), path);
    } catch (error) {
      throw fromFsError(error, `open ${path}`, { EACCES: privilegeHint(directory) });
    }
    try {
      if (!tryLock(file.fd, path)) {
        const owner = readFileSync(path, 'utf8').trim();
        throw new IioError(
          'EBUSY',
          `'${name}' is in use by another iio-bridge (process ${owner}): stop it, or choose another name`,
        );
      }
      writeSync(file.fd, `${process.pid}\n`.padEnd(12), 0);
    } catch (error) {
      file.close();
      throw error;
    }
    return new InstanceLock(file);
  }

  release(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
