import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { onTestFinished } from 'vitest';
import { DataPlane } from '../../../src/dataplane/data-plane.js';
import { FileDescriptor } from '../../../src/sys/file-descriptor.js';

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const libc = koffi.load(null);
const socketpairCall = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)');
const pipe2Call = libc.func('int pipe2(_Out_ int *fds, int flags)');

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

function couple(call: (fds: number[]) => number, name: string): readonly [FileDescriptor, FileDescriptor] {
  const fds = [-1, -1];
  if (call(fds) !== 0) {
    throw new Error(`${name} failed`);
  }
  const [first = -1, second = -1] = fds;
  const pair = [new FileDescriptor(first, `${name} 0`), new FileDescriptor(second, `${name} 1`)] as const;
  onTestFinished(() => pair.forEach((end) => void end.close()));
  return pair;
}

/** Two connected stream sockets, both non-blocking. */
export function socketpair(): readonly [FileDescriptor, FileDescriptor] {
  return couple((fds) => socketpairCall(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 'socketpair');
}

/** The reading and the writing end of a pipe, both non-blocking. */
export function pipe(): readonly [FileDescriptor, FileDescriptor] {
  return couple((fds) => pipe2Call(fds, SOCK_NONBLOCK | SOCK_CLOEXEC), 'pipe');
}

/** A data plane that ends with the test. */
export function startPlane(): DataPlane {
  const plane = DataPlane.start();
  onTestFinished(() => plane.close());
  return plane;
}

export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
