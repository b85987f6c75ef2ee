import { UsbTransport } from '@iio-bridge/host-client';
import { encodeU64, IioError, packCode } from '@iio-bridge/protocol';
import { FrameLink } from './frame-link.js';

/**
 * The host's side: plays blocks on a buffer, frame by frame, as `play-check REQUEST` with a {@link PlayRequest} as JSON. All four
 * channels of the simulated DAC show the number of the sample set, which it checks. Prints {@link PlayEvent}s as JSON lines.
 */

/**
 * How a block is cut into USB transfers: header, length and samples apart, as libiio does; header and length in one; all in
 * one; header and length apart, and the samples in transfers of so many bytes.
 */
export type Cut = 'libiio' | 'request' | 'one' | number;

export interface PlayRequest {
  /** Position of the device in the context. */
  readonly dev: number;
  readonly blockBytes: number;
  readonly blocks: number;
  /** Blocks to be sent. */
  readonly count: number;
  /** Bytes of the blocks, in turns, instead of whole ones. */
  readonly sizes?: readonly number[];
  readonly cut?: Cut;
  /** One block is sent, and repeated until this many ms have passed. */
  readonly cyclicMs?: number;
  /** After `count` blocks sends half of one more and waits for its end. */
  readonly stopsInTheMiddle?: boolean;
  /** Attributes are read on the main link meanwhile. */
  readonly readsAttributes?: boolean;
}

export type PlayEvent =
  | { readonly event: 'playing' }
  | { readonly event: 'stopped' }
  | {
      readonly event: 'result';
      readonly bytes: number;
      readonly mbPerSecond: number;
      /** Answers other than 0. */
      readonly failures: readonly number[];
      readonly attributesRead: number;
    };

function emit(event: PlayEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

const SET_BYTES = 8;

/** Fills `bytes` with the numbers of sample sets from `first` on. */
function fillCounter(bytes: Uint8Array, first: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  for (let i = 0; i < words.length; i += 2) {
    const n = first + i / 2;
    words[i] = n;
    words[i + 1] = n / 2 ** 32;
  }
}

function transfers(cut: Cut, header: Uint8Array, length: Uint8Array, samples: Uint8Array): Uint8Array[] {
  if (cut === 'libiio') {
    return [header, length, samples];
  }
  if (cut === 'request') {
    return [Buffer.concat([header, length]), samples];
  }
  if (cut === 'one') {
    return [Buffer.concat([header, length, samples])];
  }
  const pieces = [header, length];
  for (let begin = 0; begin < samples.length; begin += cut) {
    pieces.push(samples.subarray(begin, begin + cut));
  }
  return pieces;
}

function expectSuccess(what: string, { code }: { readonly code: number }): void {
  if (code < 0) {
    throw IioError.fromErrno(-code, what);
  }
}

async function run(request: PlayRequest): Promise<void> {
  const { dev, blockBytes, blocks, count, sizes = [blockBytes], cut = 'libiio' } = request;
  const transport = await UsbTransport.open('usb:');
  const main = await FrameLink.start(await transport.openLink('main'));
  const link = await FrameLink.start(await transport.openLink('buffer'));
  expectSuccess('open the buffer', await link.ask('OPEN_BUFFER', { dev }, Uint8Array.of(15, 0, 0, 0)));
  await link.receive(4);
  const memory = Array.from({ length: blocks }, () => new Uint8Array(blockBytes));
  for (const index of memory.keys()) {
    const fields = { id: index + 1, dev, code: packCode(index, 0) };
    expectSuccess('create a block', await link.ask('CREATE_BLOCK', fields, encodeU64(blockBytes)));
  }

  if (request.cyclicMs !== undefined) {
    const samples = memory[0] ?? new Uint8Array(0);
    fillCounter(samples, 0);
    expectSuccess('enable', await link.ask('ENABLE_BUFFER', { dev }));
    expectSuccess(
      'repeat a block',
      await link.ask('ENQUEUE_BLOCK_CYCLIC', { id: 1, dev }, encodeU64(blockBytes), samples),
    );
    emit({ event: 'playing' });
    await new Promise((resolve) => setTimeout(resolve, request.cyclicMs));
    expectSuccess('disable', await link.ask('DISABLE_BUFFER', { dev }));
    emit({ event: 'result', bytes: blockBytes, mbPerSecond: 0, failures: [], attributesRead: 0 });
    await main.close();
    await link.close();
    await transport.close();
    return;
  }

  let done = false;
  const attributes = async (): Promise<number> => {
    let read = 0;
    while (request.readsAttributes === true && !done) {
      const { code } = await main.ask('READ_ATTR', { dev, code: packCode(0, 0) });
      await main.receive(Math.max(0, code));
      read++;
    }
    return read;
  };
  const reading = attributes();

  const failures: number[] = [];
  const writes: (Promise<void> | undefined)[] = [];
  let sets = 0;
  let bytes = 0;
  let startedAt = performance.now();
  const send = async (turn: number, limit?: number): Promise<void> => {
    const index = turn % blocks;
    await writes[index];
    const length = sizes[turn % sizes.length] ?? blockBytes;
    const samples = (memory[index] ?? new Uint8Array(0)).subarray(0, length);
    fillCounter(samples, sets);
    sets += length / SET_BYTES;
    bytes += length;
    const header = FrameLink.header('TRANSFER_BLOCK', { id: index + 1, dev, code: packCode(index, 0) });
    writes[index] = link.write(...transfers(cut, header, encodeU64(length), samples.subarray(0, limit)));
    writes[index]?.catch(() => undefined);
  };
  const answer = async (turn: number): Promise<void> => {
    const { code, clientId } = await link.response();
    if (clientId !== (turn % blocks) + 1) {
      throw new IioError('EPROTO', `block ${clientId - 1} was answered, in the place of ${turn % blocks}`);
    }
    if (code !== 0) {
      failures.push(code);
    }
  };
  // As libiio does: the first block stands before the buffer is enabled.
  await send(0);
  await link.write(FrameLink.header('ENABLE_BUFFER', { dev }));
  expectSuccess('enable', await link.response());
  emit({ event: 'playing' });
  startedAt = performance.now();
  let answered = 0;
  for (let turn = 1; turn < count; turn++) {
    if (turn - answered >= blocks) {
      await answer(answered++);
    }
    await send(turn);
  }
  while (answered < count) {
    await answer(answered++);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (request.stopsInTheMiddle === true) {
    await send(count, blockBytes / 2);
    await writes[count % blocks];
    emit({ event: 'stopped' });
    await new Promise(() => setInterval(() => undefined, 1000));
  }
  await Promise.all(writes);
  done = true;
  const attributesRead = await reading;
  expectSuccess('disable', await link.ask('DISABLE_BUFFER', { dev }));
  for (const index of memory.keys()) {
    expectSuccess('free a block', await main.ask('FREE_BLOCK', { dev, code: packCode(index, 0) }));
  }
  expectSuccess('close the buffer', await main.ask('CLOSE_BUFFER', { dev }));
  emit({ event: 'result', bytes, mbPerSecond: bytes / 1e6 / seconds, failures, attributesRead });
  await link.close();
  await main.close();
  await transport.close();
}

await run(JSON.parse(process.argv[2] ?? '{}'));
