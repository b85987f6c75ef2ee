import { dirname, join } from 'node:path';
import type { ConfigTree } from '../../../src/ffs/configfs.js';
import { systemError } from '../../../src/sys/errors.js';

interface Entry {
  readonly kind: 'object' | 'group' | 'attribute' | 'link';
  value: string;
}

/**
 * Stands in for the kernel's usb_gadget configfs, by its rules: objects bring their attributes and groups with them and
 * take them away; what others refer to cannot be destroyed; a gadget on the bus does not change.
 */
export class FakeConfigFs implements ConfigTree {
  /** Every change in the order in which the kernel would see it. */
  readonly log: string[] = [];
  readonly #entries = new Map<string, Entry>();
  readonly #failures = new Map<string, string>();

  constructor(root: string) {
    this.#entries.set(join(root, 'usb_gadget'), { kind: 'group', value: '' });
  }

  /** Lets the next change of `path` fail with `code`. */
  failAt(path: string, code: string): void {
    this.#failures.set(path, code);
  }

  /** Everything that exists below `path`, sorted. */
  below(path: string): string[] {
    return [...this.#entries.keys()].filter((key) => key.startsWith(`${path}/`)).sort();
  }

  /** What the kernel does when ep0 of a gadget's FunctionFS is closed. */
  dropUdc(gadget: string): void {
    this.#set(join(gadget, 'UDC'), '');
  }

  async exists(path: string): Promise<boolean> {
    return this.#entries.has(path);
  }

  async make(path: string): Promise<void> {
    this.#change('make', path);
    const parent = dirname(path);
    if (this.#entries.get(parent)?.kind !== 'group') {
      throw systemError(this.#entries.has(parent) ? 'EPERM' : 'ENOENT', `create ${path}`);
    }
    if (this.#entries.has(path)) {
      throw systemError('EEXIST', `create ${path}`);
    }
    this.#entries.set(path, { kind: 'object', value: '' });
    const { attributes, groups } = contentOf(path);
    for (const name of groups) {
      this.#entries.set(join(path, name), { kind: 'group', value: '' });
    }
    for (const name of attributes) {
      this.#entries.set(join(path, name), { kind: 'attribute', value: '' });
    }
  }

  async remove(path: string): Promise<void> {
    this.#change('remove', path);
    const entry = this.#entries.get(path);
    if (entry === undefined) {
      return;
    }
    const below = this.below(path);
    const holds = below.some((key) => ['object', 'link'].includes(this.#entries.get(key)?.kind ?? ''));
    const referredTo = [...this.#entries.values()].some(({ kind, value }) => kind === 'link' && value === path);
    if (entry.kind !== 'object' || holds || referredTo) {
      throw systemError(entry.kind !== 'object' ? 'EPERM' : holds ? 'ENOTEMPTY' : 'EBUSY', `remove ${path}`);
    }
    for (const key of [path, ...below]) {
      this.#entries.delete(key);
    }
  }

  async write(path: string, value: string): Promise<void> {
    this.#change('write', path, JSON.stringify(value));
    const entry = this.#entries.get(path);
    if (entry?.kind !== 'attribute') {
      throw systemError('ENOENT', `write ${path}`);
    }
    const text = value.replace(/\n$/, '');
    if (path.endsWith('/UDC') && (text === '') === (entry.value === '')) {
      throw systemError(text === '' ? 'ENODEV' : 'EBUSY', `write ${path}`);
    }
    entry.value = text;
  }

  async read(path: string): Promise<string> {
    const entry = this.#entries.get(path);
    if (entry?.kind !== 'attribute') {
      throw systemError('ENOENT', `read ${path}`);
    }
    return entry.value;
  }

  async link(target: string, path: string): Promise<void> {
    this.#change('link', path, target);
    if (this.#entries.get(target)?.kind !== 'object' || !this.#entries.has(dirname(path))) {
      throw systemError('ENOENT', `link ${path}`);
    }
    if (this.#isBound(path)) {
      throw systemError('EINVAL', `link ${path}`);
    }
    this.#entries.set(path, { kind: 'link', value: target });
  }

  async unlink(path: string): Promise<void> {
    this.#change('unlink', path);
    this.#entries.delete(path);
  }

  async objects(path: string): Promise<string[]> {
    return this.#names(path, ['object', 'group']);
  }

  async links(path: string): Promise<string[]> {
    return this.#names(path, ['link']);
  }

  #names(path: string, kinds: readonly string[]): string[] {
    return [...this.#entries]
      .filter(([key, { kind }]) => dirname(key) === path && kinds.includes(kind))
      .map(([key]) => key.slice(path.length + 1));
  }

  #change(verb: string, path: string, detail?: string): void {
    this.log.push([verb, path, detail].filter((word) => word !== undefined).join(' '));
    const failure = this.#failures.get(path);
    if (failure !== undefined) {
      this.#failures.delete(path);
      throw systemError(failure, `${verb} ${path}`);
    }
  }

  #isBound(path: string): boolean {
    const gadget = /^(.*\/usb_gadget\/[^/]+)\//.exec(path)?.[1];
    return gadget !== undefined && (this.#entries.get(join(gadget, 'UDC'))?.value ?? '') !== '';
  }

  #set(path: string, value: string): void {
    const entry = this.#entries.get(path);
    if (entry !== undefined) {
      entry.value = value;
    }
  }
}

/** What an object of this place has from the start (drivers/usb/gadget/configfs.c). */
function contentOf(path: string): { attributes: readonly string[]; groups: readonly string[] } {
  const group = dirname(path);
  if (group.endsWith('/usb_gadget')) {
    const identity = ['idVendor', 'idProduct', 'bcdDevice', 'bcdUSB', 'bDeviceClass', 'UDC'];
    const os = ['use', 'b_vendor_code', 'qw_sign'].map((name) => `os_desc/${name}`);
    return { attributes: [...identity, ...os], groups: ['configs', 'functions', 'strings', 'os_desc'] };
  }
  if (group.endsWith('/configs')) {
    return { attributes: ['MaxPower', 'bmAttributes'], groups: ['strings'] };
  }
  if (/\/configs\/[^/]+\/strings$/.test(group)) {
    return { attributes: ['configuration'], groups: [] };
  }
  if (group.endsWith('/strings')) {
    return { attributes: ['manufacturer', 'product', 'serialnumber'], groups: [] };
  }
  return { attributes: group.endsWith('/functions') ? ['ready'] : [], groups: [] };
}
