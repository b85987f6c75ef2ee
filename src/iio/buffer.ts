import { closeSync, constants, openSync } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChannelDescription, Direction } from '@iio-bridge/protocol';
import { IioError } from '@iio-bridge/protocol';
import { errorCode, fromFsError, type Hints, privilegeHint, systemError } from '../sys/errors.js';
import { FileDescriptor } from '../sys/file-descriptor.js';
import { ioctlInt, setNonBlocking } from '../sys/libc.js';
import { readValue, writeValue } from '../sys/value-file.js';
import { IIO_BUFFER_GET_FD } from './uapi.js';

/** A scan element as sysfs shows it: `<stem>_en`, `<stem>_index` and `<stem>_type` in one directory. */
export interface ScanElementFile {
  /** `in_voltage0`, `out_voltage0_i`, `in_timestamp`: direction, channel id and, if it has one, its name. */
  readonly stem: string;
  readonly direction: Direction;
  /** Position in the sample set (the `_index` file). */
  readonly index: number;
}

/** What identifies a channel of a buffer: a description with a scan element will do. */
export type ScanChannel = Pick<ChannelDescription, 'id' | 'direction' | 'name' | 'scanElement'>;

export interface IioBufferOptions {
  /** `iio:device0`. */
  readonly device: string;
  /** Buffer index of that device. */
  readonly index: number;
  /** The channels to capture or play, as descriptions or as stems of their scan-element files (`in_voltage0`). */
  readonly channels: readonly (ScanChannel | string)[];
  /** Default `/sys/bus/iio/devices`. */
  readonly sysfsRoot?: string;
  /** Default `/dev`. */
  readonly devRoot?: string;
}

/**
 * Sizes for {@link IioBuffer.enable}. The unit depends on how the samples travel: **bytes** of the smallest block for
 * DMABUF (the kernel's DMA buffer compares its watermark in bytes there), **samples** (sample sets) for read() and
 * write().
 */
export interface BufferLengths {
  readonly length: number;
  /** At most `length`. */
  readonly watermark: number;
}

interface BufferDirectories {
  readonly attributes: string;
  readonly scanElements: string;
}

/**
 * An open IIO buffer with its channels chosen: owns the descriptor, through which the kernel grants one user at a time.
 * A descriptor that is closed (or dies with its process) leaves the buffer running: {@link close} disables it first.
 */
export class IioBuffer implements AsyncDisposable {
  readonly device: string;
  readonly index: number;
  /** The channels that are on, by scan index: the wanted ones, and those that the driver switches on with them. */
  readonly enabled: readonly ScanElementFile[];
  readonly #directories: BufferDirectories;
  readonly #descriptor: FileDescriptor;
  readonly #scanElements: readonly ScanElementFile[];
  #isEnabled = false;

  private constructor(
    options: IioBufferOptions,
    directories: BufferDirectories,
    descriptor: FileDescriptor,
    scanElements: readonly ScanElementFile[],
    enabled: readonly ScanElementFile[],
  ) {
    this.device = options.device;
    this.index = options.index;
    this.enabled = enabled;
    this.#directories = directories;
    this.#descriptor = descriptor;
    this.#scanElements = scanElements;
  }

  /**
   * Takes the buffer for this process, stops it (a killed user leaves it running) and chooses its channels.
   *
   * @throws {IioError} `EBUSY` if another program has the buffer; `ENODEV` if there is no such device or buffer; `ENOENT`
   * for a channel that the buffer does not have; `KERNEL_TOO_OLD` before Linux 5.11; `EACCES`, `EPERM`.
   */
  static async open(options: IioBufferOptions): Promise<IioBuffer> {
    const root = join(options.sysfsRoot ?? '/sys/bus/iio/devices', options.device);
    const directories = await findDirectories(root, options);
    const scanElements = await listScanElements(directories.scanElements);
    const wanted = options.channels.map((channel) => find(scanElements, channel, options));
    // Before anything is written: only the owner may stop the buffer.
    const descriptor = openDescriptor(options);
    try {
      await writeValue(join(directories.attributes, 'enable'), '0');
      for (const element of scanElements) {
        await writeValue(enableFile(directories, element), '0', SCAN_HINTS);
      }
      for (const element of wanted) {
        await writeValue(enableFile(directories, element), '1', SCAN_HINTS);
      }
      const enabled: ScanElementFile[] = [];
      for (const element of scanElements) {
        if ((await readValue(enableFile(directories, element))) === '1') {
          enabled.push(element);
        }
      }
      return new IioBuffer(options, directories, descriptor, scanElements, enabled);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /** The buffer's descriptor, non-blocking, lent: for poll, read, write and the DMABUF requests. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Whether `channel` is on, asked for or not. */
  isEnabled(channel: ScanChannel | string): boolean {
    return this.enabled.includes(find(this.#scanElements, channel, this));
  }

  /**
   * Starts the device's DMA or trigger handling.
   *
   * @throws {IioError} `EINVAL` if no channel is on, no trigger is set, or the lengths do not fit; `EBUSY` if another
   * buffer of the device excludes this one.
   */
  async enable(lengths: BufferLengths): Promise<void> {
    // Length first: the kernel refuses a watermark above it.
    await this.#writeOptional('length', lengths.length);
    await this.#writeOptional('watermark', lengths.watermark);
    await writeValue(join(this.#directories.attributes, 'enable'), '1', ENABLE_HINTS);
    this.#isEnabled = true;
  }

  /** Stops the buffer. Blocks in the hands of the hardware come back with an error on their fences. */
  async disable(): Promise<void> {
    const enable = join(this.#directories.attributes, 'enable');
    try {
      // Where another program has disabled it, the kernel keeps what was enqueued since, for good: a disable that changes
      // nothing gives nothing back.
      if (this.#isEnabled && (await readValue(enable)) === '0') {
        await writeValue(enable, '1').catch(() => undefined);
      }
      this.#isEnabled = false;
      await writeValue(enable, '0');
    } catch (error) {
      // A device that is gone has stopped.
      if (!GONE.has(errorCode(error) ?? '')) {
        throw error;
      }
    }
  }

  /** Disables the buffer and gives it back to other programs. Does nothing the second time. */
  async close(): Promise<void> {
    if (this.#descriptor.closed) {
      return;
    }
    try {
      await this.disable();
    } finally {
      this.#descriptor.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Some drivers fix these sizes: no file, or one that cannot be written. */
  async #writeOptional(attribute: string, value: number): Promise<void> {
    try {
      await writeValue(join(this.#directories.attributes, attribute), String(value));
    } catch (error) {
      const code = errorCode(error);
      if (code !== 'ENOENT' && code !== 'EACCES') {
        throw error;
      }
    }
  }
}

const GONE: ReadonlySet<string> = new Set(['ENODEV', 'ENOENT', 'ENXIO']);

const SCAN_HINTS: Hints = {
  EBUSY: 'the buffer is running: another program uses it through the old interface',
  EACCES: privilegeHint('the scan elements'),
};

const ENABLE_HINTS: Hints = {
  EINVAL: 'no channel is on, or the device wants a trigger first (trigger/current_trigger), or the lengths do not fit',
  EBUSY: 'another buffer of this device is running and excludes this one',
};

/** The scan elements of a buffer in sample-set order. `directory` is `scan_elements` or `bufferN`. */
export async function listScanElements(directory: string): Promise<ScanElementFile[]> {
  const elements: ScanElementFile[] = [];
  for (const file of await readdir(directory)) {
    const match = /^((in|out)_.+)_en$/.exec(file);
    const stem = match?.[1];
    if (stem !== undefined) {
      const index = Number(await readValue(join(directory, `${stem}_index`)));
      elements.push({ stem, direction: match?.[2] === 'out' ? 'out' : 'in', index });
    }
  }
  return elements.sort((a, b) => a.index - b.index || (a.stem < b.stem ? -1 : 1));
}

/**
 * The file of a channel: by scan index, since a file's name may carry more than the channel's id; by name among channels
 * that share an index.
 */
export function matchScanElement(
  elements: readonly ScanElementFile[],
  channel: ScanChannel | string,
): ScanElementFile | undefined {
  if (typeof channel === 'string') {
    return elements.find(({ stem }) => stem === channel);
  }
  const sameIndex = elements.filter(
    ({ direction, index }) => direction === channel.direction && index === channel.scanElement?.index,
  );
  if (sameIndex.length <= 1) {
    return sameIndex[0];
  }
  const stem = `${channel.direction}_${channel.id}`;
  return sameIndex.find((element) => element.stem === stem || element.stem === `${stem}_${channel.name}`);
}

function find(
  elements: readonly ScanElementFile[],
  channel: ScanChannel | string,
  where: { readonly device: string; readonly index: number },
): ScanElementFile {
  const element = matchScanElement(elements, channel);
  if (element === undefined) {
    const name = typeof channel === 'string' ? channel : `${channel.direction}_${channel.id}`;
    const known = elements.map(({ stem }) => stem).join(', ');
    throw new IioError('ENOENT', `buffer ${where.index} of ${where.device} has no channel ${name}; it has ${known}`);
  }
  return element;
}

function enableFile(directories: BufferDirectories, element: ScanElementFile): string {
  return join(directories.scanElements, `${element.stem}_en`);
}

/** `bufferN` has both kinds of files; kernels before 5.11 have only the pair that buffer 0 still keeps. */
async function findDirectories(root: string, options: IioBufferOptions): Promise<BufferDirectories> {
  if (!/^[\w:-]+$/.test(options.device) || !(await exists(root))) {
    throw new IioError('ENODEV', `there is no IIO device ${options.device}`);
  }
  const numbered = join(root, `buffer${options.index}`);
  if (await exists(numbered)) {
    return { attributes: numbered, scanElements: numbered };
  }
  const legacy = { attributes: join(root, 'buffer'), scanElements: join(root, 'scan_elements') };
  if (options.index === 0 && (await exists(legacy.scanElements))) {
    return legacy;
  }
  throw new IioError('ENODEV', `${options.device} has no buffer ${options.index}`);
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * The device node admits one opener at a time, so it is opened, asked and closed without yielding: two buffers of one
 * device never collide within this process.
 */
function openDescriptor(options: IioBufferOptions): FileDescriptor {
  const path = join(options.devRoot ?? '/dev', options.device);
  const busy = 'another program has it open: an iiod, or a capture that was not closed';
  let node: number;
  try {
    node = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw fromFsError(error, `open ${path}`, {
      EBUSY: busy,
      EACCES: privilegeHint(path),
      EPERM: privilegeHint(path),
      ENOENT: 'the device has no node: it offers no buffer, or nobody created it',
    });
  }
  try {
    const fd = ioctlInt(node, IIO_BUFFER_GET_FD, options.index, path, {
      EBUSY: `buffer ${options.index} is taken: ${busy}`,
      ENODEV: `the device has no buffer ${options.index}, or is gone`,
    });
    const name = `buffer ${options.index} of ${options.device}`;
    // The kernel hands it out blocking, whatever the node was opened with; F_SETFL cannot fail on a descriptor just made.
    setNonBlocking(fd, name);
    return new FileDescriptor(fd, name);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOTTY' || code === 'EINVAL') {
      throw systemError(
        'KERNEL_TOO_OLD',
        `buffer ${options.index} of ${options.device}`,
        {
          KERNEL_TOO_OLD: 'IIO_BUFFER_GET_FD needs Linux 5.11, zero-copy streaming Linux 6.11',
        },
        { cause: error },
      );
    }
    throw error;
  } finally {
    closeSync(node);
  }
}
