import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  BINARY_HANDSHAKE,
  BLOCK_ANSWER_OP,
  BLOCK_RECORD_BYTES,
  type BlockRecord,
  ChannelMask,
  contextFromXml,
  decodeBlockRecord,
  decodeFrameHeader,
  encodeFrameHeader,
  encodeU32,
  encodeU64,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  IioError,
  LATEST_GENERATION,
  type Operation,
  opcodeOf,
  packCode,
  STREAM_OPTIONS_OP,
} from '@iio-bridge/protocol';

/**
 * Streams from the simulated ADC over TCP, stops fetching now and then, and compares what the bridge says was lost with
 * what the counter signal shows: `loss-check REQUEST`, where REQUEST is a {@link LossRequest} as JSON. Prints a
 * {@link LossResult} as JSON.
 *
 * The ADC must be set to the counter signal with all channels, at its sampling frequency.
 */

export interface LossRequest {
  readonly port: number;
  readonly device: string;
  readonly blockBytes: number;
  readonly blocks: number;
  /** Blocks to fetch in all. */
  readonly fetch: number;
  /** After every so many blocks, none is requested for this long. */
  readonly pauseEvery: number;
  readonly pauseMs: number;
  /** For STREAM_OPTIONS, beside `metadata`. */
  readonly options?: object;
}

export interface LossResult {
  /** Sample sets that have come, and that were said to be lost before one of them. */
  readonly received: number;
  readonly reportedLost: number;
  /** The number of the last set that has come, plus 1: the counter starts at 0. */
  readonly produced: number;
  /** Blocks whose record does not say what the counter shows. */
  readonly wrongRecords: number;
  readonly firstWrong?: string;
  /** Sets within a block that do not follow the one before. */
  readonly mismatches: number;
  /** Records with a loss, and those of them that say that it was measured. */
  readonly losses: number;
  readonly exact: number;
  readonly dropped: number;
  /** Blocks of the buffer that were not delivered to this client, by their sequence numbers. */
  readonly skipped: number;
  /** The buffer's attributes at the end. */
  readonly attributes: Readonly<Record<string, string>>;
}

class Connection {
  readonly #socket: Socket;
  readonly #bytes: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#bytes = socket[Symbol.asyncIterator]();
  }

  send(...pieces: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(pieces));
  }

  async read(bytes: number): Promise<Buffer> {
    const pieces = [this.#rest];
    let length = this.#rest.length;
    while (length < bytes) {
      const { value, done } = await this.#bytes.next();
      if (done === true) {
        throw new IioError('ECONNRESET', `the bridge has closed the connection`);
      }
      pieces.push(value);
      length += value.length;
    }
    const all = pieces.length === 1 ? this.#rest : Buffer.concat(pieces);
    this.#rest = all.subarray(bytes);
    return all.subarray(0, bytes);
  }

  async answer(): Promise<FrameHeader> {
    return decodeFrameHeader(await this.read(FRAME_HEADER_BYTES));
  }

  request(operation: Operation, fields: Partial<FrameHeader>, ...payload: readonly Uint8Array[]): void {
    const op = opcodeOf(LATEST_GENERATION, operation) ?? 0;
    this.send(encodeFrameHeader({ clientId: 0, dev: 0, code: 0, ...fields, op }), ...payload);
  }

  async ask(operation: Operation, fields: Partial<FrameHeader>, ...payload: readonly Uint8Array[]): Promise<Buffer> {
    this.request(operation, fields, ...payload);
    return await this.success(operation);
  }

  async success(what: string): Promise<Buffer> {
    const { code } = await this.answer();
    if (code < 0) {
      throw IioError.fromErrno(code, what);
    }
    return await this.read(code);
  }

  close(): void {
    this.#socket.destroy();
  }
}

const SET_BYTES = 8;

/** Follows the counter from block to block. */
class Account {
  received = 0;
  reportedLost = 0;
  next = 0n;
  wrongRecords = 0;
  firstWrong: string | undefined;
  mismatches = 0;
  losses = 0;
  exact = 0;
  dropped = 0;
  skipped = 0;
  #sequence = 0n;

  take(record: BlockRecord, samples: Buffer): void {
    const first = samples.readBigUInt64LE(0);
    if (first - this.next !== record.lostSets) {
      this.wrongRecords++;
      const shown = JSON.stringify(record, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
      this.firstWrong ??= `${first - this.next} sets are missing, the record says ${shown}`;
    }
    for (let at = SET_BYTES; at < samples.length; at += SET_BYTES) {
      if (samples.readBigUInt64LE(at) !== first + BigInt(at / SET_BYTES)) {
        this.mismatches++;
      }
    }
    const sets = samples.length / SET_BYTES;
    this.next = first + BigInt(sets);
    this.received += sets;
    this.reportedLost += Number(record.lostSets);
    this.losses += Number(record.lostSets > 0n);
    this.exact += Number(record.lostSets > 0n && record.exact);
    this.dropped += Number(record.dropped);
    this.skipped += Number(record.sequence - this.#sequence);
    this.#sequence = record.sequence + 1n;
  }

  get result(): Omit<LossResult, 'attributes'> {
    const { received, reportedLost, wrongRecords, firstWrong, mismatches, losses, exact, dropped, skipped } = this;
    const produced = Number(this.next);
    return {
      received,
      reportedLost,
      produced,
      wrongRecords,
      ...(firstWrong === undefined ? {} : { firstWrong }),
      mismatches,
      losses,
      exact,
      dropped,
      skipped,
    };
  }
}

async function run(request: LossRequest): Promise<LossResult> {
  const socket = createConnection({ host: '127.0.0.1', port: request.port });
  await once(socket, 'connect');
  const link = new Connection(socket);
  link.send(BINARY_HANDSHAKE);
  await link.read(2);
  const document = await link.ask('PRINT', {});
  const context = contextFromXml(new TextDecoder().decode(await uncompressed(document)));
  const dev = context.devices.findIndex(({ name }) => name === request.device);
  const device = context.devices[dev];
  if (device === undefined) {
    throw new IioError('ENODEV', `there is no ${request.device}`);
  }
  await link.ask('TIMEOUT', { code: -1 });
  const options = new TextEncoder().encode(JSON.stringify({ metadata: true, ...request.options }));
  link.send(
    encodeFrameHeader({ clientId: 0, op: STREAM_OPTIONS_OP, dev, code: 0 }),
    encodeU32(options.length),
    options,
  );
  await link.success('stream options');
  const mask = ChannelMask.of(device.channels.length, [0, 1, 2, 3]);
  await link.ask('OPEN_BUFFER', { dev }, mask.toBytes());
  const transfer = (block: number): void =>
    link.request(
      'TRANSFER_BLOCK',
      { clientId: block + 1, dev, code: packCode(block, 0) },
      encodeU64(request.blockBytes),
    );
  for (let block = 0; block < request.blocks; block++) {
    const fields = { clientId: block + 1, dev, code: packCode(block, 0) };
    await link.ask('CREATE_BLOCK', fields, encodeU64(request.blockBytes));
  }
  await link.ask('ENABLE_BUFFER', { dev });
  for (let block = 0; block < request.blocks; block++) {
    transfer(block);
  }
  const account = new Account();
  const idle: number[] = [];
  for (let fetched = 0; fetched < request.fetch; fetched++) {
    const { op, code, clientId } = await link.answer();
    if (code < 0 || op !== BLOCK_ANSWER_OP) {
      throw IioError.fromErrno(code, `block ${fetched}, answered with op ${op}`);
    }
    account.take(decodeBlockRecord(await link.read(BLOCK_RECORD_BYTES)), await link.read(code));
    idle.push(clientId - 1);
    // All blocks are held back until the last one has come, so that nothing is requested during the pause.
    const isPause = (fetched + 1) % request.pauseEvery < request.blocks && fetched + 1 >= request.pauseEvery;
    if (isPause && idle.length < request.blocks) {
      continue;
    }
    if (isPause) {
      await delay(request.pauseMs);
    }
    for (const block of idle.splice(0)) {
      transfer(block);
    }
  }
  const names = device.buffers[0]?.attributes.map(({ name }) => name) ?? [];
  const control = new Connection(createConnection({ host: '127.0.0.1', port: request.port }));
  control.send(BINARY_HANDSHAKE);
  await control.read(2);
  const attributes: Record<string, string> = {};
  for (const [position, name] of names.entries()) {
    const value = await control.ask('READ_BUF_ATTR', { dev, code: packCode(position, 0) });
    attributes[name] = value.toString('utf8').replace(/\0$/, '');
  }
  control.close();
  link.close();
  return { ...account.result, attributes };
}

/** The document comes as XML or as a zstd frame of it. */
async function uncompressed(document: Buffer): Promise<Uint8Array> {
  if (document[0] === 0x3c) {
    return document;
  }
  const { Zstd } = await import('@hpcc-js/wasm-zstd');
  return (await Zstd.load()).decompress(document);
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2] ?? '')))}\n`);
