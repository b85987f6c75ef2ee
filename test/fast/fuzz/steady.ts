import { encodeFrameHeader, encodeU64, opcodeOf, packCode } from '@iio-bridge/protocol';
import { STEADY_BINARY, STEADY_TEXT } from './context.js';
import { ClientLink } from './links.js';

const BLOCK_SETS = 1024;
const BLOCK_BYTES = 4 * BLOCK_SETS;
const BLOCKS = 4;

/** As if it were another machine. */
const ADDRESS = '127.0.0.2';

/** A client that does everything right, and checks that it gets every sample. */
export class SteadyClient {
  /** Sample sets so far. */
  sets = 0;
  /** The longest that it waited for a block, ms. */
  longestWait = 0;
  /** Settles by {@link stop}; rejects as soon as something is wrong. */
  readonly streaming: Promise<void>;
  readonly #link: ClientLink;
  #isStopped = false;

  private constructor(link: ClientLink, stream: (client: SteadyClient) => Promise<void>) {
    this.#link = link;
    this.streaming = stream(this);
    // Whoever waits for it hears of it.
    this.streaming.catch(() => undefined);
  }

  static async binary(port: number): Promise<SteadyClient> {
    const link = await ClientLink.connect(port, ADDRESS);
    await link.goBinary();
    await link.ask('PRINT', 0, 0).then((bytes) => link.receive(bytes));
    await link.ask('TIMEOUT', 0, 30_000);
    await link.ask('OPEN_BUFFER', STEADY_BINARY, 0, 0, Uint8Array.of(1, 0, 0, 0));
    await link.receive(4);
    for (let i = 0; i < BLOCKS; i++) {
      const code = await link.ask('CREATE_BLOCK', STEADY_BINARY, packCode(i, 0), i + 1, encodeU64(BLOCK_BYTES));
      if (code !== 0) {
        throw new Error(`CREATE_BLOCK was answered ${code}`);
      }
    }
    const transfer = (index: number): void => {
      const op = opcodeOf('G', 'TRANSFER_BLOCK') ?? 0;
      const header = { clientId: index + 1, op, dev: STEADY_BINARY, code: packCode(index, 0) };
      link.send(Buffer.concat([encodeFrameHeader(header), encodeU64(BLOCK_BYTES)]));
    };
    for (let i = 0; i < BLOCKS; i++) {
      transfer(i);
    }
    const enabled = await link.ask('ENABLE_BUFFER', STEADY_BINARY, 0);
    if (enabled !== 0) {
      throw new Error(`ENABLE_BUFFER was answered ${enabled}`);
    }
    return new SteadyClient(link, async (client) => {
      for (let block = 0; !client.#isStopped; block++) {
        const index = block % BLOCKS;
        const expected = encodeFrameHeader({ clientId: index + 1, op: 0, dev: 0, code: BLOCK_BYTES });
        await client.#expectBlock(Buffer.from(expected));
        transfer(index);
      }
    });
  }

  static async text(port: number): Promise<SteadyClient> {
    const link = await ClientLink.connect(port, ADDRESS);
    const { id, position } = STEADY_TEXT;
    const command = (line: string) => link.send(new TextEncoder().encode(`${line}\r\n`));
    command('TIMEOUT 30000');
    command(`OPEN ${id} ${BLOCK_SETS} 00000001`);
    const answers = [await link.receiveLine(), await link.receiveLine()];
    if (answers.join('') !== '0\n0\n') {
      throw new Error(`OPEN of device ${position} was answered ${JSON.stringify(answers)}`);
    }
    return new SteadyClient(link, async (client) => {
      while (!client.#isStopped) {
        command(`READBUF ${id} ${BLOCK_BYTES}`);
        await client.#expectBlock(Buffer.from(`${BLOCK_BYTES}\n00000001\n`));
      }
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.streaming;
    this.#link.destroy('destroy');
  }

  async #expectBlock(header: Buffer): Promise<void> {
    const before = performance.now();
    const got = await this.#link.receive(header.byteLength, 30_000);
    if (!got.equals(header)) {
      throw new Error(`after ${this.sets} sets ${got.toString('hex')} came instead of a block`);
    }
    const block = await this.#link.receive(BLOCK_BYTES, 30_000);
    this.longestWait = Math.max(this.longestWait, performance.now() - before);
    for (let set = 0; set < BLOCK_SETS; set++) {
      const value = block.readInt32LE(4 * set);
      if (value !== ((this.sets + set) | 0)) {
        throw new Error(`sample set ${this.sets + set} holds ${value}`);
      }
    }
    this.sets += BLOCK_SETS;
  }
}
