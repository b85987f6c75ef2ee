import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { DataPlane } from '../../../src/dataplane/data-plane.js';
import { FileDescriptor } from '../../../src/sys/file-descriptor.js';
import { socketPair } from '../../../src/sys/libc.js';

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const libc = koffi.load(null);
const pipe2Call = libc.func('int pipe2(_Out_ int *fds, int flags)');

const O_NONBLOCK_CLOEXEC = 0o2004000;

function owned([first, second]: readonly [number, number], name: string): readonly [FileDescriptor, FileDescriptor] {
  const pair = [new FileDescriptor(first, `${name} 0`), new FileDescriptor(second, `${name} 1`)] as const;
  onTestFinished(() => pair.forEach((end) => void end.close()));
  return pair;
}

/** Two connected stream sockets, both non-blocking. */
export function socketpair(): readonly [FileDescriptor, FileDescriptor] {
  return owned(socketPair('test'), 'socketpair');
}

/** The reading and the writing end of a pipe, both non-blocking. */
export function pipe(): readonly [FileDescriptor, FileDescriptor] {
  const fds = [-1, -1];
  if (pipe2Call(fds, O_NONBLOCK_CLOEXEC) !== 0) {
    throw new Error('pipe2 failed');
  }
  const [reading = -1, writing = -1] = fds;
  return owned([reading, writing], 'pipe');
}

/** A data plane that ends with the test. */
export function startPlane(): DataPlane {
  const plane = DataPlane.start();
  onTestFinished(() => plane.close());
  return plane;
}

/** Bytes that are all different from their neighbours, and from another `seed`'s. */
export function pattern(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    bytes[i] = (seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 29) & 0xff;
  }
  return bytes;
}

/** The client's end of a link, with promises. */
export class PeerSocket {
  readonly #socket: Socket;
  readonly #chunks: Buffer[] = [];
  #buffered = 0;
  #wake: () => void = () => undefined;

  constructor(end: FileDescriptor) {
    this.#socket = new Socket({ fd: end.release(), readable: true, writable: true, allowHalfOpen: true });
    this.#socket.pause();
    this.#socket.on('error', () => undefined);
    onTestFinished(() => this.close());
  }

  send(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Sends no more. */
  shutdown(): void {
    this.#socket.end();
  }

  async close(): Promise<void> {
    if (!this.#socket.closed) {
      const closed = once(this.#socket, 'close');
      this.#socket.destroy();
      await closed;
    }
  }

  /** Exactly `bytes` bytes. Reads nothing before it is called. */
  async read(bytes: number): Promise<Buffer> {
    const listener = (chunk: Buffer): void => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      this.#wake();
    };
    this.#socket.on('data', listener);
    this.#socket.resume();
    while (this.#buffered < bytes) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#socket.pause();
    this.#socket.off('data', listener);
    const all = Buffer.concat(this.#chunks);
    this.#chunks.splice(0, this.#chunks.length, all.subarray(bytes));
    this.#buffered = all.length - bytes;
    return all.subarray(0, bytes);
  }
}

export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
