import { constants, type Dirent } from 'node:fs';
import { access, mkdir, readdir, rmdir, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { errorCode, fromFsError, type Hints, privilegeHint } from '../sys/errors.js';
import { mount } from '../sys/libc.js';
import { readValue, writeValue } from '../sys/value-file.js';
import { mountsAt } from './mount.js';

/** Where systemd and everybody else mount configfs. */
export const CONFIGFS = '/sys/kernel/config';

/**
 * The operations that configfs gives meaning to: a directory is an object, a value file an attribute of it, a symbolic
 * link a relation. The gadget code uses nothing else, so a test can stand in for the kernel.
 */
export interface ConfigTree {
  exists(path: string): Promise<boolean>;
  /** Creates an object. */
  make(path: string, hints?: Hints): Promise<void>;
  /** Destroys an object with its attributes; an object that is gone already is fine. */
  remove(path: string): Promise<void>;
  write(path: string, value: string, hints?: Hints): Promise<void>;
  read(path: string): Promise<string>;
  /** Relates `path` to the object `target`. */
  link(target: string, path: string, hints?: Hints): Promise<void>;
  /** Ends a relation; one that is gone already is fine. */
  unlink(path: string): Promise<void>;
  /** Names of the objects in `path`; none if there is no such directory. */
  objects(path: string): Promise<string[]>;
  /** Names of the relations in `path`; none if there is no such directory. */
  links(path: string): Promise<string[]>;
}

/** The real one. */
export const configTree: ConfigTree = {
  async exists(path) {
    try {
      await access(path, constants.F_OK);
      return true;
    } catch {
      return false;
    }
  },
  async make(path, hints) {
    await attempt(`create ${path}`, () => mkdir(path), hints);
  },
  async remove(path) {
    await unlessGone(`remove ${path}`, () => rmdir(path));
  },
  async write(path, value, hints) {
    await writeValue(path, value, { ...PRIVILEGE, ...hints });
  },
  async read(path) {
    return readValue(path, PRIVILEGE);
  },
  async link(target, path, hints) {
    await attempt(`link ${path} to ${target}`, () => symlink(target, path), hints);
  },
  async unlink(path) {
    await unlessGone(`remove link ${path}`, () => unlink(path));
  },
  async objects(path) {
    return (await entries(path)).filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  },
  async links(path) {
    return (await entries(path)).filter((entry) => entry.isSymbolicLink()).map((entry) => entry.name);
  },
};

const PRIVILEGE: Hints = { EACCES: privilegeHint('configfs'), EPERM: privilegeHint('configfs') };

/**
 * Makes sure that `root` has a `usb_gadget` directory, mounting configfs at its usual place if need be.
 *
 * @throws {IioError} `NO_CONFIGFS` saying what the kernel lacks.
 */
export async function requireUsbGadgetConfigFs(root: string, tree: ConfigTree = configTree): Promise<string> {
  const gadgets = join(root, 'usb_gadget');
  if (await tree.exists(gadgets)) {
    return gadgets;
  }
  if (root === CONFIGFS && !(await mountsAt(CONFIGFS)).includes('configfs')) {
    try {
      mount('configfs', CONFIGFS, 'configfs', null);
    } catch (error) {
      throw new IioError(
        'NO_CONFIGFS',
        `configfs is not mounted at ${CONFIGFS} and cannot be (${errorCode(error)}): ` +
          'run as root on a kernel with CONFIG_CONFIGFS_FS, or load the module configfs',
        { cause: error },
      );
    }
  }
  if (!(await tree.exists(gadgets))) {
    throw new IioError(
      'NO_CONFIGFS',
      `${gadgets} does not exist: load the module libcomposite, or build the kernel with CONFIG_USB_CONFIGFS`,
    );
  }
  return gadgets;
}

async function attempt(operation: string, action: () => Promise<unknown>, hints?: Hints): Promise<void> {
  try {
    await action();
  } catch (error) {
    throw fromFsError(error, operation, { ...PRIVILEGE, ...hints });
  }
}

async function unlessGone(operation: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') {
      throw fromFsError(error, operation, PRIVILEGE);
    }
  }
}

async function entries(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return [];
    }
    throw fromFsError(error, `list ${path}`, PRIVILEGE);
  }
}
