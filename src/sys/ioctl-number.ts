/**
 * Request numbers as `include/uapi/asm-generic/ioctl.h` builds them: direction in bits 30-31, argument size in bits
 * 16-29, type letter in bits 8-15, number in bits 0-7. Alpha, MIPS, PowerPC and SPARC encode them differently.
 */

const WRITE = 1;
const READ = 2;

/** An ioctl request: what the kernel calls it (for messages) and the number that goes into the call. */
export interface IoctlRequest {
  readonly name: string;
  /** Unsigned 32-bit. */
  readonly number: number;
}

function encode(direction: number, type: string, nr: number, size: number): number {
  return ((direction << 30) | (size << 16) | (type.charCodeAt(0) << 8) | nr) >>> 0;
}

/** `_IO(type, nr)`: no argument. */
export function io(type: string, nr: number): number {
  return encode(0, type, nr, 0);
}

/** `_IOW(type, nr, T)`: the kernel reads the argument; `size` is `sizeof(T)` in bytes. */
export function iow(type: string, nr: number, size: number): number {
  return encode(WRITE, type, nr, size);
}

/** `_IOR(type, nr, T)`: the kernel fills the argument; `size` is `sizeof(T)` in bytes. */
export function ior(type: string, nr: number, size: number): number {
  return encode(READ, type, nr, size);
}

/** `_IOWR(type, nr, T)`: the kernel reads the argument and writes it back; `size` is `sizeof(T)` in bytes. */
export function iowr(type: string, nr: number, size: number): number {
  return encode(READ | WRITE, type, nr, size);
}
