import type { ChannelMask, ContextDescription } from '@iio-bridge/protocol';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { BufferLengths } from './buffer.js';
import type { AttributeRef } from './context.js';

/** A buffer that has been opened for one client, with its channels chosen. The opener closes it. */
export interface BackendBuffer extends AsyncDisposable {
  /** Non-blocking, lent: samples are read from it or written to it, or go by dmabuf where the kernel's buffer can. */
  readonly fd: number;
  /** With the channels that the device switched on by itself. */
  readonly mask: ChannelMask;
  /** The source stands still while nobody reads, and loses nothing by it. */
  readonly isLossless?: boolean;
  /** @throws {IioError} what the driver says. */
  enable(lengths: BufferLengths): Promise<void>;
  disable(): Promise<void>;
  /** Disables the buffer and gives it back. */
  close(): Promise<void>;
}

/** Where an IIO context comes from: this machine's devices, or something that stands in for them. */
export interface Backend {
  readonly description: ContextDescription;

  /** The value with its final NUL. @throws {IioError} `EINVAL` if the document has no such attribute; the driver's errno. */
  readAttribute(ref: AttributeRef): Promise<Uint8Array>;

  /** Returns the number of bytes that the driver took. @throws {IioError} as {@link readAttribute}. */
  writeAttribute(ref: AttributeRef, value: Uint8Array): Promise<number>;

  /**
   * A file that shows the attribute's value anew whenever it is read from its start; the caller closes it. Undefined, or
   * without this method, where attributes are no files.
   *
   * @throws {IioError} as {@link readAttribute}.
   */
  openAttribute?(ref: AttributeRef): Promise<FileDescriptor | undefined>;

  /**
   * The position of the trigger that `device` is set to.
   *
   * @throws {IioError} `ENOENT` if it takes none, `ENODEV` if none is set, `ENXIO` if it is not in the document.
   */
  trigger(device: number): Promise<number>;

  /** @throws {IioError} `ENOENT` if the device takes no trigger, `EINVAL` if `trigger` is none. */
  setTrigger(device: number, trigger: number | undefined): Promise<void>;

  /**
   * @throws {IioError} `ENODEV` without such a buffer, `EINVAL` for a mask without a channel of it, `EBUSY` if another
   * program has it.
   */
  openBuffer(device: number, bufferIndex: number, mask: ChannelMask): Promise<BackendBuffer>;

  /**
   * A descriptor from which the device's events are read, one record of 16 bytes each: u64 event id, i64 time stamp in ns.
   * Non-blocking; the caller closes it.
   *
   * @throws {IioError} `ENODEV` without such a device or if it has no events, `EBUSY` if another program reads them.
   */
  openEvents(device: number): Promise<FileDescriptor>;

  /**
   * The value of a 32-bit register; `address` is the device's own.
   *
   * @throws {IioError} `ENODEV` without such a device, `ENOENT` if it offers no registers; the driver's errno.
   */
  readRegister(device: number, address: number): Promise<number>;

  /** @throws {IioError} as {@link readRegister}. */
  writeRegister(device: number, address: number, value: number): Promise<void>;
}
