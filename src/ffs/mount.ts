import { mkdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { errorCode, fromFsError, type Hints, privilegeHint } from '../sys/errors.js';
import { MNT_DETACH, mount, unmount } from '../sys/libc.js';

/** Where the bridge keeps what exists only while it runs: mount points and locks. */
export const RUN_DIRECTORY = '/run/iio-bridge';

export interface FunctionFsMountOptions {
  /** The FunctionFS instance: the part after `ffs.` of the function's name in configfs. */
  readonly name: string;
  /** Default: {@link RUN_DIRECTORY}`/<name>`. Created if missing. */
  readonly mountpoint?: string;
  /**
   * Keep the gadget on the bus when the process dies (the kernel's `no_disconnect`). Default false: the host sees an
   * unplug and starts over.
   */
  readonly noDisconnect?: boolean;
}

const MOUNT_HINTS: Hints = {
  ENOENT: 'no gadget has a FunctionFS function of this name',
  EBUSY: 'another program has this FunctionFS instance mounted or open',
  EPERM: privilegeHint('mounting'),
  EACCES: privilegeHint('mounting'),
};

/** A mounted FunctionFS instance: owns the mount and, if it had to create it, the mount point. */
export class FunctionFsMount implements AsyncDisposable {
  readonly mountpoint: string;
  readonly #ownsDirectory: boolean;
  #mounted = true;

  private constructor(mountpoint: string, ownsDirectory: boolean) {
    this.mountpoint = mountpoint;
    this.#ownsDirectory = ownsDirectory;
  }

  /**
   * Mounts the instance `name`. What a killed process left mounted there is taken away first.
   *
   * @throws {IioError} `NO_FUNCTIONFS` if the kernel has no FunctionFS, `ENOENT` if there is no such function,
   * `EBUSY` if it is mounted elsewhere or still open in another program, `EPERM`.
   */
  static async mount(options: FunctionFsMountOptions): Promise<FunctionFsMount> {
    const mountpoint = options.mountpoint ?? join(RUN_DIRECTORY, options.name);
    await detachStale(mountpoint);
    const created = await makeDirectory(mountpoint);
    // A directory below ours is ours even if an earlier process made it.
    const ownsDirectory = created || options.mountpoint === undefined;
    try {
      mount(
        options.name,
        mountpoint,
        'functionfs',
        options.noDisconnect === true ? 'no_disconnect=1' : null,
        MOUNT_HINTS,
      );
    } catch (error) {
      if (ownsDirectory) {
        await rmdir(mountpoint);
      }
      if (errorCode(error) === 'ENODEV') {
        throw new IioError(
          'NO_FUNCTIONFS',
          'the kernel has no FunctionFS: load usb_f_fs, or build it with CONFIG_USB_CONFIGFS_F_FS',
          { cause: error },
        );
      }
      throw error;
    }
    return new FunctionFsMount(mountpoint, ownsDirectory);
  }

  /** Unmounts at once; files that are still open live until they are closed. Does nothing the second time. */
  async unmount(): Promise<void> {
    if (!this.#mounted) {
      return;
    }
    this.#mounted = false;
    await detachStale(this.mountpoint);
    if (this.#ownsDirectory) {
      await rmdir(this.mountpoint);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}

/** The file system types mounted at `path`, lowest first. */
export async function mountsAt(path: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const types: string[] = [];
  for (const line of table.split('\n')) {
    // proc_pid_mountinfo(5): the mount point is the fifth field, the type follows the separator " - ".
    const mountpoint = line.split(' ', 5)[4];
    const type = / - (\S+)/.exec(line)?.[1];
    if (type !== undefined && mountpoint !== undefined && unescapeOctal(mountpoint) === path) {
      types.push(type);
    }
  }
  return types;
}

/** Takes away every FunctionFS at `mountpoint`; any other file system there is somebody else's and stays. */
async function detachStale(mountpoint: string): Promise<void> {
  for (const type of (await mountsAt(mountpoint)).reverse()) {
    if (type !== 'functionfs') {
      throw new IioError('EBUSY', `${mountpoint} has a ${type} file system mounted: choose another mount point`);
    }
    unmount(mountpoint, MNT_DETACH, { EPERM: privilegeHint('unmounting') });
  }
}

async function makeDirectory(path: string): Promise<boolean> {
  try {
    return (await mkdir(path, { recursive: true })) !== undefined;
  } catch (error) {
    throw fromFsError(error, `create ${path}`, { EACCES: privilegeHint(path) });
  }
}

function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
