import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { decodeFrameHeader, encodeFrameHeader, type Operation, opcodeOf } from '@iio-bridge/protocol';

/** The client's end of a connection. Nothing throws because of what the server does to it, but {@link receive} and {@link ask}. */
export class ClientLink {
  readonly #socket: Socket;
  readonly #ended: Promise<unknown>;
  #chunks: Buffer[] = [];
  #length = 0;
  #isKept = true;
  #isOver = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (bytes) => this.#received(bytes));
    socket.on('error', () => undefined);
    this.#ended = once(socket, 'close').catch(() => undefined);
    socket.on('end', () => this.#over());
    socket.on('close', () => this.#over());
  }

  static async connect(port: number, localAddress = '127.0.0.1'): Promise<ClientLink> {
    const socket = createConnection({ host: '127.0.0.1', port, localAddress, noDelay: true, allowHalfOpen: false });
    const link = new ClientLink(socket);
    await once(socket, 'connect');
    return link;
  }

  send(bytes: Uint8Array): void {
    if (!this.#socket.destroyed && this.#socket.writable) {
      this.#socket.write(bytes);
    }
  }

  /** Throws away what is received from now on. */
  ignore(): void {
    this.#isKept = false;
    this.#chunks = [];
    this.#length = 0;
  }

  /** Leaves what the server sends in its hands. */
  stall(): void {
    this.#socket.pause();
  }

  async receive(bytes: number, ms = 10_000): Promise<Buffer> {
    const deadline = performance.now() + ms;
    while (this.#length < bytes) {
      const left = deadline - performance.now();
      if (this.#isOver || left <= 0) {
        throw new Error(`${this.#length} of ${bytes} bytes came${this.#isOver ? ' before the link ended' : ''}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(bytes)];
    this.#length -= bytes;
    return all.subarray(0, bytes);
  }

  async receiveLine(ms?: number): Promise<string> {
    let line = '';
    while (!line.endsWith('\n')) {
      line += String(await this.receive(1, ms));
    }
    return line;
  }

  /** Sends a request of generation G; returns its answer's code. */
  async ask(
    operation: Operation,
    dev: number,
    code: number,
    clientId = 0,
    rest: Uint8Array = new Uint8Array(0),
  ): Promise<number> {
    this.send(Buffer.concat([encodeFrameHeader({ clientId, op: opcodeOf('G', operation) ?? 0, dev, code }), rest]));
    return decodeFrameHeader(await this.receive(8)).code;
  }

  async goBinary(): Promise<void> {
    this.send(new TextEncoder().encode('BINARY\r\n'));
    const answer = await this.receiveLine();
    if (answer !== '0\n') {
      throw new Error(`BINARY was answered ${JSON.stringify(answer)}`);
    }
  }

  /** Sends no more, and waits until the server has closed its side; whether it has, in time. */
  async finish(ms: number): Promise<boolean> {
    this.#socket.resume();
    this.#socket.end();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), ms);
    });
    const isDone = await Promise.race([this.#ended.then(() => true), late]);
    clearTimeout(timer);
    return isDone;
  }

  destroy(how: 'destroy' | 'reset'): void {
    if (how === 'reset' && !this.#socket.destroyed) {
      this.#socket.resetAndDestroy();
    } else {
      this.#socket.destroy();
    }
  }

  #received(bytes: Buffer): void {
    if (this.#isKept) {
      this.#chunks.push(bytes);
      this.#length += bytes.length;
      this.#wake();
    }
  }

  #over(): void {
    this.#isOver = true;
    this.#wake();
  }
}
