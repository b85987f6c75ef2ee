import { createRequire } from 'node:module';
import { ERRNO, errnoName, type IioError } from '@iio-bridge/protocol';
import { type Hints, systemError } from './errors.js';
import type { IoctlRequest } from './ioctl-number.js';

/**
 * The system calls that Node lacks, through koffi. For the control plane only: a call here costs microseconds and, apart
 * from {@link readNothing} and {@link writeNothing}, runs on the JavaScript thread. Everything that fails throws an
 * {@link IioError} whose `code` is the errno's name.
 */

/** include/uapi/linux/mount.h and the MNT_* flags of umount2(2). */
export const MNT_DETACH = 2;

/** include/uapi/asm-generic/fcntl.h. */
export const O_CLOEXEC = 0o2000000;

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

/** include/uapi/linux/fcntl.h: F_LINUX_SPECIFIC_BASE + 9; the file may not become smaller. */
const F_ADD_SEALS = 1033;
const F_SEAL_SHRINK = 0x0002;

/** include/uapi/linux/memfd.h. */
const MFD_CLOEXEC = 0x0001;
const MFD_ALLOW_SEALING = 0x0002;

/** socket(2), as on every architecture that Node runs on. */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = O_NONBLOCK;
const SOCK_CLOEXEC = O_CLOEXEC;

/** flock(2). */
const LOCK_EX = 2;
const LOCK_NB = 4;

type Pointer = Uint8Array | null;
type Completion = (error: unknown, result: number) => void;
type ByteCall = ((fd: number, buffer: Pointer, count: number) => number) & {
  async(fd: number, buffer: Pointer, count: number, completion: Completion): void;
};

interface Libc {
  readonly ioctl: (fd: number, request: number, arg: Uint8Array) => number;
  readonly mount: (source: string, target: string, type: string, flags: number, data: string | null) => number;
  readonly umount2: (target: string, flags: number) => number;
  readonly memfd_create: (name: string, flags: number) => number;
  readonly fcntl: (fd: number, command: number, arg: number) => number;
  readonly flock: (fd: number, operation: number) => number;
  readonly socketpair: (domain: number, type: number, protocol: number, pair: Uint8Array) => number;
  readonly getpagesize: () => number;
  readonly read: ByteCall;
  readonly write: ByteCall;
  /** The name of the errno that the latest call left. */
  readonly errno: () => string;
}

let loaded: Libc | undefined;

/** koffi is loaded by the first call, so that programs that never touch the kernel do not pay for it. */
function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  // The process itself: node is linked against the C library, whichever it is (glibc, musl).
  const library = koffi.load(null);
  const names = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));
  // The wire's names first: koffi's list has synonyms (EAGAIN and EWOULDBLOCK).
  for (const [name, number] of Object.entries(ERRNO)) {
    names.set(number, name);
  }
  // On every ABI that Linux and Node share, an integer or pointer argument of a variadic function travels as that of an
  // ordinary one does; so ioctl and fcntl need no variadic declaration here.
  return {
    ioctl: library.func('int ioctl(int fd, ulong request, void *arg)'),
    mount: library.func(
      'int mount(const char *source, const char *target, const char *type, ulong flags, const char *data)',
    ),
    umount2: library.func('int umount2(const char *target, int flags)'),
    memfd_create: library.func('int memfd_create(const char *name, uint flags)'),
    fcntl: library.func('int fcntl(int fd, int cmd, int arg)'),
    flock: library.func('int flock(int fd, int operation)'),
    socketpair: library.func('int socketpair(int domain, int type, int protocol, void *pair)'),
    getpagesize: library.func('int getpagesize()'),
    read: library.func('intptr_t read(int fd, void *buf, size_t count)'),
    write: library.func('intptr_t write(int fd, const void *buf, size_t count)'),
    errno: () => {
      const number = koffi.errno();
      return names.get(number) ?? errnoName(number);
    },
  };
}

function check(result: number, operation: string, hints?: Hints): number {
  if (result < 0) {
    throw failure(operation, hints);
  }
  return result;
}

function failure(operation: string, hints?: Hints): IioError {
  return systemError(libc().errno(), operation, hints);
}

/**
 * ioctl(2) with a pointer argument: the kernel reads and writes `argument` in place (native byte order, the size that
 * the request's number states). Returns what the call returns. `object` names the file in messages.
 */
export function ioctl(fd: number, request: IoctlRequest, argument: Uint8Array, object: string, hints?: Hints): number {
  return check(libc().ioctl(fd, request.number, argument), `ioctl ${request.name} on ${object}`, hints);
}

/** ioctl(2) with an `int *` argument. Returns the int as the kernel left it. */
export function ioctlInt(fd: number, request: IoctlRequest, value: number, object: string, hints?: Hints): number {
  const cell = Int32Array.of(value);
  ioctl(fd, request, new Uint8Array(cell.buffer), object, hints);
  return cell[0] ?? value;
}

/** mount(2) of a file system that has no device behind it; `source` is what it calls itself. */
export function mount(source: string, target: string, type: string, data: string | null, hints?: Hints): void {
  check(libc().mount(source, target, type, 0, data), `mount ${type} at ${target}`, hints);
}

/** umount2(2). {@link MNT_DETACH} takes the mount away at once and lets open files live on. */
export function unmount(target: string, flags: number, hints?: Hints): void {
  check(libc().umount2(target, flags), `unmount ${target}`, hints);
}

/** An anonymous file of no size that takes seals; the caller owns the descriptor. */
export function memfdCreate(name: string): number {
  return check(libc().memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), `memfd_create ${name}`, {
    ENOSYS: 'the kernel has no CONFIG_MEMFD_CREATE',
  });
}

/** Forbids that the memfd shrinks, which udmabuf demands. */
export function sealAgainstShrinking(fd: number): void {
  check(libc().fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), `fcntl F_ADD_SEALS on memfd ${fd}`);
}

/** Sets O_NONBLOCK on an open descriptor. */
export function setNonBlocking(fd: number, object: string): void {
  const flags = check(libc().fcntl(fd, F_GETFL, 0), `fcntl F_GETFL on ${object}`);
  check(libc().fcntl(fd, F_SETFL, flags | O_NONBLOCK), `fcntl F_SETFL on ${object}`);
}

/** Takes an exclusive flock(2), which dies with the descriptor. Returns false if somebody else has it. */
export function tryLock(fd: number, object: string): boolean {
  if (libc().flock(fd, LOCK_EX | LOCK_NB) === 0) {
    return true;
  }
  const error = failure(`lock ${object}`);
  if (error.code === 'EAGAIN') {
    return false;
  }
  throw error;
}

/** Two connected stream sockets, non-blocking and closed on exec; the caller owns both. `name` is for messages. */
export function socketPair(name: string): readonly [number, number] {
  const pair = new Int32Array(2);
  const bytes = new Uint8Array(pair.buffer);
  check(libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, bytes), `socketpair for ${name}`, {
    EMFILE: 'too many open files: raise the limit (ulimit -n)',
  });
  const [first = -1, second = -1] = pair;
  return [first, second];
}

/** Bytes in a page of memory. */
export function pageSize(): number {
  return libc().getpagesize();
}

/**
 * A zero-length read(2), which Node's `fs.read` answers without a system call, on a worker thread: on ep0 of FunctionFS
 * it waits for the host. Resolves with undefined when the call succeeded, or with the errno's name.
 */
export function readNothing(fd: number): Promise<string | undefined> {
  return transferNothing(libc().read, fd);
}

/** A zero-length write(2); see {@link readNothing}. */
export function writeNothing(fd: number): Promise<string | undefined> {
  return transferNothing(libc().write, fd);
}

function transferNothing(call: ByteCall, fd: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    call.async(fd, null, 0, (error, result) => {
      if (error !== null) {
        reject(error);
      } else {
        resolve(result < 0 ? libc().errno() : undefined);
      }
    });
  });
}
