import { ChannelMask, type DeviceDescription, ERRNO, IioError } from '@iio-bridge/protocol';
import { MAX_ATTRIBUTE_BYTES } from '../../iio/attributes.js';
import type { AttributeRef } from '../../iio/context.js';
import { LimitError } from '../limit-error.js';
import type { Logger } from '../logger.js';
import type { ServedContext } from '../served-context.js';
import { type AttributeResult, decodeAttributeList, encodeAttributeList } from './attribute-list.js';
import type { LinkTimeout } from './client-timeouts.js';
import { type AttributeTarget, parseCommand, type TextCommand } from './command.js';
import { compressed } from './compressed-context.js';
import { findAttributes, findDevice } from './names.js';
import type { OpenSharedBuffer, SharedBuffers } from './shared-buffers.js';

/** Clients keep command lines below 1024 bytes. */
const MAX_LINE_BYTES = 8192;

/** Beyond this an attribute's value is not worth reading to its end: the link is given up instead. */
const MAX_DISCARDED_BYTES = 16 * 1024 * 1024;

/** Samples are read from the link in pieces of at most this size. */
const MAX_PIECE_BYTES = 1024 * 1024;

/** Bytes of an answer that may wait for the client to read them before more samples are fetched for it. */
const MAX_UNSENT_BYTES = 1024 * 1024;

/** How long CLOSE waits for what the client has written to be played. */
const CLOSE_DRAIN_MS = 5000;

/** And the end of a link without it, for which a client may be waiting that opens the same pipe; hosts give it a second. */
const GONE_DRAIN_MS = 500;

/** A Link will do; tests use less. */
export interface TextLink {
  readonly whenEnded: Promise<unknown>;
  readLine(limit: number): Promise<Uint8Array>;
  read(bytes: number): Promise<Uint8Array>;
  send(...transfers: readonly Uint8Array[]): void;
  drained(limit: number): Promise<void>;
}

export interface TextSessionOptions {
  readonly sharedBuffers: SharedBuffers;
  readonly timeout: LinkTimeout;
  /** The largest value that may be written to an attribute. */
  readonly maxValueBytes: number;
  /** The context that the client was given last. */
  readonly context: () => ServedContext;
  /** The context as of now, to be given to the client. */
  readonly freshContext: () => ServedContext;
  readonly log: Logger;
}

/**
 * The text protocol on one link: one command after the other, each answered once. Owns the buffers that the client has
 * opened, until `close()`.
 */
export class TextSession {
  readonly #link: TextLink;
  readonly #options: TextSessionOptions;
  readonly #log: Logger;
  /** By device id. */
  readonly #buffers = new Map<string, OpenSharedBuffer>();
  readonly #gone = new AbortController();

  constructor(link: TextLink, options: TextSessionOptions) {
    this.#link = link;
    this.#options = options;
    this.#log = options.log;
    const abort = (): void => this.#gone.abort();
    link.whenEnded.then(abort, abort);
  }

  /**
   * Serves commands until the client leaves (`'exit'`) or asks for the binary protocol, which has been granted then.
   *
   * @throws {IioError} what ended the link; `EPROTO` for a payload that cannot be skipped
   */
  async run(): Promise<'exit' | 'binary'> {
    for (;;) {
      const line = await this.#readLine();
      const command = line === undefined ? 'syntax-error' : parseCommand(line);
      if (command === undefined) {
        continue;
      }
      if (command === 'syntax-error') {
        this.#sendInteger(-ERRNO.EINVAL);
      } else if (command.command === 'exit') {
        await this.#link.drained(0);
        return 'exit';
      } else if (command.command === 'binary') {
        this.#sendInteger(0);
        return 'binary';
      } else {
        await this.#execute(command);
      }
    }
  }

  /** Closes the client's buffers, once what it was told is taken has been played, or soon. */
  async close(): Promise<void> {
    this.#gone.abort();
    const buffers = [...this.#buffers.values()];
    this.#buffers.clear();
    for (const buffer of buffers) {
      try {
        await buffer.drain(GONE_DRAIN_MS);
        await buffer.close();
      } catch (error) {
        this.#log.error({ err: error }, 'a buffer of a text client did not close');
      }
    }
  }

  /** The next line; undefined for one that is too long, of which nothing is kept. */
  async #readLine(): Promise<string | undefined> {
    let isTooLong = false;
    for (;;) {
      try {
        const line = await this.#link.readLine(MAX_LINE_BYTES);
        return isTooLong ? undefined : new TextDecoder().decode(line.subarray(0, -1));
      } catch (error) {
        if (!(error instanceof IioError) || error.code !== 'E2BIG') {
          throw error;
        }
        isTooLong = true;
      }
    }
  }

  async #execute(command: Exclude<TextCommand, { command: 'exit' | 'binary' }>): Promise<void> {
    switch (command.command) {
      case 'help':
        return this.#link.send(encode(HELP));
      case 'version':
        return this.#link.send(encode(versionLine(this.#options.context())));
      case 'print':
        return this.#sendDocument(this.#options.freshContext().xml);
      case 'zprint':
        return this.#sendDocument(await compressed(this.#options.freshContext().xml));
      case 'timeout':
        return await this.#answer(() => this.#setTimeout(command.ms));
      case 'read':
        return await this.#answerWithValue(() => this.#read(command.target));
      case 'write':
        return await this.#write(command.target, command.bytes);
      case 'get-trigger':
        return await this.#answerWithValue(() => this.#trigger(command.device));
      case 'set-trigger':
        return await this.#answer(() => this.#setTrigger(command.device, command.trigger));
      case 'open':
        return await this.#answer(() => this.#open(command));
      case 'close':
        return await this.#answer(() => this.#close(command.device));
      case 'read-buffer':
        return await this.#readBuffer(command.device, command.bytes);
      case 'write-buffer':
        return await this.#writeBuffer(command.device, command.bytes);
      case 'set-buffers-count':
        return await this.#answer(() => this.#setBuffersCount(command.device, command.count));
    }
  }

  #setTimeout(ms: number): number {
    if (ms < -1 || ms > 0x7fff_ffff) {
      throw new IioError('EINVAL', `${ms} ms is no time-out`);
    }
    this.#options.timeout.ms = ms === -1 ? 0 : ms;
    return 0;
  }

  async #read(target: AttributeTarget): Promise<Uint8Array> {
    const { backend } = this.#options.context();
    const refs = findAttributes(backend.description, target);
    const [first] = refs;
    if (target.attribute !== undefined && first !== undefined) {
      return await backend.readAttribute(first);
    }
    const results: AttributeResult[] = [];
    for (const ref of refs) {
      results.push(await this.#result(() => backend.readAttribute(ref)));
    }
    return encodeAttributeList(results, MAX_ATTRIBUTE_BYTES);
  }

  /** The payload is consumed whatever becomes of it. */
  async #write(target: AttributeTarget, bytes: number): Promise<void> {
    if (bytes > this.#options.maxValueBytes) {
      await this.#discardValue(bytes);
      this.#log.warn({ bytes }, 'a text client sent a value above the limit');
      this.#sendInteger(-ERRNO.EFBIG);
      return;
    }
    const value = await this.#link.read(bytes);
    await this.#answer(async () => {
      const { backend } = this.#options.context();
      const refs = findAttributes(backend.description, target);
      const [first] = refs;
      return target.attribute !== undefined && first !== undefined
        ? await backend.writeAttribute(first, value)
        : await this.#writeAll(refs, value);
    });
  }

  /** As iiod does: an attribute that does not take its value is no failure of the whole. */
  async #writeAll(refs: readonly AttributeRef[], list: Uint8Array): Promise<number> {
    const { backend } = this.#options.context();
    const values = decodeAttributeList(list, refs.length);
    for (const [i, ref] of refs.entries()) {
      const value = values[i];
      if (value !== undefined) {
        await this.#result(() => backend.writeAttribute(ref, value));
      }
    }
    return list.byteLength;
  }

  /** The name of the trigger, without a NUL; nothing where none is set. */
  async #trigger(name: string): Promise<Uint8Array | 'none'> {
    const { backend } = this.#options.context();
    const { index } = findDevice(backend.description, name);
    try {
      const trigger = backend.description.devices[await backend.trigger(index)];
      return encode(trigger?.name ?? trigger?.id ?? '');
    } catch (error) {
      // For clients of the 0.2x series any other errno than that of a device without trigger support is a failure.
      if (error instanceof IioError && error.code === 'ENODEV') {
        return 'none';
      }
      throw error;
    }
  }

  async #setTrigger(name: string, triggerName: string | undefined): Promise<number> {
    const { backend } = this.#options.context();
    const { index } = findDevice(backend.description, name);
    await backend.setTrigger(index, triggerName === undefined ? undefined : this.#triggerIndex(triggerName));
    return 0;
  }

  #triggerIndex(name: string): number {
    try {
      return findDevice(this.#options.context().backend.description, name).index;
    } catch (error) {
      throw new IioError('ENOENT', `there is no trigger ${name}`, { cause: error });
    }
  }

  async #open(command: Extract<TextCommand, { command: 'open' }>): Promise<number> {
    const { backend } = this.#options.context();
    const { index, device } = findDevice(backend.description, command.device);
    const mask = ChannelMask.fromText(device.channels.length, command.mask);
    if (this.#buffers.has(device.id)) {
      throw new IioError('EBUSY', `the client has ${device.id} open already`);
    }
    const buffer = await this.#options.sharedBuffers.open({
      backend,
      device,
      deviceIndex: index,
      mask,
      samples: command.samples,
      cyclic: command.cyclic,
      link: this.#link,
      log: this.#log.child({ device: device.id }),
    });
    this.#buffers.set(device.id, buffer);
    return 0;
  }

  async #close(name: string): Promise<number> {
    const { device } = this.#findDevice(name);
    const buffer = this.#buffers.get(device.id);
    if (buffer === undefined) {
      throw new IioError('ENXIO', `the client does not have ${device.id} open`);
    }
    // What has been read is on its way in blocks that end with the buffer.
    if (!buffer.isOutput) {
      await this.#link.drained(0);
    }
    this.#buffers.delete(device.id);
    await buffer.drain(CLOSE_DRAIN_MS);
    await buffer.close();
    return 0;
  }

  async #readBuffer(name: string, bytes: number): Promise<void> {
    let mask: ChannelMask | undefined;
    for (let left = bytes; ; ) {
      const chunk = await this.#result(() => this.#deliver(name, left, mask));
      if (typeof chunk === 'number') {
        return this.#sendInteger(chunk);
      }
      if (chunk === undefined) {
        return this.#sendInteger(0);
      }
      mask = chunk.mask;
      left -= chunk.bytes;
      if (left === 0) {
        return;
      }
      await this.#link.drained(MAX_UNSENT_BYTES);
    }
  }

  /** Sends the next chunk: see {@link InputClient.deliver}. */
  #deliver(name: string, maxBytes: number, mask: ChannelMask | undefined) {
    const timeoutMs = this.#options.timeout.ms;
    return this.#openBuffer(name).deliver(maxBytes, { mask, timeoutMs, signal: this.#gone.signal });
  }

  /**
   * Only a buffer that is not open is refused before the samples come. Some clients send them without waiting for the
   * answer to the line, so whatever else is wrong is said after they have been consumed.
   */
  async #writeBuffer(name: string, bytes: number): Promise<void> {
    const buffer = await this.#result(async () => this.#openBuffer(name));
    if (typeof buffer === 'number') {
      return this.#sendInteger(buffer);
    }
    this.#sendInteger(0);
    const { code, taken } = await this.#play(buffer, bytes);
    for (let left = bytes - taken; left > 0; ) {
      left -= (await this.#link.read(Math.min(left, MAX_PIECE_BYTES))).byteLength;
    }
    this.#sendInteger(code);
  }

  /** Has samples played; `code`: a number of bytes or a negative errno. */
  async #play(buffer: OpenSharedBuffer, bytes: number): Promise<{ readonly code: number; readonly taken: number }> {
    const begun = await this.#result(async () => buffer.beginWriting());
    if (begun !== undefined) {
      return { code: begun, taken: 0 };
    }
    try {
      const total = buffer.sampleBytes === 0 ? 0 : wholeSamples(bytes, buffer.sampleBytes);
      if (total === 0) {
        return { code: buffer.sampleBytes === 0 ? -ERRNO.EBADF : 0, taken: 0 };
      }
      if (buffer.cyclic && total > buffer.blockBytes) {
        this.#log.warn(
          { bytes, blockBytes: buffer.blockBytes },
          'a cycle is longer than the block that the client asked for',
        );
        return { code: -ERRNO.ENOMEM, taken: 0 };
      }
      const written = await this.#result(() =>
        buffer.cyclic ? buffer.repeat(total) : buffer.write(total, this.#options.timeout.ms),
      );
      if (typeof written === 'number') {
        return { code: written, taken: 0 };
      }
      const { taken, failure } = written;
      const code = failure === undefined ? taken : await this.#result(() => Promise.reject<number>(failure));
      return { code, taken };
    } finally {
      buffer.endWriting();
    }
  }

  async #setBuffersCount(name: string, count: number): Promise<number> {
    await this.#options.sharedBuffers.setBlocksCount(this.#findDevice(name).device, count);
    return 0;
  }

  /** @throws {IioError} `ENODEV`, `EBADF`. */
  #openBuffer(name: string): OpenSharedBuffer {
    const { device } = this.#findDevice(name);
    const buffer = this.#buffers.get(device.id);
    if (buffer === undefined) {
      throw new IioError('EBADF', `the client does not have ${device.id} open`);
    }
    return buffer;
  }

  #findDevice(name: string): { readonly index: number; readonly device: DeviceDescription } {
    return findDevice(this.#options.context().backend.description, name);
  }

  async #discardValue(bytes: number): Promise<void> {
    if (bytes > MAX_DISCARDED_BYTES) {
      throw new IioError('EPROTO', `a client announced a value of ${bytes} bytes`);
    }
    for (let left = bytes; left > 0; ) {
      left -= (await this.#link.read(Math.min(left, 32 * 1024))).byteLength;
    }
  }

  async #answer(work: () => number | Promise<number>): Promise<void> {
    this.#sendInteger(await this.#result(async () => await work()));
  }

  async #answerWithValue(work: () => Promise<Uint8Array | 'none'>): Promise<void> {
    const value = await this.#result(work);
    if (typeof value === 'number') {
      this.#sendInteger(value);
    } else if (value === 'none') {
      this.#sendInteger(0);
    } else {
      this.#link.send(encode(`${value.byteLength}\n`), withNewline(value));
    }
  }

  /** What `work` returns, or the negative errno that it throws. */
  async #result<T>(work: () => Promise<T>): Promise<T | number> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof IioError)) {
        throw error;
      }
      const level = error instanceof LimitError ? 'warn' : 'debug';
      this.#log[level]({ code: error.code }, error.message);
      return -(error.errno ?? ERRNO.EIO);
    }
  }

  #sendInteger(value: number): void {
    this.#link.send(encode(`${value}\n`));
  }

  #sendDocument(bytes: Uint8Array): void {
    this.#link.send(encode(`${bytes.byteLength}\n`), bytes, encode('\n'));
  }
}

const HELP = `HELP                                             this text
VERSION                                          the version of the protocol
PRINT | ZPRINT                                   the context as XML, ZPRINT: compressed
TIMEOUT <ms>                                     how long to wait for samples, 0: for ever
READ <device> [DEBUG | BUFFER] [<attribute>]     an attribute, or all of them
READ <device> INPUT | OUTPUT <channel> [<attribute>]
WRITE ... <bytes>                                as READ; the value follows the line
GETTRIG <device>                                 the device's trigger
SETTRIG <device> [<trigger>]                     sets or removes it
SET <device> BUFFERS_COUNT <count>               blocks that fit the kernel's buffer
OPEN <device> <samples> <mask> [CYCLIC]          opens the device's buffer
READBUF <device> <bytes>                         samples from it
WRITEBUF <device> <bytes>                        samples to it; they follow the answer 0
CLOSE <device>                                   closes it
BINARY                                           switches to the binary protocol
EXIT | QUIT                                      ends the session
`;

/** Clients look for at least 7 characters of tag. */
function versionLine({ backend }: ServedContext): string {
  const { major, minor, git } = backend.description.version;
  return `${major}.${minor}.${git.slice(0, 7).padEnd(7)}\n`;
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function withNewline(bytes: Uint8Array): Uint8Array {
  const line = new Uint8Array(bytes.byteLength + 1);
  line.set(bytes);
  line[bytes.byteLength] = 0x0a;
  return line;
}

function wholeSamples(bytes: number, sampleBytes: number): number {
  return Math.floor(bytes / sampleBytes) * sampleBytes;
}
