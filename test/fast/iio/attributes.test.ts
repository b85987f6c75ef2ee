import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_ATTRIBUTE_BYTES, readAttribute, writeAttribute } from '../../../src/iio/attributes.js';
import { discoverContext } from '../../../src/iio/discovery.js';
import { discoverLocalContext } from '../../../src/iio/local.js';
import { realSysfs, type SysfsTree } from '../../../src/iio/sysfs-tree.js';
import { HOST } from './fixtures.js';

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'iio-attributes-'));
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

describe('reading an attribute', () => {
  it.each([
    ['a line', '1.000000\n', '1.000000\0'],
    ['several lines', 'a\nb\n', 'a\nb\0'],
    ['a value without newline, which loses its last character', 'abc', 'ab\0'],
    ['a newline', '\n', '\0'],
    ['nothing', '', ''],
    ['a page', `${'x'.repeat(4095)}\n`, `${'x'.repeat(4095)}\0`],
    ['a page and a byte', `${'x'.repeat(4096)}\n`, `${'x'.repeat(4096)}\0`],
    ['as much as fits', `${'x'.repeat(MAX_ATTRIBUTE_BYTES - 1)}\n`, `${'x'.repeat(MAX_ATTRIBUTE_BYTES - 1)}\0`],
  ])('gives %s', async (_, content, value) => {
    const bytes = await readAttribute(await file('value', content));
    expect(new TextDecoder().decode(bytes)).toBe(value);
  });

  it('refuses a value that is too long', async () => {
    const path = await file('long', 'x'.repeat(MAX_ATTRIBUTE_BYTES + 1));
    await expect(readAttribute(path)).rejects.toMatchObject({ code: 'EFBIG', message: expect.stringContaining(path) });
  });

  it('names the file and keeps the errno', async () => {
    const missing = join(directory, 'missing');
    await expect(readAttribute(missing)).rejects.toMatchObject({
      name: 'IioError',
      code: 'ENOENT',
      errno: 2,
      message: `read ${missing}: ENOENT`,
    });
    await expect(readAttribute(directory)).rejects.toMatchObject({ code: 'EISDIR' });
  });
});

describe('writing an attribute', () => {
  it('overwrites in place and counts every byte, the NUL included', async () => {
    const path = await file('target', '123456\n');
    await expect(writeAttribute(path, new TextEncoder().encode('42\0'))).resolves.toBe(3);
    await expect(readFile(path, 'latin1')).resolves.toBe('42\x00456\n');
  });

  it('creates nothing', async () => {
    const path = join(directory, 'absent');
    await expect(writeAttribute(path, Uint8Array.of(49))).rejects.toMatchObject({
      code: 'ENOENT',
      message: `write ${path}: ENOENT`,
    });
    await expect(readFile(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('refuses an empty value without touching the file', async () => {
    const path = await file('kept', '1\n');
    await expect(writeAttribute(path, new Uint8Array())).rejects.toMatchObject({ code: 'EIO' });
    await expect(readFile(path, 'latin1')).resolves.toBe('1\n');
  });

  it('keeps the errno of a driver that refuses', async () => {
    await expect(writeAttribute('/dev/full', Uint8Array.of(49))).rejects.toMatchObject({ code: 'ENOSPC', errno: 28 });
  });
});

describe('the real file system', () => {
  it('lists files and directories behind links, and no broken links', async () => {
    const path = await mkdtemp(join(directory, 'tree-'));
    await writeFile(join(path, 'plain'), 'x\n');
    await symlink(directory, join(path, 'linked-directory'));
    await symlink(join(path, 'plain'), join(path, 'linked-file'));
    await symlink(join(path, 'nowhere'), join(path, 'broken'));
    const entries = realSysfs.list(path)?.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    expect(entries).toEqual([
      { name: 'linked-directory', kind: 'directory' },
      { name: 'linked-file', kind: 'file' },
      { name: 'plain', kind: 'file' },
    ]);
    expect(realSysfs.read(join(path, 'linked-file'))).toBe('x\n');
    expect(realSysfs.list(join(path, 'nowhere'))).toBeUndefined();
    expect(realSysfs.read(join(path, 'nowhere'))).toBeUndefined();
  });

  it('is discovered through the links that sysfs makes of devices', async () => {
    const root = await mkdtemp(join(directory, 'sys-'));
    await mkdir(join(root, 'sys/bus/iio/devices'), { recursive: true });
    await mkdir(join(root, 'sys/devices/adc'), { recursive: true });
    await writeFile(join(root, 'sys/devices/adc/name'), 'adc\n');
    await writeFile(join(root, 'sys/devices/adc/in_voltage0_raw'), '1\n');
    await symlink('../../../devices/adc', join(root, 'sys/bus/iio/devices/iio:device0'));
    const tree: SysfsTree = {
      list: (path) => realSysfs.list(root + path),
      read: (path) => realSysfs.read(root + path),
    };
    const context = discoverContext(tree, { host: HOST });
    expect(context.description.devices).toMatchObject([
      { id: 'iio:device0', name: 'adc', channels: [{ id: 'voltage0' }] },
    ]);
  });

  it('of this machine has a context, or says that it has no IIO', () => {
    try {
      expect(discoverLocalContext().description.attributes.get('uri')).toBe('local:');
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOENT' });
    }
  });
});
