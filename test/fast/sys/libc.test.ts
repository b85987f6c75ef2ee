import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FileDescriptor } from '../../../src/sys/file-descriptor.js';
import {
  ioctl,
  ioctlInt,
  memfdCreate,
  mount,
  pageSize,
  readNothing,
  sealAgainstShrinking,
  setNonBlocking,
  socketPair,
  tryLock,
  unmount,
  writeNothing,
} from '../../../src/sys/libc.js';

const FIONREAD = { name: 'FIONREAD', number: 0x541b };

function memfd(): number {
  const file = new FileDescriptor(memfdCreate('test'), 'memfd');
  onTestFinished(() => file.close());
  return file.fd;
}

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

describe('libc', () => {
  it('is not loaded before the first call', () => {
    const cached = () => Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes('/koffi/'));
    expect(cached()).toBe(false);
    expect(pageSize()).toBeGreaterThanOrEqual(4096);
    expect(cached()).toBe(true);
  });

  it('ioctl gives back what the kernel wrote into its argument', () => {
    const fd = memfd();
    ftruncateSync(fd, 77);
    expect(ioctlInt(fd, FIONREAD, -1, 'memfd')).toBe(77);
  });

  it('a failed ioctl names the request, the object, the errno and what it means here', () => {
    const fd = memfd();
    const request = { name: 'IIO_BUFFER_GET_FD', number: 0xc0046991 };
    const call = () => ioctl(fd, request, new Uint8Array(4), '/dev/iio:device0', { ENOTTY: 'not a device' });
    expect(call).toThrow(
      expect.objectContaining({
        code: 'ENOTTY',
        message: 'ioctl IIO_BUFFER_GET_FD on /dev/iio:device0: ENOTTY (not a device)',
      }),
    );
  });

  it('mount and unmount report the errno', () => {
    const target = join(temporaryDirectory(), 'missing');
    const refusal = expect.objectContaining({ code: expect.stringMatching(/^(ENOENT|EPERM)$/) });
    expect(() => mount('x', target, 'tmpfs', null)).toThrow(refusal);
    expect(() => unmount(target, 0)).toThrow(refusal);
  });

  it('a sealed memfd cannot shrink', () => {
    const fd = memfd();
    ftruncateSync(fd, 8192);
    sealAgainstShrinking(fd);
    expect(() => ftruncateSync(fd, 4096)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    expect(fstatSync(fd).size).toBe(8192);
  });

  it('setNonBlocking makes a read of nothing fail at once', () => {
    // A pseudo-terminal that nobody types into.
    const fd = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY);
    onTestFinished(() => closeSync(fd));
    setNonBlocking(fd, 'ptmx');
    expect(() => readSync(fd, new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  });

  it('a socket pair carries bytes both ways, and blocks in neither', () => {
    const [first, second] = socketPair('test');
    onTestFinished(() => closeSync(second));
    const buffer = new Uint8Array(4);
    expect(() => readSync(first, buffer)).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
    expect(() => readSync(second, buffer)).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
    writeSync(first, Uint8Array.of(1, 2));
    expect([readSync(second, buffer), ...buffer]).toEqual([2, 1, 2, 0, 0]);
    writeSync(second, Uint8Array.of(3));
    expect([readSync(first, buffer), ...buffer]).toEqual([1, 3, 2, 0, 0]);
    closeSync(first);
    expect(readSync(second, buffer)).toBe(0);
  });

  it('a lock has one holder, and ends with its descriptor', () => {
    const path = join(temporaryDirectory(), 'lock');
    const open = () => new FileDescriptor(openSync(path, constants.O_RDWR | constants.O_CREAT), path);
    const first = open();
    const second = open();
    expect(tryLock(first.fd, path)).toBe(true);
    expect(tryLock(second.fd, path)).toBe(false);
    first.close();
    expect(tryLock(second.fd, path)).toBe(true);
    second.close();
  });

  it('zero-length reads and writes reach the kernel, and tell the errno', async () => {
    const fd = memfd();
    expect(await readNothing(fd)).toBeUndefined();
    expect(await writeNothing(fd)).toBeUndefined();
    expect(await Promise.all([readNothing(-1), writeNothing(-1)])).toEqual(['EBADF', 'EBADF']);
  });
});

describe('FileDescriptor', () => {
  it('closes once, however often it is told', () => {
    const file = new FileDescriptor(memfdCreate('test'), 'memfd');
    const { fd } = file;
    file.close();
    // The kernel gives the lowest free number, so a second close(2) would hit this file.
    using next = new FileDescriptor(memfdCreate('next'), 'memfd');
    expect(next.fd).toBe(fd);
    file.close();
    expect(fstatSync(next.fd).isFile()).toBe(true);
  });

  it('a released number is not closed', () => {
    const file = new FileDescriptor(memfdCreate('test'), 'memfd');
    const fd = file.release();
    file.close();
    expect(fstatSync(fd).isFile()).toBe(true);
    closeSync(fd);
  });

  it('a closed one says so', () => {
    const file = new FileDescriptor(memfdCreate('test'), '/dev/thing');
    file.close();
    expect(() => file.fd).toThrow(expect.objectContaining({ code: 'EBADF', message: '/dev/thing is closed already' }));
  });
});
