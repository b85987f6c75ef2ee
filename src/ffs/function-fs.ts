import { constants, open as openCallback, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { IioError } from '@iio-bridge/protocol';
import { errorCode, fromFsError, type Hints, privilegeHint, systemError } from '../sys/errors.js';
import { FileDescriptor } from '../sys/file-descriptor.js';
import { ioctl, readNothing, setNonBlocking, writeNothing } from '../sys/libc.js';
import { buildDescriptors, buildStrings, type DescriptorOptions } from './descriptors.js';
import type { SetupPacket } from './events.js';
import { FUNCTIONFS_FIFO_FLUSH } from './uapi.js';

const openFile = promisify(openCallback);

const USB_DIR_IN = 0x80;

const NO_ARGUMENT = new Uint8Array(0);

export interface FunctionFsOptions extends DescriptorOptions {
  /** Directory where a fresh instance is mounted: see `FunctionFsMount`. */
  readonly mountpoint: string;
}

/** The two open endpoint files of a pipe. The holder closes both. */
export interface PipeEndpoints {
  /** Device to host. */
  readonly in: FileDescriptor;
  /** Host to device. */
  readonly out: FileDescriptor;
}

/**
 * `answered`: the host has its answer. `superseded`: nobody waits any more, because the host gave up, sent another
 * request, or was unplugged; what it does now arrives as the next event.
 */
export type AnswerOutcome = 'answered' | 'superseded';

/**
 * A FunctionFS instance: owns ep0. Closing it (or the process's death) makes the kernel unbind the whole gadget and
 * forget the descriptors, unless the instance was mounted with `no_disconnect`.
 *
 * Control requests have one rule: between the arrival of a `setup` event and its answer nobody may read or poll ep0.
 * In that state poll(2) reports ep0 as ready, and a read is taken for the request's data stage: it acknowledges a
 * host-to-device request and stalls a device-to-host one.
 */
export class FunctionFs implements Disposable {
  readonly mountpoint: string;
  readonly pipes: number;
  readonly #ep0: FileDescriptor;

  private constructor(mountpoint: string, pipes: number, ep0: FileDescriptor) {
    this.mountpoint = mountpoint;
    this.pipes = pipes;
    this.#ep0 = ep0;
  }

  /**
   * Opens ep0 (non-blocking) and writes descriptors and strings; afterwards the gadget can be bound.
   *
   * @throws {IioError} `NO_FUNCTIONFS` if nothing is mounted there, `EBUSY` if another program has set the instance up,
   * `EINVAL` if the kernel refuses the descriptors, `EACCES`.
   */
  static async open(options: FunctionFsOptions): Promise<FunctionFs> {
    const descriptors = buildDescriptors(options);
    const strings = buildStrings();
    const path = join(options.mountpoint, 'ep0');
    const fd = await openEp0(path);
    const ep0 = new FileDescriptor(fd, path);
    try {
      writeBlob(fd, descriptors, `write descriptors for ${options.pipes} pipes to ${path}`);
      writeBlob(fd, strings, `write strings to ${path}`);
    } catch (error) {
      ep0.close();
      throw error;
    }
    return new FunctionFs(options.mountpoint, options.pipes, ep0);
  }

  /** ep0, lent: for poll and for reading events (12-byte records, see `decodeFfsEvents`). */
  get ep0Fd(): number {
    return this.#ep0.fd;
  }

  /** Where the kernel put the endpoint files of pipe `pipe` (0-based). */
  endpointPaths(pipe: number): { readonly in: string; readonly out: string } {
    if (!Number.isInteger(pipe) || pipe < 0 || pipe >= this.pipes) {
      throw new IioError('EINVAL', `there is no pipe ${pipe}: the function has pipes 0..${this.pipes - 1}`);
    }
    return { in: join(this.mountpoint, `ep${2 * pipe + 1}`), out: join(this.mountpoint, `ep${2 * pipe + 2}`) };
  }

  /**
   * Opens a pipe's endpoint files, each in its own direction only (I/O in the wrong direction would halt the
   * endpoint), non-blocking, with empty FIFOs. The caller owns both.
   *
   * @throws {IioError} `EINVAL` for a pipe that does not exist, `ENODEV` when ep0 is closed or the kernel tears the
   * function down.
   */
  async openPipe(pipe: number): Promise<PipeEndpoints> {
    const paths = this.endpointPaths(pipe);
    const input = await openEndpoint(paths.in, constants.O_WRONLY);
    try {
      return { in: input, out: await openEndpoint(paths.out, constants.O_RDONLY) };
    } catch (error) {
      input.close();
      throw error;
    }
  }

  /**
   * Completes a control request that has no data stage. The host's status stage is awaited on a worker thread.
   *
   * @throws {IioError} `EINVAL` for a request with data to send or receive.
   */
  acknowledge(setup: SetupPacket): Promise<AnswerOutcome> {
    if (setup.length !== 0) {
      throw new IioError('EINVAL', `control request ${setup.request} has a data stage of ${setup.length} bytes`);
    }
    return this.#answer('acknowledge', setup, isDeviceToHost(setup) ? writeNothing : readNothing, undefined);
  }

  /** Refuses a control request: the host sees a stall (`EPIPE`). */
  stall(setup: SetupPacket): Promise<AnswerOutcome> {
    // FunctionFS stalls when the program moves data against the request's direction, and then reports EL2HLT.
    return this.#answer('stall', setup, isDeviceToHost(setup) ? readNothing : writeNothing, 'EL2HLT');
  }

  close(): void {
    this.#ep0.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #answer(
    verb: string,
    setup: SetupPacket,
    transfer: (fd: number) => Promise<string | undefined>,
    expected: string | undefined,
  ): Promise<AnswerOutcome> {
    for (;;) {
      const outcome = await transfer(this.#ep0.fd);
      if (outcome === expected) {
        return 'answered';
      }
      if (outcome === undefined || SUPERSEDED.has(outcome)) {
        return 'superseded';
      }
      // EAGAIN: another thread is inside ep0 for a moment; each round goes through the worker pool, so this yields.
      if (outcome !== 'EAGAIN' && outcome !== 'EINTR') {
        throw systemError(outcome, `${verb} control request ${setup.request} on ${this.mountpoint}/ep0`);
      }
    }
  }
}

/**
 * EIDRM: cancelled by a newer event. EINVAL (read) and ESRCH (write): no request is pending any more. The others are the
 * status of a request that died with the connection, or gave way to the host's next one (dummy_hcd's EOVERFLOW).
 */
const SUPERSEDED: ReadonlySet<string> = new Set([
  'EIDRM',
  'EINVAL',
  'ESRCH',
  'ESHUTDOWN',
  'ECONNRESET',
  'EOVERFLOW',
  'EPROTO',
  'ENODEV',
]);

const EP0_HINTS: Hints = {
  EACCES: privilegeHint('the FunctionFS instance'),
  EPERM: privilegeHint('the FunctionFS instance'),
  EBUSY: 'the kernel is still closing the previous use of this FunctionFS instance',
};

const ENDPOINT_HINTS: Hints = {
  ENODEV: 'the function was torn down: ep0 is closed',
  ENOENT: 'the endpoint files exist only after the descriptors were written to ep0',
};

function isDeviceToHost(setup: SetupPacket): boolean {
  return (setup.requestType & USB_DIR_IN) !== 0;
}

async function openEp0(path: string): Promise<number> {
  try {
    return await openFile(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      throw new IioError('NO_FUNCTIONFS', `${path} does not exist: no FunctionFS instance is mounted there`, {
        cause: error,
      });
    }
    throw fromFsError(error, `open ${path}`, EP0_HINTS);
  }
}

/** Opened blocking, so that a moment's use of the instance's lock by another thread is waited out, not an error. */
async function openEndpoint(path: string, direction: number): Promise<FileDescriptor> {
  let fd: number;
  try {
    fd = await openFile(path, direction);
  } catch (error) {
    throw fromFsError(error, `open ${path}`, ENDPOINT_HINTS);
  }
  const endpoint = new FileDescriptor(fd, path);
  try {
    setNonBlocking(fd, path);
    flushFifo(fd, path);
  } catch (error) {
    endpoint.close();
    throw error;
  }
  return endpoint;
}

/** Bytes of a session that was cut off stay in the controller's FIFO, and would reach the next host as its first. */
function flushFifo(fd: number, path: string): void {
  try {
    ioctl(fd, FUNCTIONFS_FIFO_FLUSH, NO_ARGUMENT, path);
  } catch (error) {
    // EAGAIN, ESHUTDOWN: no host has configured the device, so there is nothing to flush.
    const code = errorCode(error);
    if (code !== 'EAGAIN' && code !== 'ESHUTDOWN') {
      throw error;
    }
  }
}

function writeBlob(fd: number, blob: Uint8Array, operation: string): void {
  try {
    writeSync(fd, blob);
  } catch (error) {
    throw fromFsError(error, operation, {
      EINVAL: 'the kernel refuses them',
      ESRCH: 'another program has set this instance up already',
      EBADFD: 'the kernel is tearing this instance down',
    });
  }
}
