import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { errorCode, fromFsError, type Hints } from '../sys/errors.js';
import { readValue } from '../sys/value-file.js';
import { CONFIGFS, type ConfigTree, configTree, requireUsbGadgetConfigFs } from './configfs.js';
import { InstanceLock } from './instance-lock.js';
import { RUN_DIRECTORY } from './mount.js';

/** What a host sees of a gadget that is all ours. */
export interface GadgetIdentity {
  readonly idVendor: number;
  readonly idProduct: number;
  /** Binary-coded decimal release of the device. Default 0x0100. */
  readonly bcdDevice?: number;
  readonly manufacturer: string;
  readonly product: string;
  readonly serial: string;
}

export interface GadgetPlaces {
  /** Default {@link CONFIGFS}. */
  readonly configfs?: string;
  /** Default `/sys/class/udc`. */
  readonly udcClass?: string;
  /** Where the lock file goes. Default {@link RUN_DIRECTORY}. */
  readonly runDirectory?: string;
  readonly tree?: ConfigTree;
}

interface CommonOptions extends GadgetPlaces {
  /** Name of the FunctionFS instance, i.e. what comes after `ffs.`; also the name of a gadget of our own. */
  readonly name: string;
}

/** A gadget with nothing but our function in it. */
export interface OwnGadgetOptions extends CommonOptions {
  readonly identity: GadgetIdentity;
  /** Announce Microsoft OS 1.0 descriptors, which make Windows bind WinUSB by itself. Default true. */
  readonly microsoft?: boolean;
}

/** A gadget that somebody else's script sets up; our function joins it and leaves it. */
export interface SharedGadgetOptions extends CommonOptions {
  /** Its directory, e.g. `/sys/kernel/config/usb_gadget/g1`. */
  readonly existing: string;
  /** The configuration to join, e.g. `c.1`. */
  readonly config: string;
}

export type GadgetOptions = OwnGadgetOptions | SharedGadgetOptions;

const CONFIGURATION = 'c.1';

/** USB language id of the strings: US English. */
const LANGUAGE = '0x409';

/** Vendor code by which Windows asks for the OS descriptors: any number that no other vendor request uses. */
const OS_VENDOR_CODE = 0xcd;

/** "MSFT100": the signature of Microsoft OS descriptors 1.0, at string index 0xEE. */
const OS_SIGNATURE = 'MSFT100';

const FUNCTION_HINTS: Hints = {
  EBUSY: 'another gadget has a FunctionFS function of this name',
  EEXIST: 'the gadget has a function of this name already',
};

const BIND_HINTS: Hints = {
  EBUSY: 'the controller serves another gadget',
  ENODEV: 'the gadget is not complete: every FunctionFS function needs its descriptors written before',
  EINVAL: 'the controller cannot offer the endpoints that the functions ask for: use fewer pipes',
};

/**
 * Our function in a USB gadget, through configfs: owns the gadget (or only the function, in a shared gadget), its binding
 * to a USB device controller, and the lock on its name. A killed process leaves gadgets behind; the next one of the same
 * name removes them first.
 */
export class Gadget implements AsyncDisposable {
  /** The gadget's directory. */
  readonly path: string;
  /** Source for `FunctionFsMount.mount`. */
  readonly functionName: string;
  readonly #tree: ConfigTree;
  readonly #udcClass: string;
  readonly #shared: boolean;
  readonly #config: string;
  readonly #lock: InstanceLock;
  /** The controller of a shared gadget before we came: it gets the gadget back. */
  #formerUdc: string | undefined;
  #removed = false;

  private constructor(path: string, options: GadgetOptions, lock: InstanceLock) {
    this.path = path;
    this.functionName = options.name;
    this.#tree = options.tree ?? configTree;
    this.#udcClass = options.udcClass ?? '/sys/class/udc';
    this.#shared = 'existing' in options;
    this.#config = 'existing' in options ? options.config : CONFIGURATION;
    this.#lock = lock;
  }

  /**
   * Creates the gadget (or joins the existing one), unbound. If it fails, nothing is left.
   *
   * @throws {IioError} `NO_CONFIGFS`, `NO_FUNCTIONFS`: the kernel lacks something; `EBUSY`: another iio-bridge or another
   * program uses the name; `ENOENT`: no such gadget or configuration to join; `EACCES`, `EPERM`.
   */
  static async create(options: GadgetOptions): Promise<Gadget> {
    const tree = options.tree ?? configTree;
    const root = await requireUsbGadgetConfigFs(options.configfs ?? CONFIGFS, tree);
    const path = 'existing' in options ? options.existing : join(root, options.name);
    const lock = await InstanceLock.acquire(options.runDirectory ?? RUN_DIRECTORY, options.name);
    const gadget = new Gadget(path, options, lock);
    try {
      await (gadget.#shared ? gadget.#requireShared() : gadget.#refuseForeign());
    } catch (error) {
      lock.release();
      throw error;
    }
    try {
      if ('existing' in options) {
        await gadget.#join();
      } else {
        await gadget.#removeTree();
        await gadget.#build(options.identity, options.microsoft ?? true);
      }
    } catch (error) {
      await gadget.#rollBack(error);
    }
    return gadget;
  }

  /** The controller that the gadget is bound to. The kernel unbinds it by itself when ep0 is closed. */
  async udc(): Promise<string | undefined> {
    return nonEmpty(await this.#tree.read(join(this.path, 'UDC')));
  }

  /**
   * Puts the gadget on the bus; FunctionFS must have its descriptors by then. Returns the controller's name.
   *
   * @param udc a name of /sys/class/udc. Default: the shared gadget's former one, else the first that is free.
   * @throws {IioError} `NO_UDC` if there is none; `EBUSY` if it is taken; `ENODEV`, `EINVAL` if the gadget cannot be
   * bound as it is.
   */
  async bind(udc?: string): Promise<string> {
    const chosen = await this.#chooseUdc(udc ?? this.#formerUdc);
    await this.#tree.write(join(this.path, 'UDC'), chosen, BIND_HINTS);
    return chosen;
  }

  /** Takes the gadget off the bus, if it is on. Afterwards DMABUF requests on open endpoint files crash Linux 6.12. */
  async unbind(): Promise<void> {
    try {
      await this.#tree.write(join(this.path, 'UDC'), '\n');
    } catch (error) {
      // ENODEV: not bound. ENOENT: the gadget is gone.
      const code = errorCode(error);
      if (code !== 'ENODEV' && code !== 'ENOENT') {
        throw error;
      }
    }
  }

  /**
   * Unbinds and takes away all that {@link create} made, whatever of it still exists. A shared gadget goes back to the
   * controller where it was. Does nothing after it has succeeded once.
   */
  async remove(): Promise<void> {
    if (this.#removed) {
      return;
    }
    await (this.#shared ? this.#leave() : this.#removeTree());
    this.#removed = true;
    this.#lock.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }

  get #functionPath(): string {
    return join(this.path, 'functions', `ffs.${this.functionName}`);
  }

  get #configPath(): string {
    return join(this.path, 'configs', this.#config);
  }

  async #build(identity: GadgetIdentity, microsoft: boolean): Promise<void> {
    const tree = this.#tree;
    await tree.make(this.path);
    await tree.write(join(this.path, 'idVendor'), hex(identity.idVendor));
    await tree.write(join(this.path, 'idProduct'), hex(identity.idProduct));
    await tree.write(join(this.path, 'bcdDevice'), hex(identity.bcdDevice ?? 0x0100));
    // Only a start value: the kernel raises it to what the controller's speed and BOS descriptors demand.
    await tree.write(join(this.path, 'bcdUSB'), hex(0x0200));

    const strings = join(this.path, 'strings', LANGUAGE);
    await tree.make(strings);
    await tree.write(join(strings, 'manufacturer'), identity.manufacturer);
    await tree.write(join(strings, 'product'), identity.product);
    await tree.write(join(strings, 'serialnumber'), identity.serial);

    await tree.make(this.#configPath);
    const configStrings = join(this.#configPath, 'strings', LANGUAGE);
    await tree.make(configStrings);
    await tree.write(join(configStrings, 'configuration'), 'IIO');

    await this.#addFunction();
    if (microsoft) {
      const os = join(this.path, 'os_desc');
      await tree.write(join(os, 'b_vendor_code'), hex(OS_VENDOR_CODE));
      await tree.write(join(os, 'qw_sign'), OS_SIGNATURE);
      await tree.write(join(os, 'use'), '1');
      await tree.link(this.#configPath, join(os, this.#config));
    }
  }

  async #requireShared(): Promise<void> {
    for (const [what, path] of [
      ['gadget', this.path],
      ['configuration', this.#configPath],
    ] as const) {
      if (!(await this.#tree.exists(path))) {
        throw new IioError('ENOENT', `there is no ${what} ${path} to join: set it up first`);
      }
    }
  }

  async #join(): Promise<void> {
    this.#formerUdc = await this.udc();
    // The kernel changes no gadget that is on the bus.
    await this.unbind();
    await this.#removeFunction();
    await this.#addFunction();
  }

  async #leave(): Promise<void> {
    await this.unbind();
    await this.#removeFunction();
    if (this.#formerUdc !== undefined && (await this.#tree.exists(this.path))) {
      await this.#tree.write(join(this.path, 'UDC'), this.#formerUdc, BIND_HINTS);
    }
  }

  async #addFunction(): Promise<void> {
    try {
      await this.#tree.make(this.#functionPath, FUNCTION_HINTS);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') {
        throw new IioError(
          'NO_FUNCTIONFS',
          'the kernel has no FunctionFS: load usb_f_fs, or build it with CONFIG_USB_CONFIGFS_F_FS',
          { cause: error },
        );
      }
      throw error;
    }
    await this.#tree.link(this.#functionPath, join(this.#configPath, basename(this.#functionPath)));
  }

  async #removeFunction(): Promise<void> {
    await this.#tree.unlink(join(this.#configPath, basename(this.#functionPath)));
    await this.#tree.remove(this.#functionPath);
  }

  /** A gadget of our name that has other functions than ours is not left over from us. */
  async #refuseForeign(): Promise<void> {
    const foreign = (await this.#tree.objects(join(this.path, 'functions'))).filter(
      (name) => name !== `ffs.${this.functionName}`,
    );
    if (foreign.length > 0) {
      throw new IioError(
        'EBUSY',
        `${this.path} belongs to another program (it has ${foreign.join(', ')}): choose another name, or join that gadget`,
      );
    }
  }

  /** Children before parents, relations before what they relate; goes by what exists, so it serves left-overs too. */
  async #removeTree(): Promise<void> {
    const tree = this.#tree;
    if (!(await tree.exists(this.path))) {
      return;
    }
    await this.unbind();
    const os = join(this.path, 'os_desc');
    for (const link of await tree.links(os)) {
      await tree.unlink(join(os, link));
    }
    const configs = join(this.path, 'configs');
    for (const config of await tree.objects(configs)) {
      const path = join(configs, config);
      for (const link of await tree.links(path)) {
        await tree.unlink(join(path, link));
      }
      await this.#removeObjects(join(path, 'strings'));
      await tree.remove(path);
    }
    await this.#removeObjects(join(this.path, 'functions'));
    await this.#removeObjects(join(this.path, 'strings'));
    await tree.remove(this.path);
  }

  async #removeObjects(directory: string): Promise<void> {
    for (const name of await this.#tree.objects(directory)) {
      await this.#tree.remove(join(directory, name));
    }
  }

  /** Undoes a failed {@link create} and throws its error, together with that of the undoing if there is one. */
  async #rollBack(error: unknown): Promise<never> {
    try {
      await this.remove();
    } catch (second) {
      throw new AggregateError([error, second], `${String(error)}; and taking it back failed: ${String(second)}`);
    }
    throw error;
  }

  async #chooseUdc(wanted: string | undefined): Promise<string> {
    const controllers = await listUdcs(this.#udcClass);
    if (controllers.length === 0) {
      throw new IioError(
        'NO_UDC',
        `no USB device controller: ${this.#udcClass} is empty. The port must be in device (peripheral or OTG) mode ` +
          'and its driver loaded (device tree dr_mode, dwc2 or dwc3 overlay); for a try without hardware: modprobe dummy_hcd',
      );
    }
    if (wanted !== undefined) {
      if (!controllers.some(({ name }) => name === wanted)) {
        const names = controllers.map(({ name }) => name).join(', ');
        throw new IioError('NO_UDC', `there is no USB device controller ${wanted}; this machine has ${names}`);
      }
      return wanted;
    }
    const free = controllers.find(({ gadget }) => gadget === undefined);
    if (free === undefined) {
      const taken = controllers.map(({ name, gadget }) => `${name} serves ${gadget}`).join(', ');
      throw new IioError('EBUSY', `no USB device controller is free (${taken}): unbind that gadget, or join it`);
    }
    return free.name;
  }
}

export interface Udc {
  /** As in /sys/class/udc and in a gadget's `UDC` file: `dummy_udc.0`, `ci_hdrc.0`, `fe800000.usb`. */
  readonly name: string;
  /** What is bound to it, by the name of the gadget's driver. */
  readonly gadget: string | undefined;
}

/** The USB device controllers of this machine, by name; none if the kernel has no gadget support. */
export async function listUdcs(udcClass = '/sys/class/udc'): Promise<Udc[]> {
  let names: string[];
  try {
    names = (await readdir(udcClass)).sort();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return [];
    }
    throw fromFsError(error, `list ${udcClass}`);
  }
  return Promise.all(
    names.map(async (name) => ({ name, gadget: nonEmpty(await readValue(join(udcClass, name, 'function'))) })),
  );
}

function nonEmpty(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(4, '0')}`;
}
